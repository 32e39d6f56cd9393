"""Settings of PQN. Importing this module imports neither jax nor gymnax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxdrl.checks import Count, NonNegative, Positive, Share, check_fields
from jaxdrl.config.execution import ExecutionConfig
from jaxdrl.config.network import NetworkConfig
from jaxdrl.config.rollout_sizes import check_sequence, check_sizes, check_total, num_envs_multiple
from jaxdrl.config.settings import hyperparameter


@dataclass(frozen=True)
class PQNConfig:
    """Settings of the parallelised Q-network (Gallici et al. 2024, arXiv:2407.04811).

    Counts are global, floats may be traced values, and None switches a feature off, as in
    `PPOConfig`.

    Raises:
      ConfigError: in the constructor, naming the field, its value and the nearest that works.
    """

    num_envs: Count = 128
    """Environments stepped in parallel, summed over all devices; a multiple of num_shards."""
    num_steps: Count = 32
    """Length of a rollout: steps of each environment in one update, which Q(lambda) looks ahead."""
    num_epochs: Count = 2
    """Passes over the rollout in one update."""
    num_minibatches: Count = 16
    """Gradient steps in one epoch; divides num_steps * num_envs / num_shards, or for a recurrent
    network num_steps / sequence_length * num_envs / num_shards."""
    optimizer: Literal["radam", "adam"] = "radam"
    """The optimiser: rectified Adam, as in the paper, or Adam."""
    learning_rate: Positive = hyperparameter(5e-4)
    """Step size of the optimiser."""
    anneal_env_steps: Positive | None = hyperparameter(None)
    """Environment steps over which the learning rate goes linearly to final_learning_rate; None:
    a constant rate."""
    final_learning_rate: NonNegative = hyperparameter(0.0)
    """Learning rate from anneal_env_steps on."""
    optimizer_epsilon: Positive = hyperparameter(1e-5)
    """Epsilon of the optimiser."""
    gamma: Share = hyperparameter(0.99)
    """Discount per step."""
    q_lambda: Share = hyperparameter(0.65)
    """Weight of what follows in the rollout against the action values of the next observation: 0
    looks one step ahead, 1 to the end of the episode or rollout."""
    initial_epsilon: Share = hyperparameter(1.0)
    """Probability of a random action at the start of training."""
    final_epsilon: Share = hyperparameter(0.05)
    """Probability of a random action from exploration_env_steps on."""
    exploration_env_steps: Positive | None = hyperparameter(200_000.0)
    """Environment steps over which the probability of a random action goes linearly from
    initial_epsilon to final_epsilon; None: final_epsilon from the start."""
    max_grad_norm: Positive | None = hyperparameter(10.0)
    """Global norm to which the gradient is clipped; None: no clipping."""
    reward_scale: Positive = hyperparameter(1.0)
    """Factor of the rewards that it learns from."""
    normalize_observations: bool = False
    """Normalise observations by running statistics over all environments."""
    observation_clip: Positive | None = hyperparameter(10.0)
    """Magnitude to which normalised observations are clipped; None: no clipping."""
    normalize_rewards: bool = False
    """Divide rewards by the running standard deviation of the discounted return."""
    reward_clip: Positive | None = hyperparameter(10.0)
    """Magnitude to which normalised rewards are clipped; None: no clipping."""
    sequence_length: Count | None = None
    """Length of the sequences that a recurrent network learns from, each of which begins with the
    recurrent state of the rollout; divides num_steps. None: num_steps."""
    network: NetworkConfig = NetworkConfig(activation="relu", layer_norm=True)
    """The network of the action values, which needs layer_norm to learn stably. It has one torso,
    whatever shared_torso says."""
    execution: ExecutionConfig = ExecutionConfig()
    """How the step is computed."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_total(self)
        check_sequence(self.sequence_length, self.num_steps)
        check_sizes(self)
        self.network.require_no_critic_only()

    @property
    def row_length(self) -> int:
        """Steps that are shuffled together: a sequence for a recurrent network, else 1."""
        return 1 if self.network.memory == "none" else self.sequence_length or self.num_steps

    @property
    def num_envs_multiple(self) -> int:
        """What `num_envs` must be a multiple of, for shards and minibatches to be equal."""
        return num_envs_multiple(self)

    @property
    def env_steps_per_update(self) -> int:
        """Environment steps in one update, `num_envs * num_steps`."""
        return self.num_envs * self.num_steps
