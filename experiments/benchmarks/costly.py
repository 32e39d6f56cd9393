"""An environment whose reset takes some 100 times as long as its step; it needs no gymnax."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl import Environment, spaces

SIZE = 16
"""Numbers in its state."""
STEP_MOVES = 30
"""Moves in a step: some microseconds, as in a physics simulator and less than in Craftax."""
RESET_MOVES = 100 * STEP_MOVES
"""Moves in a reset."""
END_PROBABILITY = 0.01
"""Of every step; a reset is then due as often as in a short control task."""

_ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(SIZE, SIZE)))[0].astype(np.float32)


def _move(x: jax.Array, times: int) -> jax.Array:
    return jax.lax.fori_loop(0, times, lambda _, x: jnp.tanh(1.1 * (jnp.asarray(_ROTATION) @ x)), x)


def _reset(key: jax.Array, params: Any) -> tuple[jax.Array, jax.Array]:
    x = jax.random.uniform(key, (SIZE,), minval=-1.0, maxval=1.0)
    x = _move(x, RESET_MOVES)
    return x, x


def _step(key: jax.Array, x: jax.Array, action: jax.Array, params: Any) -> tuple:
    x = _move(x, STEP_MOVES) + jnp.where(action == 1, 0.1, -0.1)
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
