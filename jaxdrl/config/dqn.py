"""Settings of DQN. Importing this module imports neither jax nor gymnax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxdrl.checks import Count, NonNegative, Positive, Share, check_fields
from jaxdrl.config.execution import ExecutionConfig
from jaxdrl.config.network import NetworkConfig
from jaxdrl.config.replay_sizes import check_replay
from jaxdrl.config.settings import hyperparameter


@dataclass(frozen=True)
class DQNConfig:
    """Settings of DQN (Mnih et al. 2015), with double Q-learning, dueling and n-step returns.

    Counts are global, floats may be traced values, and None switches a feature off, as in
    `PPOConfig`. An update acts `num_steps` times in every environment and then takes
    `num_gradient_steps` gradient steps.

    Raises:
      ConfigError: in the constructor, naming the field, its value and the nearest that works.
    """

    num_envs: Count = 8
    """Environments stepped in parallel, summed over all devices; a multiple of num_shards."""
    num_steps: Count = 16
    """Steps of each environment in one update."""
    num_gradient_steps: Count = 64
    """Gradient steps in one update, each on a minibatch of its own."""
    buffer_size: Count = 65_536
    """Steps that the replay buffer keeps, summed over all environments and rounded up to whole
    updates."""
    batch_size: Count = 64
    """Rows of a minibatch, drawn uniformly from the buffer; a multiple of num_shards."""
    learning_starts: Count = 1_024
    """Environment steps before the first gradient step."""
    n_step: Count = 1
    """Rewards that a target adds up before it looks at the target network."""
    learning_rate: Positive = hyperparameter(5e-4)
    """Step size of Adam."""
    anneal_env_steps: Positive | None = hyperparameter(None)
    """Environment steps over which the learning rate goes linearly to final_learning_rate; None:
    a constant rate."""
    final_learning_rate: NonNegative = hyperparameter(0.0)
    """Learning rate from anneal_env_steps on."""
    adam_epsilon: Positive = hyperparameter(1e-5)
    """Adam's epsilon."""
    gamma: Share = hyperparameter(0.99)
    """Discount per step."""
    reward_scale: Positive = hyperparameter(1.0)
    """Factor of the rewards that are learnt from; logged returns are without it."""
    double_q: bool = True
    """Let the network choose the action that the target network values (van Hasselt et al. 2016,
    arXiv:1509.06461)."""
    dueling: bool = False
    """Learn the value of a state and the advantages of its actions, each with a head of its own
    (Wang et al. 2016, arXiv:1511.06581)."""
    loss: Literal["huber", "squared"] = "huber"
    """Loss of the difference from the target: quadratic up to 1 and linear beyond, or half of the
    square."""
    target_update_every: Count = 250
    """Gradient steps between two updates of the target network."""
    target_update_rate: Share = hyperparameter(1.0)
    """How far the target network then goes to the network; 1: all the way. Below 1 with
    target_update_every = 1: a moving average."""
    initial_epsilon: Share = hyperparameter(1.0)
    """Probability of a random action at the start."""
    final_epsilon: Share = hyperparameter(0.05)
    """Probability of a random action from exploration_env_steps on."""
    exploration_env_steps: Positive | None = hyperparameter(10_000.0)
    """Environment steps over which the probability of a random action falls linearly; None: it is
    final_epsilon from the start."""
    epsilon_spread: NonNegative = hyperparameter(0.0)
    """How environments differ: number i of N explores with epsilon^(1 + epsilon_spread * i / (N -
    1)). 0: all alike; 7 with a final_epsilon of 0.4: as in Ape-X (Horgan et al. 2018,
    arXiv:1803.00933)."""
    max_grad_norm: Positive | None = hyperparameter(10.0)
    """Global norm to which the gradient is clipped; None: no clipping."""
    normalize_observations: bool = False
    """Normalise observations by running statistics over all environments."""
    observation_clip: Positive | None = hyperparameter(10.0)
    """Magnitude to which normalised observations are clipped; None: no clipping."""
    network: NetworkConfig = NetworkConfig()
    """The network of action values."""
    execution: ExecutionConfig = ExecutionConfig()
    """How the step is computed."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_replay(self)
        self.network.require_no_critic_only()

    @property
    def env_steps_per_update(self) -> int:
        """Environment steps in one update, `num_envs * num_steps`."""
        return self.num_envs * self.num_steps
