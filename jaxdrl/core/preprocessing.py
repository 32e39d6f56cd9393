"""From observations as the environment returns them to the input of networks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.core import spaces


def prepare_observation(space: spaces.ObservationSpace, obs: Any) -> Any:
    """Observations `[N, ...]` in their own dtype as float32 network input.

    Discrete observations become one-hot, 8-bit images are divided by 255, and all others are cast.
    Each entry of a dictionary is treated by its own space.
    """
    if isinstance(space, spaces.Dict):
        return {name: prepare_observation(part, obs[name]) for name, part in space.items}
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


def prepared_shapes(space: spaces.ObservationSpace, num: int) -> Any:
    """Shapes `[num, ...]` of observations after `prepare_observation`; nothing is computed."""
    if isinstance(space, spaces.Dict):
        return {name: prepared_shapes(part, num) for name, part in space.items}
    return jax.ShapeDtypeStruct((num, *_prepared_shape(space)), jnp.float32)


def _prepared_shape(space: spaces.Space) -> tuple[int, ...]:
    if isinstance(space, spaces.Discrete):
        return (space.n,)
    if isinstance(space, spaces.MultiDiscrete):
        return (sum(space.nvec),)
    return space.shape or (1,)


def zeros(shapes: Any) -> Any:
    """Arrays of zeros in the given shapes."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
