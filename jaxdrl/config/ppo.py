"""Settings of PPO. Importing this module imports neither jax nor gymnax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxdrl.checks import Count, Index, NonNegative, Positive, Share, check_fields
from jaxdrl.config.execution import ExecutionConfig
from jaxdrl.config.network import NetworkConfig
from jaxdrl.config.rollout_sizes import check_sequence, check_sizes, check_total, num_envs_multiple
from jaxdrl.config.settings import hyperparameter


@dataclass(frozen=True)
class PPOConfig:
    """Settings of proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347).

    Counts are global, never per device, so that a config means the same on any machine. Floats
    may be traced values (a population is `jax.vmap` over `dataclasses.replace`); they are checked
    only when they are concrete. None switches a feature off.

    Raises:
      ConfigError: in the constructor, naming the field, its value and the nearest that works.
    """

    num_envs: Count = 512
    """Environments stepped in parallel, summed over all devices; a multiple of num_shards."""
    num_steps: Count = 64
    """Length of a rollout: steps of each environment in one update."""
    num_epochs: Count = 4
    """Passes over the rollout in one update."""
    num_minibatches: Count = 4
    """Gradient steps in one epoch; divides num_steps * num_envs / num_shards, or for a recurrent
    policy num_steps / sequence_length * num_envs / num_shards."""
    learning_rate: Positive = hyperparameter(1e-3)
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
    gae_lambda: Share = hyperparameter(0.95)
    """Decay of the advantage trace (Schulman et al. 2015, arXiv:1506.02438)."""
    correction: Literal["none", "vtrace"] = "none"
    """What advantages and value targets assume about the data: none, that the learner's own policy
    gathered it; vtrace, that an older one did, for which V-trace corrects them (Espeholt et al.
    2018, arXiv:1802.01561, with gae_lambda) after one more evaluation of the rollout."""
    rho_clip: Positive = hyperparameter(1.0)
    """Bound of the probability ratio that weighs each temporal difference in V-trace."""
    c_clip: Positive = hyperparameter(1.0)
    """Bound of the probability ratio by which V-trace passes a difference on to earlier steps."""
    clip_epsilon: Positive = hyperparameter(0.2)
    """Half-width of the interval around 1 to which the probability ratio is clipped."""
    value_clip_epsilon: Positive | None = hyperparameter(None)
    """How far the value may move from the old one in the value loss; None: no clipping."""
    value_coef: NonNegative = hyperparameter(0.5)
    """Weight of the value loss."""
    entropy_coef: NonNegative = hyperparameter(0.0)
    """Weight of the entropy bonus (nats)."""
    max_grad_norm: Positive | None = hyperparameter(0.5)
    """Global norm to which the gradient is clipped; None: no clipping."""
    standardize_advantages: bool = True
    """Standardise the advantages of each global minibatch to mean 0 and standard deviation 1."""
    normalize_observations: bool = False
    """Normalise observations by running statistics over all environments."""
    observation_clip: Positive | None = hyperparameter(10.0)
    """Magnitude to which normalised observations are clipped; None: no clipping."""
    normalize_rewards: bool = False
    """Divide rewards by the running standard deviation of the discounted return."""
    reward_clip: Positive | None = hyperparameter(10.0)
    """Magnitude to which normalised rewards are clipped; None: no clipping."""
    target_kl: Positive | None = hyperparameter(None)
    """Skip the remaining epochs of an update once the mean KL of an epoch (nats) exceeds this."""
    sequence_length: Count | None = None
    """Length of the sequences that a recurrent network learns from, each of which begins with the
    recurrent state of the rollout; divides num_steps. None: num_steps."""
    pool_size: Index = 0
    """Past selves that the policy plays against, in environments of several agents; 0: it plays
    against itself alone."""
    pool_share: Share = 0.25
    """Share of the environments in which one agent in turn plays against the pool; their number in
    each shard is a multiple of pool_size * agents, and less than all."""
    pool_every: Count = 10
    """Updates after which the policy takes the place of the oldest one in the pool, whose games
    begin anew."""
    network: NetworkConfig = NetworkConfig()
    """The policy and value network."""
    execution: ExecutionConfig = ExecutionConfig()
    """How the step is computed."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_total(self)
        check_sequence(self.sequence_length, self.num_steps)
        check_sizes(self)

    @property
    def row_length(self) -> int:
        """Steps that are shuffled together: a sequence for a recurrent policy, else 1."""
        return 1 if self.network.memory == "none" else self.sequence_length or self.num_steps

    @property
    def num_envs_multiple(self) -> int:
        """What `num_envs` must be a multiple of, for shards and minibatches to be equal."""
        return num_envs_multiple(self)

    @property
    def env_steps_per_update(self) -> int:
        """Environment steps in one update, `num_envs * num_steps`."""
        return self.num_envs * self.num_steps
