"""Other people's code under JAX's default promotion rules, whatever strict mode the user set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def default_promotion() -> Iterator[None]:
    """Traces what is inside under `jax_numpy_dtype_promotion="standard"` and no rank checks.

    For environments, networks and optimisers that are not ours: 19 of 25 gymnax environments and
    Adam's bias correction in optax do not trace under the strict modes.
    """
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
