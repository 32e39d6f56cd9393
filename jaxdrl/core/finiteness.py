"""Which numbers can be calculated with, and whether a learner holds others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.core.magnitude import MAX_MAGNITUDE

LEARNT = tuple(
    f"learner/{name}" for name in ("params", "obs_statistics", "return_statistics", "opt_state")
)
"""Where a state has what was learnt."""


def is_usable(x: jax.Array) -> jax.Array:
    """Whether numbers are neither NaN nor beyond `MAX_MAGNITUDE`; bool, in the shape of `x`."""
    return jnp.abs(x) <= MAX_MAGNITUDE


def count_unusable(x: jax.Array) -> jax.Array:
    """How many numbers are not usable once they are float32, as float32 `[]`."""
    is_float = jnp.issubdtype(x.dtype, jnp.floating)
    if not is_float and x.dtype.itemsize < 8:  # which holds up to 4.3e9
        return jnp.zeros((), jnp.float32)
    return (~is_usable(x.astype(jnp.float32))).sum(dtype=jnp.float32)


def stays_finite(before: Any, after: Any) -> jax.Array:
    """Whether no number of `before` that was finite is NaN or infinite in `after`; bool `[]`.

    One that was infinite may be, such as the best value that an optimiser has seen so far.
    """
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    gone_bad = [
        (jnp.isfinite(old) & ~jnp.isfinite(new)).any()
        for old, new in pairs
        if jnp.issubdtype(new.dtype, jnp.inexact)
    ]
    return ~jnp.stack(gone_bad).any() if gone_bad else jnp.ones((), jnp.bool)


def find_nonfinite(arrays: Mapping[str, np.ndarray]) -> tuple[list[str], np.ndarray]:
    """What no update can mend in a learner, or in those of `P` members: arrays, and whose.

    That is NaN, and infinity but in the state of an optimiser, which may have begun with it.

    Args:
      arrays: those of a state on the host by their paths, such as `learner/params/policy/bias`.

    Returns:
      `(names, is_bad)`: the arrays with such numbers, and bool `[P]`, `[1]` without members.
    """
    num_updates = arrays.get("learner/num_updates", np.zeros(()))  # not in a part of a learner
    names, is_bad = [], np.zeros(num_updates.shape or 1, bool)
    for name, array in arrays.items():
        if name.startswith(LEARNT) and jnp.issubdtype(array.dtype, jnp.floating):
            bad = np.isnan(array) if name.startswith(LEARNT[-1]) else ~np.isfinite(array)
            if bad.any():
                names.append(name)
                is_bad |= bad.reshape(is_bad.size, -1).any(axis=1)
    return names, is_bad
