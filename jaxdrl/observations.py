"""Observations as the environment gives them, and as networks take them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdrl import spaces


def prepare_observation(space: spaces.Space, obs: jax.Array) -> jax.Array:
    """Observations `[N, ...]` in their own dtype as float32 network input.

    Discrete ones become one-hot, 8-bit images are divided by 255, all others are cast.
    """
    if isinstance(space, spaces.Discrete):
        return jax.nn.one_hot(obs, space.n, dtype=jnp.float32)
    if isinstance(space, spaces.MultiDiscrete):
        parts = [
            jax.nn.one_hot(obs[..., i], n, dtype=jnp.float32) for i, n in enumerate(space.nvec)
        ]
        return jnp.concatenate(parts, axis=-1)
    if obs.ndim == 1:
        obs = obs[:, None]
    if obs.dtype == jnp.uint8:
        return obs.astype(jnp.float32) / 255.0
    return obs.astype(jnp.float32)


def prepared_shape(space: spaces.Space) -> tuple[int, ...]:
    """Shape of one observation after `prepare_observation`."""
    if isinstance(space, spaces.Discrete):
        return (space.n,)
    if isinstance(space, spaces.MultiDiscrete):
        return (sum(space.nvec),)
    return space.shape or (1,)
