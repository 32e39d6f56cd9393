"""Splits a device's arrays into groups of logical shards, and maps functions over groups."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.core.trees import is_key
from jaxdrl.distributed.layout import Layout, shard_ids, varying

ROW_BYTES = 2048
"""The fewest bytes in a row of a loop over groups: XLA compiles a loop over less than 1 KB together
with its surroundings, and then sums in another order (jaxlib 0.10.2 and 0.11.2)."""


def split_groups(layout: Layout, tree: Any, axis: int = 0) -> Any:
    """Splits the environment axis of a device's arrays: `[..., N, ...]` to `[G, ..., N/G, ...]`."""

    def split(x: jax.Array) -> jax.Array:
        # Not -1, which is ambiguous for an array without elements.
        num_each = x.shape[axis] // layout.num_groups
        shape = (*x.shape[:axis], layout.num_groups, num_each, *x.shape[axis + 1 :])
        return jnp.moveaxis(x.reshape(shape), axis, 0)

    return jax.tree.map(split, tree)


def merge_groups(layout: Layout, tree: Any, axis: int = 0) -> Any:
    """Undoes `split_groups`: `[G, ..., n, ...]` to `[..., G * n, ...]`."""

    def merge(x: jax.Array) -> jax.Array:
        x = jnp.moveaxis(x, 0, axis)
        num_rows = x.shape[axis] * x.shape[axis + 1]
        return x.reshape(*x.shape[:axis], num_rows, *x.shape[axis + 2 :])

    return jax.tree.map(merge, tree)


def map_groups(layout: Layout, function: Callable, *trees: Any) -> Any:
    """`function` of each group, arrays `[num_groups, ...]`; one at a time in reproducible mode."""
    if layout.reproducible:
        always = shard_ids(layout)[:, 0] >= 0  # true, but the compiler does not know
        return map_rows(function, always, *trees, mark=functools.partial(varying, layout))
    result = function(*jax.tree.map(lambda x: x[0], trees))
    return jax.tree.map(lambda x: x[None], result)


def map_rows(
    function: Callable, always: jax.Array, *trees: Any, mark: Callable = lambda tree: tree
) -> Any:
    """`function` of each row of arrays `[n, ...]`, one after another, with the same bits for any n.

    The function is a separate program, a branch that is always taken. Otherwise XLA would inline a
    loop over a single row, fuse it with its surroundings, and round differently than in a loop over
    several rows.

    Args:
      function: takes one row of each of `trees`.
      always: bool `[n]`, all true without the compiler knowing it.
      *trees: arrays `[n, ...]`.
      mark: gives constants the type that results have on several devices.
    """

    def isolated(args: tuple) -> Any:
        ballast, trees = args
        is_true = ballast.all()

        def own(trees: tuple) -> Any:
            # `where` makes a constant vary over the devices, because both branches have to agree.
            def depend(x: jax.Array) -> jax.Array:
                return x if is_key(x) else jnp.where(is_true, x, x)

            return jax.tree.map(depend, function(*trees))

        def other(trees: tuple) -> Any:
            shapes = jax.eval_shape(function, *trees)
            return mark(jax.tree.map(lambda x: jax.lax.full(x.shape, 0, x.dtype), shapes))

        return jax.lax.cond(is_true, own, other, trees)

    # All true as well, and the compiler does not know it either.
    true = jnp.arange(ROW_BYTES)[None] >= always[0].astype(jnp.int32) - 1
    ballast = always[:, None] & true
    return jax.lax.map(isolated, (ballast, trees))
