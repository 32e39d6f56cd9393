"""Settings of a policy and value network. Importing this module imports neither jax nor gymnax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from jaxdrl.annotations import Bounds
from jaxdrl.checks import Count, check_fields, require
from jaxdrl.config.settings import hyperparameter

MAX_UNITS = 2**31 - 1
"""Units of a layer, which are numbered by 32 bits."""


@dataclass(frozen=True)
class NetworkConfig:
    """The policy and value network that an algorithm trains, unless it is given one.

    Raises:
      ConfigError: in the constructor, naming the field, its value and what works.
    """

    torso: Literal["auto", "mlp", "cnn"] = "auto"
    """Body of the network; auto: a CNN for observations [height, width, channels], else an MLP."""
    hidden_sizes: tuple[Count, ...] = (64, 64)
    """Units of the dense layers of the torso."""
    cnn_channels: tuple[Count, ...] = (16,)
    """Channels of the convolutions in front of the dense layers of a CNN torso."""
    cnn_kernel_sizes: tuple[Count, ...] = (3,)
    """Height and width of the kernels of these convolutions; one number holds for all."""
    cnn_strides: tuple[Count, ...] = (1,)
    """Pixels between neighbouring outputs of these convolutions; one number holds for all."""
    activation: Literal["tanh", "relu", "silu", "gelu"] = "tanh"
    """Nonlinearity between the layers."""
    layer_norm: bool = False
    """Layer normalisation before each nonlinearity of the torso."""
    shared_torso: bool = False
    """Share one torso, and one recurrent layer, between actor and critic."""
    critic_only: tuple[str, ...] = ()
    """Entries of a dictionary observation that only the critic reads, such as world_state: the
    policy learns, acts and is exported without them. Needs shared_torso = False."""
    memory: Literal["none", "gru", "lstm"] = "none"
    """Recurrent layer between torso and heads; none: a feed-forward policy."""
    memory_size: Count = 64
    """Units of the recurrent layer."""
    action_distribution: Literal["normal", "tanh_normal"] = "normal"
    """Continuous actions: a normal clipped to the action bounds, or one squashed into them by
    tanh."""
    initial_log_std: Annotated[float, Bounds(-20, 5)] = hyperparameter(0.0)
    """Log of the initial standard deviation of continuous actions, in half-widths of the action
    bounds."""

    def __post_init__(self) -> None:
        check_fields(self)
        num = len(self.cnn_channels)
        for name in ("cnn_kernel_sizes", "cnn_strides"):
            works = f"must have one number, or {num} as cnn_channels = {self.cnn_channels} has"
            require(len(getattr(self, name)) in (1, num), name, getattr(self, name), works)
        for name in ("hidden_sizes", "cnn_channels", "memory_size"):
            sizes = getattr(self, name)
            most = max(sizes, default=1) if isinstance(sizes, tuple) else sizes
            require(most <= MAX_UNITS, name, most, f"must be at most {MAX_UNITS}")
        names = self.critic_only
        works = "must be different names of entries, such as ('world_state',)"
        require(all(names) and len(set(names)) == len(names), "critic_only", names, works)
        works = "needs a torso of the critic's own: shared_torso = False"
        require(not (names and self.shared_torso), "critic_only", names, works)

    def require_no_critic_only(self) -> None:
        """Refuses `critic_only` of an algorithm without a critic beside its policy.

        Raises:
          ConfigError: naming the entries and algorithms that have one.
        """
        works = "must be (): action values are the policy; ppo, impala, sac and td3 have a critic"
        require(not self.critic_only, "critic_only", self.critic_only, works)

    @property
    def convolutions(self) -> tuple[tuple[int, int, int], ...]:
        """Channels, kernel size and stride of each convolution."""
        num = len(self.cnn_channels)
        sizes, strides = (
            x * num if len(x) == 1 else x for x in (self.cnn_kernel_sizes, self.cnn_strides)
        )
        return tuple(zip(self.cnn_channels, sizes, strides, strict=True))
