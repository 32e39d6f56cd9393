"""Settings of the algorithms. Importing this module imports neither jax nor gymnax."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from jaxdrl.checks import (
    largest_divisor,
    nearest_divisors,
    nearest_multiples,
    require,
    require_count,
    require_divisor,
    require_number,
    require_range,
)
from jaxdrl.errors import ConfigError

__all__ = [
    "ConfigError",
    "PPOConfig",
    "largest_divisor",
    "require",
    "require_count",
    "require_divisor",
    "require_number",
    "require_range",
]


@dataclass(frozen=True)
class PPOConfig:
    """Settings of proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347).

    Counts are global, never per device, so that a config means the same on any machine. Floats
    may be traced values (a population is `jax.vmap` over `dataclasses.replace`); they are checked
    only when they are concrete. `None` switches a feature off.

    Raises:
      ConfigError: in the constructor, naming the field, its value and the nearest that works.
    """

    num_envs: int = 512
    """Environments stepped in parallel, over all devices; a multiple of num_shards."""
    num_steps: int = 64
    """Steps of each environment in one update."""
    num_epochs: int = 4
    """Passes over the steps of one update."""
    num_minibatches: int = 4
    """Gradient steps in one epoch; divides num_steps * num_envs / num_shards, or with memory
    num_envs / num_shards (times num_steps / sequence_length)."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    anneal_env_steps: float | None = None
    """Environment steps of the linear way to final_learning_rate; None: a constant rate."""
    final_learning_rate: float = 0.0
    """Learning rate at anneal_env_steps and past it."""
    adam_epsilon: float = 1e-5
    """Adam's epsilon."""
    gamma: float = 0.99
    """Discount per step."""
    gae_lambda: float = 0.95
    """Decay of the advantage trace (Schulman et al. 2015, arXiv:1506.02438)."""
    clip_epsilon: float = 0.2
    """Half-width of the interval to which the probability ratio is clipped."""
    value_clip_epsilon: float | None = None
    """Clip of the new value around the old one in the value loss; None: the squared error."""
    value_coef: float = 0.5
    """Weight of the value loss."""
    entropy_coef: float = 0.0
    """Weight of the entropy bonus (nats)."""
    max_grad_norm: float | None = 0.5
    """Global norm to which the gradient is clipped; None does not clip."""
    standardize_advantages: bool = True
    """Give the advantages mean 0 and deviation 1 over each global minibatch."""
    normalize_observations: bool = False
    """Give observations mean 0 and deviation 1 by running statistics over all environments."""
    observation_clip: float | None = 10.0
    """Magnitude to which normalised observations are clipped; None does not clip."""
    normalize_rewards: bool = False
    """Divide rewards by the running deviation of the discounted return."""
    reward_clip: float | None = 10.0
    """Magnitude to which normalised rewards are clipped; None does not clip."""
    target_kl: float | None = None
    """Skip the remaining epochs of an update once the mean KL of an epoch (nats) exceeds this."""
    torso: Literal["auto", "mlp", "cnn"] = "auto"
    """Network body; auto: a CNN for observations [height, width, channels], else an MLP."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Units of the dense layers of the torso."""
    cnn_channels: tuple[int, ...] = (16,)
    """Channels of the 3 x 3 convolutions before the dense layers of a CNN torso."""
    activation: Literal["tanh", "relu", "silu", "gelu"] = "tanh"
    """Nonlinearity between the layers."""
    shared_torso: bool = False
    """One torso, and one memory, for actor and critic instead of two."""
    memory: Literal["none", "gru", "lstm"] = "none"
    """What the network remembers of an episode by, between torso and heads."""
    memory_size: int = 64
    """Units of the memory."""
    sequence_length: int | None = None
    """Steps in a row that a network with memory learns from, with the memory of the rollout before
    the first; divides num_steps. None: num_steps."""
    action_distribution: Literal["normal", "tanh_normal"] = "normal"
    """Continuous actions: a normal clipped to the bounds, or one squashed into them by tanh."""
    initial_log_std: float = 0.0
    """Log of the initial deviation of continuous actions, in half-widths of the action bounds."""
    num_accumulation_steps: int | None = None
    """Parts of a minibatch whose gradients are computed one after another, to save memory; None:
    one, but on a CPU as many as make it fastest."""
    remat: bool = False
    """Compute activations again for the gradient instead of keeping them, to save memory."""
    network_dtype: Literal["float32", "bfloat16"] = "float32"
    """Numbers inside the torso; parameters, heads and everything else stay float32."""
    matmul_precision: Literal["default", "high", "highest"] = "default"
    """Of the network's matrix products, as in jax.default_matmul_precision."""
    num_shards: int = 8
    """Logical shards of the environments; the number of devices must divide it."""
    reproducible: bool = False
    """The same bits on any number of devices, at some cost in speed."""

    def __post_init__(self) -> None:
        counts = ("num_envs", "num_steps", "num_epochs", "num_minibatches", "num_shards")
        for field in (*counts, "memory_size"):
            require_count(f"ppo.{field}", getattr(self, field))
        self._check_division()
        for field in ("learning_rate", "adam_epsilon", "clip_epsilon"):
            require_number(f"ppo.{field}", getattr(self, field), low=0, above=True)
        for field in ("final_learning_rate", "value_coef", "entropy_coef"):
            require_number(f"ppo.{field}", getattr(self, field), low=0)
        for field in ("gamma", "gae_lambda"):
            require_number(f"ppo.{field}", getattr(self, field), low=0, high=1)
        for field in (
            "anneal_env_steps",
            "value_clip_epsilon",
            "max_grad_norm",
            "observation_clip",
            "reward_clip",
            "target_kl",
        ):
            value = getattr(self, field)
            require_number(f"ppo.{field}", value, low=0, above=True, optional=True)
        require_number("ppo.initial_log_std", self.initial_log_std, low=-20, high=5)
        for field in ("hidden_sizes", "cnn_channels"):
            require(
                isinstance(getattr(self, field), tuple),
                f"ppo.{field}",
                getattr(self, field),
                "must be a tuple of integers, such as (64, 64)",
            )
            for size in getattr(self, field):
                require_count(f"ppo.{field}", size)
        self._check_choices()

    def _check_division(self) -> None:
        length = self.sequence_length
        if length is not None:
            require_count("ppo.sequence_length", length)
            require(
                self.num_steps % length == 0,
                "ppo.sequence_length",
                length,
                f"must divide ppo.num_steps = {self.num_steps}; "
                f"the nearest that work: {nearest_divisors(length, self.num_steps)}",
            )
        multiple = self.num_envs_multiple
        require(
            self.num_envs % self.num_shards == 0,
            "ppo.num_envs",
            self.num_envs,
            f"must be a multiple of ppo.num_shards = {self.num_shards}; "
            f"the nearest that work: {nearest_multiples(self.num_envs, multiple)}",
        )
        self.check_minibatches(self.row_length)

    def check_minibatches(self, row_length: int) -> None:
        """Refuses minibatches that rows of so many steps cannot be dealt out to equally.

        Raises:
          ConfigError: naming the nearest numbers that work.
        """
        rows = self.num_steps // row_length * self.num_envs // self.num_shards
        steps = "num_steps" if row_length == 1 else f"num_steps / {row_length}"
        require(
            rows % self.num_minibatches == 0,
            "ppo.num_minibatches",
            self.num_minibatches,
            f"must divide {steps} * num_envs / num_shards = {rows}; "
            f"the nearest that work: {nearest_divisors(self.num_minibatches, rows)}",
        )
        rows //= self.num_minibatches
        parts = self.num_accumulation_steps
        if parts is None:
            return
        require_count("ppo.num_accumulation_steps", parts)
        require(
            rows % parts == 0,
            "ppo.num_accumulation_steps",
            parts,
            f"must divide {steps} * num_envs / num_shards / num_minibatches = {rows}; "
            f"the nearest that work: {nearest_divisors(parts, rows)}",
        )

    def _check_choices(self) -> None:
        choices = {
            "torso": ("auto", "mlp", "cnn"),
            "activation": ("tanh", "relu", "silu", "gelu"),
            "memory": ("none", "gru", "lstm"),
            "action_distribution": ("normal", "tanh_normal"),
            "network_dtype": ("float32", "bfloat16"),
            "matmul_precision": ("default", "high", "highest"),
        }
        for field, allowed in choices.items():
            value = getattr(self, field)
            require(value in allowed, f"ppo.{field}", value, f"must be one of {', '.join(allowed)}")
        for field in (
            "standardize_advantages",
            "normalize_observations",
            "normalize_rewards",
            "shared_torso",
            "remat",
            "reproducible",
        ):
            value = getattr(self, field)
            require(isinstance(value, bool), f"ppo.{field}", value, "must be True or False")

    @property
    def row_length(self) -> int:
        """Steps that are shuffled as one: those of a sequence with memory, and 1 without."""
        return 1 if self.memory == "none" else self.sequence_length or self.num_steps

    @property
    def num_envs_multiple(self) -> int:
        """What `num_envs` has to be a multiple of, for shards and minibatches."""
        rows_per_env = self.num_steps // self.row_length
        return self.num_shards * (
            self.num_minibatches // math.gcd(self.num_minibatches, rows_per_env)
        )

    @property
    def env_steps_per_update(self) -> int:
        """Environment steps in one update, `num_envs * num_steps`."""
        return self.num_envs * self.num_steps
