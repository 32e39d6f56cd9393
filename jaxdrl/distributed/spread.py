"""Arrays whose parts lie in several processes, each of which can only read its own devices."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdrl.core.trees import is_key, raw
from jaxdrl.distributed.mesh import spans_processes


def is_spread(array: Any) -> bool:
    """Whether no process alone holds all of an array; random keys as their data."""
    return isinstance(array, jax.Array) and not (
        array.is_fully_addressable or array.is_fully_replicated
    )


def spread(array: Any, target: NamedSharding) -> jax.Array:
    """A copy of an array on the devices of several processes, all of which call this.

    Args:
      array: the same in every process, on the host or on devices of this process; or already on the
        devices of `target`, in any layout.
      target: the layout.
    """
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return jax.jit(jnp.copy, out_shardings=target)(array)
    if is_key(array):
        data = spread(raw(array), target)
        return jax.random.wrap_key_data(jnp.asarray(data), impl=jax.random.key_impl(array))
    whole = np.asarray(array)
    parts = [
        jax.device_put(whole[index], device, may_alias=False)
        for device, index in target.addressable_devices_indices_map(whole.shape).items()
    ]
    return jax.make_array_from_single_device_arrays(whole.shape, target, parts)


def fetch(array: Any) -> np.ndarray:
    """The whole of an array in host memory; random keys as their data.

    Where the array is spread over processes, all of them must call this, for the same arrays in the
    same order: its parts are sent to every process.
    """
    data = raw(array)
    if is_spread(data):
        data = _gathering(NamedSharding(data.sharding.mesh, PartitionSpec()))(data)
    return np.asarray(jax.device_get(data))


def everywhere(tree: Any, mesh: Mesh | None) -> Any:
    """Traced arrays, which every process gets whole where the mesh spans several of them."""
    if mesh is None or not spans_processes(mesh):
        return tree
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, whole), tree)


def fetch_tree(tree: Any) -> Any:
    """A tree of arrays whole in host memory, with its random keys; called as `fetch` is."""

    def whole(array: Any) -> Any:
        data = fetch(array)
        if not is_key(array):
            return data
        return jax.random.wrap_key_data(jnp.asarray(data), impl=jax.random.key_impl(array))

    return jax.tree.map(whole, tree)


@lru_cache
def _gathering(everywhere: NamedSharding) -> Any:
    return jax.jit(lambda x: x, out_shardings=everywhere)
