"""PRNG keys of one implementation, whatever JAX's default is.

A seed then gives the same numbers anywhere. With other implementations it would not: what `rbg`
draws under `vmap` depends on the size of the batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

from jaxdrl.core.trees import is_key
from jaxdrl.errors import ConfigError

IMPL = "threefry2x32"
OTHERS = ("rbg", "unsafe_rbg")


def make_key(seed: int | jax.Array) -> jax.Array:
    """A key of the implementation that reproducible mode needs."""
    return jax.random.key(seed, impl=IMPL)


def abstract_key() -> Any:
    """The shape and dtype of such a key."""
    return jax.eval_shape(lambda: make_key(0))


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """A context in which random numbers are drawn as under JAX's own defaults.

    This includes environments that make keys themselves, whose states then have the same shapes
    anywhere. If the user has set JAX's transfer guard, the library's own copies between host and
    devices are still allowed.
    """
    with jax.default_prng_impl(IMPL), jax.threefry_partitionable(True), jax.transfer_guard("allow"):
        yield


def require_reproducible(key: jax.Array) -> None:
    """Refuses a key whose draws depend on how the environments are laid out on the devices.

    Raises:
      ConfigError: naming the key's implementation, and how to make a key that works.
    """
    impl = str(jax.random.key_impl(key))
    if impl != IMPL:
        raise ConfigError(
            f"key: its implementation is {impl}, whose bits depend on the number of devices; with "
            f"reproducible = True it must be {IMPL}: jax.random.key(seed, impl={IMPL!r})"
        )


def of_kind(abstract: Any, dtype: str) -> Any:
    """An abstract key with the dtype called `dtype`, such as `key<rbg>`; other leaves unchanged."""
    if is_key(abstract):
        for impl in (IMPL, *OTHERS):
            known = jax.eval_shape(lambda impl=impl: jax.random.key(0, impl=impl)).dtype
            if str(known) == dtype:
                return jax.ShapeDtypeStruct(abstract.shape, known)
    return abstract
