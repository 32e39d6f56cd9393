"""Which numbers are usable, and whether a learner contains non-finite values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.core import control_flow
from jaxdrl.core.magnitude import MAX_MAGNITUDE

LEARNED = tuple(
    f"learner/{name}" for name in ("params", "obs_statistics", "return_statistics", "opt_state")
)
"""The paths under which a training state keeps what has been learned."""


def is_usable(x: jax.Array) -> jax.Array:
    """True where a number is neither NaN nor beyond `MAX_MAGNITUDE`; bool, in the shape of `x`."""
    return jnp.abs(x) <= MAX_MAGNITUDE


def count_unusable(x: jax.Array) -> jax.Array:
    """How many numbers are unusable once cast to float32, as float32 `[]`."""
    is_float = jnp.issubdtype(x.dtype, jnp.floating)
    if not is_float and x.dtype.itemsize < 8:  # such integers end at 4.3e9
        return jnp.zeros((), jnp.float32)
    return (~is_usable(x.astype(jnp.float32))).sum(dtype=jnp.float32)


def stays_finite(before: Any, after: Any) -> jax.Array:
    """Whether every number that is finite in `before` is still finite in `after`; bool `[]`.

    A number that was infinite before may stay so, such as the best value an optimiser has seen.
    """
    pairs = [
        (old, new)
        for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
        if jnp.issubdtype(new.dtype, jnp.inexact)
    ]
    if not pairs:
        return jnp.ones((), jnp.bool)
    if control_flow.on_gpu():
        return _none_lost(pairs)
    # A CPU adds up numbers many times as fast as it tests them, and a sum is finite only if all of
    # them are. It may overflow although they are, or have had something infinite before.
    is_finite = jnp.isfinite(sum(new.sum() for _, new in pairs))
    return jax.lax.cond(is_finite, lambda pairs: is_finite, _none_lost, pairs)


def _none_lost(pairs: list[tuple[jax.Array, jax.Array]]) -> jax.Array:
    """Whether no number of `(old, new)` is finite in `old` alone; bool `[]`."""
    # As float32, in which a CPU adds up several times as fast as it does integers.
    lost = [(jnp.isfinite(old) & ~jnp.isfinite(new)).sum(dtype=jnp.float32) for old, new in pairs]
    return jnp.equal(sum(lost), 0.0)


def find_nonfinite(arrays: Mapping[str, np.ndarray]) -> tuple[list[str], np.ndarray]:
    """Finds the values in a learner, or in `P` members' learners, that no update can repair.

    These are NaN anywhere, and infinity anywhere but in the optimiser state, which may start with
    it.

    Args:
      arrays: arrays of a training state on the host, by path, such as `learner/params/policy/bias`.

    Returns:
      `(names, is_affected)`: the paths of arrays with such values, and which members have them,
      bool `[P]`; `[1]` without members.
    """
    num_updates = arrays.get("learner/num_updates", np.zeros(()))  # a part of a learner lacks it
    names, is_affected = [], np.zeros(num_updates.shape or 1, bool)
    for name, array in arrays.items():
        found = members_with_nonfinite(name, array, is_affected.size)
        if found.any():
            names.append(name)
            is_affected |= found
    return names, is_affected


def members_with_nonfinite(name: str, array: np.ndarray, num_members: int) -> np.ndarray:
    """Which members have such values in one array, of which they have equal parts; bool `[P]`."""
    if not (name.startswith(LEARNED) and jnp.issubdtype(array.dtype, jnp.floating)):
        return np.zeros(num_members, bool)
    found = np.isnan(array) if name.startswith(LEARNED[-1]) else ~np.isfinite(array)
    if not found.any():
        return np.zeros(num_members, bool)
    return found.reshape(num_members, -1).any(axis=1)
