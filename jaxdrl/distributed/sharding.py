"""Logical shards on the devices of a mesh, and the only collectives of the library.

The environments of a run are split into `num_shards` fixed logical shards, whatever the machine;
each of `num_devices` devices holds an equal number of them. On a device, shards are handled in
groups, and per-group arrays are `[num_groups, ...]`:

- fast mode: one group holds all shards of the device, merged into one batch;
- reproducible mode: one group is one shard, groups are computed one after another by the same
  program (`jax.lax.map`), and sums over shards are added in a fixed order, so that nothing
  depends on how many devices there are.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdrl.checks import require, require_divisor
from jaxdrl.distributed import microbatches
from jaxdrl.distributed.mesh import DATA_AXIS

State = TypeVar("State")

ROW_BYTES = 2048
"""What a row of a loop over groups weighs at least: XLA compiles a loop over few bytes in one piece
with its surroundings, and adds up in another order there (jaxlib 0.10.2 and 0.11.2; below 1 KB)."""

WORTH_A_SCATTER = 2**18
"""Bytes of a shard above which a sum in the order of the shards takes two collectives that send
`(1 - 1 / D) * (L / D + 1)` times as much from a device, in place of one of `(1 - 1 / D) * L`."""

REPLICATED = PartitionSpec()
ALONG_ENVS = PartitionSpec(DATA_AXIS)
ALONG_ENVS_IN_TIME = PartitionSpec(None, DATA_AXIS)


@dataclass(frozen=True)
class Layout:
    """How the logical shards lie on the devices.

    Attributes:
      mesh: the mesh, None for one device without a mesh.
      reproducible: whether each group is one logical shard, computed apart.
      num_devices: devices along `DATA_AXIS`.
      num_groups: groups on one device.
      shards_per_group: logical shards in one group.
    """

    mesh: Mesh | None
    reproducible: bool
    num_devices: int
    num_groups: int
    shards_per_group: int

    @property
    def num_shards(self) -> int:
        """Logical shards over all devices."""
        return self.num_devices * self.num_groups * self.shards_per_group


def make_layout(num_shards: int, reproducible: bool, mesh: Mesh | None) -> Layout:
    """Lays `num_shards` logical shards on the devices of `mesh`.

    Raises:
      ConfigError: if the mesh has no axis `data` or its size does not divide `num_shards`.
    """
    num_devices = 1
    if mesh is not None:
        require(
            DATA_AXIS in mesh.axis_names,
            "mesh.axis_names",
            mesh.axis_names,
            f"must contain {DATA_AXIS!r}; jaxdrl.make_mesh() makes such a mesh",
        )
        num_devices = mesh.shape[DATA_AXIS]
    require_divisor("devices", num_devices, num_shards)
    shards_per_device = num_shards // num_devices
    num_groups = shards_per_device if reproducible else 1
    return Layout(mesh, reproducible, num_devices, num_groups, shards_per_device // num_groups)


def shard(
    layout: Layout, function: Callable, in_specs: Any, out_specs: Any, *, check_vma: bool = True
) -> Callable:
    """`function` run by every device on its part of the arrays; itself where there is no mesh.

    It is itself, too, inside a function that every device runs already, as that of a population is.
    `check_vma` proves at trace time that what is replicated is so. Only a function without
    collectives and gradients may do without, such as a rollout, whose environments are not ours
    and may start a loop from a constant.
    """
    if layout.mesh is None:
        return function
    mapped = jax.shard_map(
        function, mesh=layout.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=check_vma
    )

    def on_devices(*args: Any) -> Any:
        inside = DATA_AXIS in jax.sharding.get_abstract_mesh().manual_axes
        return function(*args) if inside else mapped(*args)

    return on_devices


def place(state: State, mesh: Mesh | None, specs: Any) -> State:
    """A copy of `state` on the devices of `mesh`, as `specs` say.

    Args:
      state: from the host or from any other mesh; it is left alone.
      mesh: None places it on the first device.
      specs: `Algorithm.state_specs` of the algorithm whose state it is.
    """

    def put(spec: PartitionSpec, tree: Any) -> Any:
        target = jax.devices()[0] if mesh is None else NamedSharding(mesh, spec)
        return jax.device_put(tree, target, may_alias=False)

    return jax.tree.map(put, specs, state, is_leaf=is_spec)


def is_spec(x: Any) -> bool:
    """Whether it is a leaf of a tree of `PartitionSpec`, which may be a pytree to JAX itself."""
    return isinstance(x, PartitionSpec)


def shard_ids(layout: Layout) -> jax.Array:
    """Global ids of the logical shards on this device, int32 `[num_groups, shards_per_group]`."""
    shape = (layout.num_groups, layout.shards_per_group)
    ids = jnp.arange(shape[0] * shape[1], dtype=jnp.int32).reshape(shape)
    if layout.mesh is None:
        return ids
    return ids + jax.lax.axis_index(DATA_AXIS) * (shape[0] * shape[1])


def varying(layout: Layout, tree: Any) -> Any:
    """Replicated values marked as each device's own.

    Without it `jax.grad` of a replicated input inserts a sum over devices of its own, and a mean
    taken afterwards leaves the gradient too large by the number of devices.
    """
    if layout.mesh is None:
        return tree
    return jax.tree.map(lambda x: jax.lax.pcast(x, DATA_AXIS, to="varying"), tree)


def split_groups(layout: Layout, tree: Any, axis: int = 0) -> Any:
    """Splits the environment axis of a device's arrays: `[..., N, ...]` to `[G, ..., N/G, ...]`."""

    def split(x: jax.Array) -> jax.Array:
        # Not -1, which an array without elements leaves open.
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
    """`function` of each group, arrays `[num_groups, ...]`; in reproducible mode in turn."""
    if layout.reproducible:
        always = shard_ids(layout)[:, 0] >= 0  # which the compiler cannot tell
        return in_turn(function, always, *trees, mark=functools.partial(varying, layout))
    result = function(*jax.tree.map(lambda x: x[0], trees))
    return jax.tree.map(lambda x: x[None], result)


def in_turn(
    function: Callable, always: jax.Array, *trees: Any, mark: Callable = lambda tree: tree
) -> Any:
    """`function` of each row of arrays `[n, ...]`, one after another, with the same bits for any n.

    The rows go through a program of their own, a branch that is always taken: XLA would otherwise
    inline a loop over a single row, fuse it with its surroundings, and round other than in a loop
    over several.

    Args:
      function: of one row of each of `trees`.
      always: bool `[n]`, all true, but not so that the compiler knows.
      *trees: arrays `[n, ...]`.
      mark: gives constants the type that results have on several devices.
    """

    def isolated(args: tuple) -> Any:
        ballast, trees = args
        is_true = ballast.all()

        def own(trees: tuple) -> Any:
            # By `where` a constant becomes each device's own, as both branches have to agree.
            def depend(x: jax.Array) -> jax.Array:
                is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
                return x if is_key else jnp.where(is_true, x, x)

            return jax.tree.map(depend, function(*trees))

        def other(trees: tuple) -> Any:
            shapes = jax.eval_shape(function, *trees)
            return mark(jax.tree.map(lambda x: jax.lax.full(x.shape, 0, x.dtype), shapes))

        return jax.lax.cond(is_true, own, other, trees)

    # All true, too, and as little known to the compiler.
    true = jnp.arange(ROW_BYTES)[None] >= always[0].astype(jnp.int32) - 1
    ballast = always[:, None] & true
    return jax.lax.map(isolated, (ballast, trees))


@jax.named_scope("all-reduce")
def sum_groups(layout: Layout, tree: Any) -> Any:
    """Sums over the groups of all devices: `[num_groups, ...]` to replicated `[...]`.

    Every leaf of a dtype goes through the same collective: one all-reduce in fast mode. In
    reproducible mode the shards are added up in their order after one all-gather, or where they
    are large between an all-to-all and an all-gather, for the same bits.
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
    if layout.mesh is None:
        return _in_order(layout, flat)
    if layout.num_devices == 1 or flat.shape[1] * flat.dtype.itemsize < WORTH_A_SCATTER:
        flat = jax.lax.all_gather(flat, DATA_AXIS, tiled=True, to="invarying")
        return _in_order(layout, flat)
    # Each device adds up a part of the columns for all, and so receives that part alone.
    num_columns = flat.shape[1]
    flat = jnp.pad(flat, ((0, 0), (0, -num_columns % layout.num_devices)))
    own_part = jax.lax.all_to_all(flat, DATA_AXIS, split_axis=1, concat_axis=0, tiled=True)
    total = jax.lax.all_gather(_in_order(layout, own_part), DATA_AXIS, tiled=True, to="invarying")
    return total[:num_columns]


def _in_order(layout: Layout, flat: jax.Array) -> jax.Array:
    """The sum over all shards, `[num_shards, ...]`, added up in their order."""
    return functools.reduce(operator.add, [flat[i] for i in range(layout.num_shards)])


def mean_groups(layout: Layout, tree: Any) -> Any:
    """Means over the groups of all devices: `[num_groups, ...]` to replicated `[...]`."""
    scale = 1.0 / (layout.num_devices * layout.num_groups)
    return jax.tree.map(lambda x: x * scale, sum_groups(layout, tree))


def moments(
    layout: Layout, tree: Any, axis: int | tuple[int, ...] | None = None
) -> tuple[Any, Any]:
    """Mean and population variance over all devices and, within a group, over `axis`.

    Two passes, since the difference of two large sums loses the variance of data far from zero.

    Args:
      layout: the layout.
      tree: float arrays `[num_groups, ...]`.
      axis: axes of one group's array to reduce; None takes all.
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


@jax.named_scope("gradients")
def value_and_gradient(
    layout: Layout,
    loss: Callable[[Any, Any], tuple[jax.Array, Any]],
    params: Any,
    batch: Any,
    num_parts: int | None = 1,
    row_length: int = 1,
) -> tuple[Any, Any]:
    """Gradient of the mean loss over all groups of all devices, and the mean of the auxiliaries.

    Args:
      layout: the layout.
      loss: `(params, batch of one group) -> (loss, auxiliaries)`, a mean over the batch.
      params: replicated parameters.
      batch: pytree of `[num_groups, ...]`; groups have equal sizes, so the mean of their means is
        the mean over all.
      num_parts: equal parts of a group's batch whose gradients are computed one after another,
        so that the activations of one part at a time are in memory; None chooses by the machine.
      row_length: samples in a row of the batch.

    Returns:
      `(gradient, auxiliaries)`, replicated, through one collective.
    """
    own_params = varying(layout, params)

    def of_part(batch: Any) -> tuple[Any, Any]:
        (_, auxiliaries), gradient = jax.value_and_grad(loss, has_aux=True)(own_params, batch)
        return gradient, auxiliaries

    def of_group(batch: Any) -> tuple[Any, Any]:
        num = num_parts or microbatches.num_parts(
            jax.tree.leaves(batch)[0].shape[0],
            jax.devices()[0] if layout.mesh is None else layout.mesh.devices.flat[0],
            reproducible=layout.reproducible,
            row_length=row_length,
        )
        if num == 1:
            return of_part(batch)
        split = jax.tree.map(lambda x: x.reshape(num, -1, *x.shape[1:]), batch)

        def add(total: Any, part: Any) -> tuple[Any, Any]:
            gradient, auxiliaries = of_part(part)
            return jax.tree.map(jnp.add, total, gradient), auxiliaries

        total, auxiliaries = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, own_params), split)
        mean = jax.tree.map(lambda x: x / num, total)
        return mean, jax.tree.map(lambda x: x.mean(axis=0), auxiliaries)

    return mean_groups(layout, map_groups(layout, of_group, batch))
