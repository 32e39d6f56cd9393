"""Small helpers for arrays and pytrees that several folders need."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def is_key(leaf: Any) -> bool:
    """Whether `leaf` is an array of typed PRNG keys, or the abstract value of one."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def raw(leaf: Any) -> Any:
    """An array as it is, and random keys as their unsigned integers."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def merge_leading_axes(tree: Any) -> Any:
    """Merges the first two axes of every leaf: `[A, B, ...]` to `[A * B, ...]`."""
    # Not -1, which is ambiguous for an array without elements.
    return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), tree)


def match_rank(mask: jax.Array, x: jax.Array) -> jax.Array:
    """A mask `[N]` with axes of size 1 appended up to the rank of `x`, to select rows of `x`."""
    return mask.reshape(mask.shape[0], *[1] * (x.ndim - 1))


def without(tree: Any, names: tuple[str, ...]) -> Any:
    """A dictionary without the entries `names`; `tree` itself, which may be any, for no names."""
    return {name: x for name, x in tree.items() if name not in names} if names else tree
