"""Third-party code is traced under JAX's default promotion rules, even in strict mode."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def default_promotion() -> Iterator[None]:
    """A context in which `jax_numpy_dtype_promotion` is "standard" and ranks are not checked.

    It is for environments, networks and optimisers of other libraries: 19 of 25 gymnax environments
    and Adam's bias correction in optax cannot be traced in JAX's strict modes.
    """
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
