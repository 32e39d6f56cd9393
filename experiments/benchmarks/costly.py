"""An environment whose reset takes some 100 times as long as its step; it needs no gymnax."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl import Environment, spaces

SIZE = 16
"""Numbers in its state."""
RESET_STEPS = 200
"""Moves in a reset; a step, which draws a random number as well, takes as long as two."""
END_PROBABILITY = 0.01
"""Of every step; a reset is then due as often as in a short control task."""

_ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(SIZE, SIZE)))[0].astype(np.float32)


def _move(x: jax.Array) -> jax.Array:
    return jnp.tanh(1.1 * (jnp.asarray(_ROTATION) @ x))


def _reset(key: jax.Array, params: Any) -> tuple[jax.Array, jax.Array]:
    x = jax.random.uniform(key, (SIZE,), minval=-1.0, maxval=1.0)
    x = jax.lax.fori_loop(0, RESET_STEPS, lambda _, x: _move(x), x)
    return x, x


def _step(key: jax.Array, x: jax.Array, action: jax.Array, params: Any) -> tuple:
    x = _move(x) + jnp.where(action == 1, 0.1, -0.1)
    ended = jax.random.bernoulli(key, END_PROBABILITY)
    return x, x, x[0], ended, jnp.zeros_like(ended), {}


def costly() -> Environment:
    """The environment: move a rotating vector so that its first number is large."""
    return Environment(
        name="Costly",
        reset=_reset,
        step=_step,
        observation_space=spaces.Box(-2.0, 2.0, (SIZE,)),
        action_space=spaces.Discrete(2),
    )
