"""Action values of a network: how PQN and DQN read and explore with them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.core.exploration import EpsilonGreedy
from jaxdrl.core.schedules import linear


def epsilon(config: Any, num_updates: jax.Array) -> jax.Array:
    """The probability of exploring after `num_updates`, float32 `[]`.

    It falls linearly from `initial_epsilon` to `final_epsilon` over `exploration_env_steps`, and is
    `final_epsilon` from the start where these are None.
    """
    if config.exploration_env_steps is None:
        return jnp.asarray(config.final_epsilon, jnp.float32)
    updates = config.exploration_env_steps / config.env_steps_per_update
    return linear(config.initial_epsilon, config.final_epsilon, updates, num_updates)


def interpret(
    config: Any, num_updates: jax.Array, q_values: jax.Array, value: jax.Array
) -> tuple[EpsilonGreedy, jax.Array]:
    """`Agent.interpret`: epsilon-greedy over action values `[N, A]`, and V = max_a Q(s, a)."""
    del value
    chance = jnp.broadcast_to(epsilon(config, num_updates), q_values.shape[:-1])
    distribution = EpsilonGreedy(q_values=q_values, epsilon=chance.astype(q_values.dtype))
    return distribution, q_values.max(axis=-1)


def of_action(q_values: jax.Array, action: jax.Array) -> jax.Array:
    """Q(s, a) `[N]` of action values `[N, A]` and actions int32 `[N]`."""
    return jnp.take_along_axis(q_values, action[..., None], axis=-1)[..., 0]
