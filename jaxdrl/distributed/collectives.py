"""The only collectives of the library: sums, means and moments over the groups of all devices."""

from __future__ import annotations

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.distributed.groups import map_groups
from jaxdrl.distributed.layout import Layout
from jaxdrl.distributed.mesh import DATA_AXIS

WORTH_A_SCATTER = 2**21
"""Bytes of all `L` shards above which an ordered sum takes two collectives, in which a device sends
`(1 - 1 / D) * (1 / D + 1 / L)` of them, instead of one in which it sends `1 - 1 / D` of them."""


@jax.named_scope("all-reduce")
def sum_groups(layout: Layout, tree: Any) -> Any:
    """Sums over the groups of all devices: `[num_groups, ...]` to replicated `[...]`.

    All leaves of one dtype share a collective. In fast mode it is an all-reduce. In reproducible
    mode the shards are added in their order after an all-gather, or, if they are large, between an
    all-to-all and an all-gather, with the same bits.
    """
    leaves, treedef = jax.tree.flatten(tree)
    results: list[Any] = [None] * len(leaves)
    for dtype in {leaf.dtype for leaf in leaves}:
        chosen = [i for i, leaf in enumerate(leaves) if leaf.dtype == dtype]
        flat = jnp.concatenate([leaves[i].reshape(layout.num_groups, -1) for i in chosen], axis=1)
        total = _sum_flat(layout, flat)
        start = 0
        for i in chosen:
            shape = leaves[i].shape[1:]
            size = leaves[i].size // layout.num_groups
            results[i] = total[start : start + size].reshape(shape)
            start += size
    return jax.tree.unflatten(treedef, results)


def _sum_flat(layout: Layout, flat: jax.Array) -> jax.Array:
    if not layout.reproducible:
        return flat[0] if layout.mesh is None else jax.lax.psum(flat[0], DATA_AXIS)
    num_bytes = layout.num_shards * flat.shape[1] * flat.dtype.itemsize
    is_small = num_bytes < WORTH_A_SCATTER
    if layout.num_devices == 1 or is_small:
        if layout.mesh is not None:
            flat = jax.lax.all_gather(flat, DATA_AXIS, tiled=True, to="invarying")
        return _in_order(layout, flat) if is_small else _in_a_loop(flat)
    # Each device sums only a part of the columns, so it needs to receive only that part.
    num_columns = flat.shape[1]
    flat = jnp.pad(flat, ((0, 0), (0, -num_columns % layout.num_devices)))
    own_part = jax.lax.all_to_all(flat, DATA_AXIS, split_axis=1, concat_axis=0, tiled=True)
    total = jax.lax.all_gather(_in_order(layout, own_part), DATA_AXIS, tiled=True, to="invarying")
    return total[:num_columns]


def _in_order(layout: Layout, flat: jax.Array) -> jax.Array:
    """The sum of `[num_shards, ...]` over all shards, added in their order."""
    return functools.reduce(operator.add, [flat[i] for i in range(layout.num_shards)])


def _in_a_loop(flat: jax.Array) -> jax.Array:
    """The same sum where several devices would end it by a collective.

    Neither a collective nor a loop can be compiled into what comes next. Additions can, again in
    each kernel that takes the sum, and XLA then rounded the norm of a gradient differently.
    """
    return jax.lax.scan(lambda total, x: (total + x, None), flat[0], flat[1:])[0]


def mean_groups(layout: Layout, tree: Any) -> Any:
    """Means over the groups of all devices: `[num_groups, ...]` to replicated `[...]`."""
    scale = 1.0 / (layout.num_devices * layout.num_groups)
    return jax.tree.map(lambda x: x * scale, sum_groups(layout, tree))


def moments(
    layout: Layout, tree: Any, axis: int | tuple[int, ...] | None = None
) -> tuple[Any, Any]:
    """Mean and population variance over all devices and, within a group, over `axis`.

    It takes two passes, because the difference of two large sums would lose the variance of data
    far from zero.

    Args:
      layout: the layout.
      tree: float arrays `[num_groups, ...]`.
      axis: axes of one group's array to reduce; None reduces all.
    """

    def group_mean(tree: Any) -> Any:
        return jax.tree.map(lambda x: x.mean(axis), tree)

    def group_variance(tree: Any) -> Any:
        def variance(x: jax.Array, mean: jax.Array) -> jax.Array:
            kept = mean if axis is None else jnp.expand_dims(mean, axis)
            return jnp.square(x - jnp.broadcast_to(kept, x.shape)).mean(axis)

        return jax.tree.map(variance, tree, means)

    means = mean_groups(layout, map_groups(layout, group_mean, tree))
    return means, mean_groups(layout, map_groups(layout, group_variance, tree))


def weighted_moments(
    layout: Layout, x: jax.Array, weight: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean weight, and weighted mean and variance, over all devices and the last axis.

        w = E[weight],   m = E[weight x] / w,   v = E[weight (x - m)^2] / w

    Args:
      layout: the layout.
      x: float32 `[num_groups, ..., n]`.
      weight: float32 `[num_groups, ..., n]`, at least 0.

    Returns:
      `(w, m, v)`, each `[...]`; m and v are 0 where no sample has a weight.
    """

    def group_sums(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        return weight.mean(-1), _weighed(weight, x).mean(-1)

    def group_variance(x: jax.Array, weight: jax.Array) -> jax.Array:
        return _weighed(weight, jnp.square(x - mean[..., None])).mean(-1)

    share, total = mean_groups(layout, map_groups(layout, group_sums, x, weight))
    share_or_one = jnp.where(share > 0, share, 1.0)
    mean = total / share_or_one
    variance = mean_groups(layout, map_groups(layout, group_variance, x, weight)) / share_or_one
    return share, mean, variance


def _weighed(weight: jax.Array, x: jax.Array) -> jax.Array:
    """`weight * x`, and 0 where the weight is 0, whatever `x` is."""
    return jnp.where(weight > 0, weight * x, 0.0)
