"""How the logical shards of a run lie on the devices of a mesh.

The environments of a run are split into `num_shards` fixed logical shards, whatever the machine;
each of `num_devices` devices holds an equal number of them. On a device, shards are handled in
groups, and per-group arrays are `[num_groups, ...]`:

- fast mode: one group holds all shards of the device, merged into one batch;
- reproducible mode: one group is one shard, groups are computed one after another by the same
  program (`jax.lax.map`), and sums over shards are added in a fixed order, so that nothing
  depends on the number of devices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdrl.checks import require, require_divisor
from jaxdrl.distributed.mesh import DATA_AXIS, spans_processes
from jaxdrl.distributed.spread import spread

State = TypeVar("State")

REPLICATED = PartitionSpec()
ALONG_ENVS = PartitionSpec(DATA_AXIS)
ALONG_ENVS_IN_TIME = PartitionSpec(None, DATA_AXIS)


@dataclass(frozen=True)
class Layout:
    """How the logical shards are laid out on the devices.

    Attributes:
      mesh: the mesh, or None for one device without a mesh.
      reproducible: whether each group is one logical shard, computed separately.
      num_devices: number of devices along `DATA_AXIS`.
      num_groups: number of groups on one device.
      shards_per_group: number of logical shards in one group.
    """

    mesh: Mesh | None
    reproducible: bool
    num_devices: int
    num_groups: int
    shards_per_group: int

    @property
    def num_shards(self) -> int:
        """Number of logical shards over all devices."""
        return self.num_devices * self.num_groups * self.shards_per_group


def make_layout(num_shards: int, reproducible: bool, mesh: Mesh | None) -> Layout:
    """Lays out `num_shards` logical shards on the devices of `mesh`.

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
    """`function` as every device runs it on its part of the arrays.

    Without a mesh this is the function itself, and also inside a function that every device already
    runs, such as that of a population. `check_vma` verifies at trace time that replicated outputs
    are replicated. It may be switched off only for a function without collectives and gradients,
    such as a rollout, in which third-party environments may start a loop from a constant.
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
    """A copy of `state` on the devices of `mesh`, laid out by `specs`.

    Args:
      state: a state on the host or on any other mesh; it does not change. With a mesh of several
        processes, all of them call this with the same state, as in `spread`.
      mesh: the mesh; None places the state on the first device of this process.
      specs: `Algorithm.state_specs` of the algorithm that the state belongs to.
    """

    def put(spec: PartitionSpec, tree: Any) -> Any:
        if mesh is not None and spans_processes(mesh):
            target = NamedSharding(mesh, spec)
            return jax.tree.map(lambda x: spread(x, target), tree)
        device = jax.local_devices()[0] if mesh is None else NamedSharding(mesh, spec)
        return jax.device_put(tree, device, may_alias=False)

    return jax.tree.map(put, specs, state, is_leaf=is_spec)


def is_spec(x: Any) -> bool:
    """Whether `x` is a `PartitionSpec`, which JAX itself may treat as a pytree."""
    return isinstance(x, PartitionSpec)


def shard_ids(layout: Layout) -> jax.Array:
    """Global ids of the logical shards on this device, int32 `[num_groups, shards_per_group]`."""
    shape = (layout.num_groups, layout.shards_per_group)
    ids = jnp.arange(shape[0] * shape[1], dtype=jnp.int32).reshape(shape)
    if layout.mesh is None:
        return ids
    return ids + jax.lax.axis_index(DATA_AXIS) * (shape[0] * shape[1])


def varying(layout: Layout, tree: Any) -> Any:
    """Replicated values, marked as varying over the devices.

    Without this, `jax.grad` with respect to a replicated input inserts a sum over devices, and a
    mean taken afterwards leaves the gradient too large by a factor of the number of devices.
    """
    if layout.mesh is None:
        return tree
    return jax.tree.map(lambda x: jax.lax.pcast(x, DATA_AXIS, to="varying"), tree)
