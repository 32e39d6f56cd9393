"""Arrays whose parts lie in several processes, each of which can only read its own devices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache, partial
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


PIECE_BYTES = 2**24
"""Size of a piece of an array; that of a larger one would only need more memory."""


def pieces(array: Any) -> Iterator[np.ndarray]:
    """The whole of an array in host memory, as `fetch` gives it, piece by piece in row-major order.

    An array of more than `PIECE_BYTES` on the devices of this process has pieces of no more, and
    can be donated in place afterwards, while a view of it on the host would lead to a copy.
    """
    data = raw(array)
    if data.nbytes <= PIECE_BYTES or is_spread(data):
        yield fetch(data)
        return
    read = partial(_read, data) if isinstance(data, jax.Array) else partial(_view, data)
    yield from (read(start, sizes) for start, sizes in _regions(data.shape, data.dtype.itemsize))


def _regions(
    shape: tuple[int, ...], itemsize: int
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """`(start, sizes)` of the pieces of an array: rows along one axis, at one place of the others.

    Axes before that one have size 1 in a piece, and those after it their own.
    """
    sizes = [itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    axis = next(axis for axis, size in enumerate(sizes) if size <= PIECE_BYTES)
    num, after = PIECE_BYTES // sizes[axis], shape[axis + 1 :]
    for before in np.ndindex(*shape[:axis]):
        for first in range(0, shape[axis], num):
            start = (*before, first, *(0 for _ in after))
            yield start, (*(1 for _ in before), min(num, shape[axis] - first), *after)


def _view(array: np.ndarray, start: tuple[int, ...], sizes: tuple[int, ...]) -> np.ndarray:
    return array[tuple(slice(a, a + n) for a, n in zip(start, sizes, strict=True))]


def _read(array: jax.Array, start: tuple[int, ...], sizes: tuple[int, ...]) -> np.ndarray:
    """A region of an array on the devices of this process, put together from its shards."""
    region = np.empty(sizes, array.dtype)
    for shard in array.addressable_shards:
        if shard.replica_id != 0:
            continue
        own = (index.indices(size) for index, size in zip(shard.index, array.shape, strict=True))
        where, local, shared = [], [], []
        for first, num, (low, high, _) in zip(start, sizes, own, strict=True):
            begin, end = max(first, low), min(first + num, high)
            where.append(slice(begin - first, end - first))
            local.append(np.int32(begin - low))
            shared.append(end - begin)
        if min(shared) > 0:
            part = np.asarray(_slice(shard.data, tuple(local), sizes=tuple(shared)))
            if part.shape == region.shape:
                return part
            region[tuple(where)] = part
    return region


@partial(jax.jit, static_argnames="sizes")
def _slice(array: jax.Array, start: tuple[Any, ...], *, sizes: tuple[int, ...]) -> jax.Array:
    # Not a view on the host, which would keep the array from being donated.
    return jax.lax.dynamic_slice(array, start, sizes)


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
