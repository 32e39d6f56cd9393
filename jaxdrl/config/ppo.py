"""Settings of the algorithms. Importing this module imports neither jax nor gymnax."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxdrl.checks import (
    Count,
    NonNegative,
    Positive,
    Share,
    check_fields,
    nearest_divisors,
    nearest_multiples,
    require,
)
from jaxdrl.config.execution import ExecutionConfig
from jaxdrl.config.network import NetworkConfig
from jaxdrl.config.settings import hyperparameter

MAX_STEPS = 2**31 - 1
"""Of one update, in all environments."""


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
    network: NetworkConfig = NetworkConfig()
    """The policy and value network."""
    execution: ExecutionConfig = ExecutionConfig()
    """How the step is computed."""

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_division()

    def _check_division(self) -> None:
        self._check_size()
        length = self.sequence_length
        if length is not None:
            require(
                self.num_steps % length == 0,
                "sequence_length",
                length,
                f"must divide num_steps = {self.num_steps}; "
                f"the nearest that work: {nearest_divisors(length, self.num_steps)}",
            )
        multiple = self.num_envs_multiple
        require(
            self.num_envs % self.execution.num_shards == 0,
            "num_envs",
            self.num_envs,
            f"must be a multiple of num_shards = {self.execution.num_shards}; "
            f"the nearest that work: {nearest_multiples(self.num_envs, multiple)}",
        )
        self.check_minibatches(self.row_length)

    def _check_size(self) -> None:
        """Steps of an update are numbered by 32 bits."""
        num_shards = self.execution.num_shards
        most_envs = MAX_STEPS // self.num_steps // num_shards * num_shards
        most, field, other = most_envs, "num_envs", "num_steps"
        if most_envs == 0:
            most, field, other = MAX_STEPS // self.num_envs, other, field
        works = f"must be at most {most} with {other} = {getattr(self, other)}"
        is_small = self.num_envs * self.num_steps <= MAX_STEPS
        require(is_small, f"{field}", getattr(self, field), works)

    def check_minibatches(self, row_length: int) -> None:
        """Refuses a number of minibatches that does not divide the rows of a shard.

        Args:
          row_length: steps in a row.

        Raises:
          ConfigError: naming the nearest numbers that work.
        """
        rows = self.num_steps // row_length * self.num_envs // self.execution.num_shards
        steps = "num_steps" if row_length == 1 else f"num_steps / {row_length}"
        require(
            rows % self.num_minibatches == 0,
            "num_minibatches",
            self.num_minibatches,
            f"must divide {steps} * num_envs / num_shards = {rows}; "
            f"the nearest that work: {nearest_divisors(self.num_minibatches, rows)}",
        )
        rows //= self.num_minibatches
        parts = self.execution.num_accumulation_steps
        if parts is None:
            return
        require(
            rows % parts == 0,
            "num_accumulation_steps",
            parts,
            f"must divide {steps} * num_envs / num_shards / num_minibatches = {rows}; "
            f"the nearest that work: {nearest_divisors(parts, rows)}",
        )

    @property
    def row_length(self) -> int:
        """Steps that are shuffled together: a sequence for a recurrent policy, else 1."""
        return 1 if self.network.memory == "none" else self.sequence_length or self.num_steps

    @property
    def num_envs_multiple(self) -> int:
        """What `num_envs` must be a multiple of, for shards and minibatches to be equal."""
        rows_per_env = self.num_steps // self.row_length
        return self.execution.num_shards * (
            self.num_minibatches // math.gcd(self.num_minibatches, rows_per_env)
        )

    @property
    def env_steps_per_update(self) -> int:
        """Environment steps in one update, `num_envs * num_steps`."""
        return self.num_envs * self.num_steps
