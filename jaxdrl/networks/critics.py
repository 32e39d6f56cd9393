"""Networks of SAC and TD3: an actor of continuous actions, and critics that value its actions."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdrl.config.network import NetworkConfig
from jaxdrl.core import spaces
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.core.trees import without
from jaxdrl.networks.actor_critic import Torso, orthogonal
from jaxdrl.networks.build import check_critic_only, convolutions_of

NUM_CRITICS = 2

MIN_LOG_STD, MAX_LOG_STD = -10.0, 2.0
"""Bounds of the log of the standard deviation that depends on the observation."""


class Parts(NamedTuple):
    """Actor and critics as pure functions; the observations `[N, ...]` are prepared ones.

    Attributes:
      init: `(key, obs) -> params`, a dictionary with an entry for actor and one for critics.
      actor: `(params of the actor, obs) -> outputs`, as `Actor` has them.
      critics: `(params of the critics, obs, action [N, ...]) -> values [K, N]`, or `[K, N, A]`
        logits where there are atoms. Actions are in half-widths of their bounds, from -1 to 1.
    """

    init: Callable[[jax.Array, Any], dict[str, Any]]
    actor: Callable[[Any, Any], Any]
    critics: Callable[[Any, Any, jax.Array], jax.Array]


class Actor(nn.Module):
    """Outputs `[N, *shape]` of a policy: a mean, and with `has_std` a log_std, as a pair."""

    torso: Callable[..., nn.Module]
    shape: tuple[int, ...]
    has_std: bool
    initial_log_std: Any

    @nn.compact
    def __call__(self, obs: Any) -> Any:
        """The outputs for `obs [N, ...]`."""
        features = self.torso(name="torso")(obs)
        size = math.prod(self.shape)
        # A small head starts near the middle of the bounds.
        head = nn.Dense((1 + self.has_std) * size, kernel_init=orthogonal(0.01), name="policy")
        outputs = head(features)
        mean = outputs[:, :size].reshape(-1, *self.shape)
        if not self.has_std:
            return mean
        log_std = self.initial_log_std + outputs[:, size:].reshape(mean.shape)
        return mean, jnp.clip(log_std, MIN_LOG_STD, MAX_LOG_STD)


class Critic(nn.Module):
    """`num_outputs` numbers for each observation and action, `[N, num_outputs]`."""

    torso: Callable[..., nn.Module]
    num_outputs: int

    @nn.compact
    def __call__(self, obs: Any, action: jax.Array) -> jax.Array:
        """The outputs for `obs [N, ...]` and `action [N, ...]`."""
        features = self.torso(name="torso")((obs, action.reshape(action.shape[0], -1)))
        head = nn.Dense(self.num_outputs, kernel_init=orthogonal(1.0), name="value")
        return head(features)


def make_parts(
    observation_space: spaces.ObservationSpace,
    action_space: spaces.Box,
    config: NetworkConfig,
    *,
    dtype: str = "float32",
    has_std: bool,
    critic_layer_norm: bool,
    num_atoms: int | None = None,
) -> Parts:
    """The networks that `config` describes.

    Args:
      observation_space: what they see.
      action_space: how the actor acts.
      config: describes the body of each of them.
      dtype: precision inside of the bodies.
      has_std: whether the actor outputs a log_std as well.
      critic_layer_norm: whether the layers of the critics are normalised.
      num_atoms: returns that the critics give probabilities to; None: they give the mean return.

    Raises:
      ConfigError: as in `jaxdrl.networks.build.make_network`.
    """
    check_critic_only(observation_space, config.critic_only)
    convolutions = convolutions_of(observation_space, config)
    settings = (config.hidden_sizes, config.activation, convolutions, dtype)
    torso = partial(Torso, *settings, config.layer_norm)
    critic_torso = partial(Torso, *settings, config.layer_norm or critic_layer_norm)
    actor = Actor(torso, action_space.shape, has_std, config.initial_log_std)
    critics = partial(_several_critics, critic_torso, num_atoms or 1)

    def init(key: jax.Array, obs: Any) -> dict[str, Any]:
        actor_key, critic_key = jax.random.split(key)
        action = jnp.zeros((jax.tree.leaves(obs)[0].shape[0], *action_space.shape))
        with default_promotion():
            return {
                "actor": actor.init(actor_key, without(obs, config.critic_only))["params"],
                "critic": critics(NUM_CRITICS).init(critic_key, obs, action)["params"],
            }

    def act(params: Any, obs: Any) -> Any:
        with default_promotion():
            return actor.apply({"params": params}, without(obs, config.critic_only))

    def value(params: Any, obs: Any, action: jax.Array) -> jax.Array:
        num = jax.tree.leaves(params)[0].shape[0]
        with default_promotion():
            outputs: Any = critics(num).apply({"params": params}, obs, action)
        return outputs if num_atoms else outputs[..., 0]

    return Parts(init=init, actor=act, critics=value)


def _several_critics(torso: Callable[..., nn.Module], num_outputs: int, num: int) -> nn.Module:
    """Critics that are one product of matrices at a time, which is a larger one."""
    batched = nn.vmap(
        Critic,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(None, None),
        axis_size=num,
    )
    return batched(torso, num_outputs)
