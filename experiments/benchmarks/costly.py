"""An environment whose reset takes some 100 times as long as its step; it needs no gymnax."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl import Environment, spaces

SIDE = 32
"""Cells of its map each way."""
OBS_SIZE = 16
"""Cells that are seen."""
RESET_SWEEPS = 100
"""Sweeps over the map in a reset, which makes a level out of noise; a step has one."""
END_PROBABILITY = 0.01
"""Of every step; a reset is then due as often as in a short control task."""


def _sweep(level: jax.Array) -> jax.Array:
    """Every cell becomes a bounded mixture of its neighbours."""
    beside = sum(jnp.roll(level, shift, axis) for shift in (-1, 1) for axis in (0, 1))
    return jnp.tanh(0.5 * level + 0.3 * beside)


def _observe(level: jax.Array) -> jax.Array:
    return level[0, :OBS_SIZE]


def _reset(key: jax.Array, params: Any) -> tuple[jax.Array, jax.Array]:
    noise = jax.random.uniform(key, (SIDE, SIDE), minval=-1.0, maxval=1.0)
    level = jax.lax.fori_loop(0, RESET_SWEEPS, lambda _, level: _sweep(level), noise)
    return _observe(level), level


def _step(key: jax.Array, level: jax.Array, action: jax.Array, params: Any) -> tuple:
    level = _sweep(level) + jnp.where(action == 1, 0.1, -0.1)
    ended = jax.random.bernoulli(key, END_PROBABILITY)
    return _observe(level), level, level[0, 0], ended, jnp.zeros_like(ended), {}


def costly() -> Environment:
    """The environment: push a drifting map so that its first cell is large."""
    return Environment(
        name="Costly",
        reset=_reset,
        step=_step,
        observation_space=spaces.Box(-2.0, 2.0, (OBS_SIZE,)),
        action_space=spaces.Discrete(2),
        costly_reset=True,
    )
