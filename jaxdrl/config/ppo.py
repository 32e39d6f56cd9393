"""Settings of the algorithms. Importing this module imports neither jax nor gymnax."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from jaxdrl.annotations import Bounds
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

MAX_STEPS = 2**31 - 1
"""Of one update, in all environments; and units of a layer."""


@dataclass(frozen=True)
class PPOConfig:
    """Settings of proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347).

    Counts are global, never per device, so that a config means the same on any machine. Floats
    may be traced values (a population is `jax.vmap` over `dataclasses.replace`); they are checked
    only when they are concrete. `None` switches a feature off.

    Raises:
      ConfigError: in the constructor, naming the field, its value and the nearest that works.
    """

    num_envs: Count = 512
    """Environments stepped in parallel, over all devices; a multiple of num_shards."""
    num_steps: Count = 64
    """Steps of each environment in one update."""
    num_epochs: Count = 4
    """Passes over the steps of one update."""
    num_minibatches: Count = 4
    """Gradient steps in one epoch; divides num_steps * num_envs / num_shards, or with memory
    num_envs / num_shards (times num_steps / sequence_length)."""
    learning_rate: Positive = 1e-3
    """Step size of Adam."""
    anneal_env_steps: Positive | None = None
    """Environment steps of the linear way to final_learning_rate; None: a constant rate."""
    final_learning_rate: NonNegative = 0.0
    """Learning rate at anneal_env_steps and past it."""
    adam_epsilon: Positive = 1e-5
    """Adam's epsilon."""
    gamma: Share = 0.99
    """Discount per step."""
    gae_lambda: Share = 0.95
    """Decay of the advantage trace (Schulman et al. 2015, arXiv:1506.02438)."""
    clip_epsilon: Positive = 0.2
    """Half-width of the interval to which the probability ratio is clipped."""
    value_clip_epsilon: Positive | None = None
    """Clip of the new value around the old one in the value loss; None: the squared error."""
    value_coef: NonNegative = 0.5
    """Weight of the value loss."""
    entropy_coef: NonNegative = 0.0
    """Weight of the entropy bonus (nats)."""
    max_grad_norm: Positive | None = 0.5
    """Global norm to which the gradient is clipped; None does not clip."""
    standardize_advantages: bool = True
    """Give the advantages mean 0 and deviation 1 over each global minibatch."""
    normalize_observations: bool = False
    """Give observations mean 0 and deviation 1 by running statistics over all environments."""
    observation_clip: Positive | None = 10.0
    """Magnitude to which normalised observations are clipped; None does not clip."""
    normalize_rewards: bool = False
    """Divide rewards by the running deviation of the discounted return."""
    reward_clip: Positive | None = 10.0
    """Magnitude to which normalised rewards are clipped; None does not clip."""
    target_kl: Positive | None = None
    """Skip the remaining epochs of an update once the mean KL of an epoch (nats) exceeds this."""
    torso: Literal["auto", "mlp", "cnn"] = "auto"
    """Network body; auto: a CNN for observations [height, width, channels], else an MLP."""
    hidden_sizes: tuple[Count, ...] = (64, 64)
    """Units of the dense layers of the torso."""
    cnn_channels: tuple[Count, ...] = (16,)
    """Channels of the 3 x 3 convolutions before the dense layers of a CNN torso."""
    activation: Literal["tanh", "relu", "silu", "gelu"] = "tanh"
    """Nonlinearity between the layers."""
    shared_torso: bool = False
    """One torso, and one memory, for actor and critic instead of two."""
    memory: Literal["none", "gru", "lstm"] = "none"
    """What the network remembers of an episode by, between torso and heads."""
    memory_size: Count = 64
    """Units of the memory."""
    sequence_length: Count | None = None
    """Steps in a row that a network with memory learns from, with the memory of the rollout before
    the first; divides num_steps. None: num_steps."""
    action_distribution: Literal["normal", "tanh_normal"] = "normal"
    """Continuous actions: a normal clipped to the bounds, or one squashed into them by tanh."""
    initial_log_std: Annotated[float, Bounds(-20, 5)] = 0.0
    """Log of the initial deviation of continuous actions, in half-widths of the action bounds."""
    num_accumulation_steps: Count | None = None
    """Parts of a minibatch whose gradients are computed one after another, to save memory; None:
    one, but on a CPU as many as make it fastest."""
    remat: bool = False
    """Compute activations again for the gradient instead of keeping them, to save memory."""
    network_dtype: Literal["float32", "bfloat16"] = "float32"
    """Numbers inside the torso; parameters, heads and everything else stay float32."""
    matmul_precision: Literal["default", "high", "highest"] = "default"
    """Of the network's matrix products, as in jax.default_matmul_precision."""
    num_shards: Count = 8
    """Logical shards of the environments; the number of devices must divide it."""
    reproducible: bool = False
    """The same bits on any number of devices, at some cost in speed."""

    def __post_init__(self) -> None:
        check_fields(self, "ppo.")
        self._check_division()

    def _check_division(self) -> None:
        self._check_size()
        length = self.sequence_length
        if length is not None:
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

    def _check_size(self) -> None:
        """Steps of an update and units of a layer are numbered by 32 bits."""
        layers = ("hidden_sizes", "cnn_channels", "memory_size")
        for name, sizes in ((name, getattr(self, name)) for name in layers):
            most = max(sizes, default=1) if isinstance(sizes, tuple) else sizes
            require(most <= MAX_STEPS, f"ppo.{name}", most, f"must be at most {MAX_STEPS}")
        most_envs = MAX_STEPS // self.num_steps // self.num_shards * self.num_shards
        most, field, other = most_envs, "num_envs", "num_steps"
        if most_envs == 0:
            most, field, other = MAX_STEPS // self.num_envs, other, field
        works = f"must be at most {most} with ppo.{other} = {getattr(self, other)}"
        is_small = self.num_envs * self.num_steps <= MAX_STEPS
        require(is_small, f"ppo.{field}", getattr(self, field), works)

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
        require(
            rows % parts == 0,
            "ppo.num_accumulation_steps",
            parts,
            f"must divide {steps} * num_envs / num_shards / num_minibatches = {rows}; "
            f"the nearest that work: {nearest_divisors(parts, rows)}",
        )

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
