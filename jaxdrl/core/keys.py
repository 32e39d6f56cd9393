"""PRNG keys of one kind, whatever JAX's default is, so that a seed gives the same numbers anywhere.

The others do not keep the bits: under `vmap`, what `rbg` draws depends on how many draw with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.errors import ConfigError

IMPL = "threefry2x32"
OTHERS = ("rbg", "unsafe_rbg")


def make_key(seed: int) -> jax.Array:
    """A key of the kind that reproducible mode needs."""
    return jax.random.key(seed, impl=IMPL)


def abstract_key() -> Any:
    """Its shape and dtype."""
    return jax.eval_shape(lambda: make_key(0))


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Has everything that is traced and run inside draw as under JAX's own defaults.

    Environments that make keys themselves, too, whose states then have the same shapes anywhere.
    Where the user has JAX forbid copies between host and devices, those of the library are allowed.
    """
    with jax.default_prng_impl(IMPL), jax.threefry_partitionable(True), jax.transfer_guard("allow"):
        yield


def require_reproducible(key: jax.Array) -> None:
    """Refuses a key whose draws depend on how the environments lie on the devices.

    Raises:
      ConfigError: naming the kind of the key, and how to make another.
    """
    impl = str(jax.random.key_impl(key))
    if impl != IMPL:
        raise ConfigError(
            f"key: its kind is {impl}, whose bits depend on the number of devices; with "
            f"reproducible it must be {IMPL}: jax.random.key(seed, impl={IMPL!r})"
        )


def of_kind(abstract: Any, dtype: str) -> Any:
    """An abstract key as one of the kind that `dtype` names, such as `key<rbg>`; others stay."""
    if jnp.issubdtype(abstract.dtype, jax.dtypes.prng_key):
        for impl in (IMPL, *OTHERS):
            known = jax.eval_shape(lambda impl=impl: jax.random.key(0, impl=impl)).dtype
            if str(known) == dtype:
                return jax.ShapeDtypeStruct(abstract.shape, known)
    return abstract
