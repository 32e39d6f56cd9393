"""The arrays of a checkpoint that several processes write: each the rows that it holds.

What all processes have alike is in `state.npz`, as in a checkpoint of one process. Process 1 has
written the rest of what its devices hold to `rows-00001.npz`: a block of an array is named after it
and after where it starts along each axis, such as `actor/obs@4,0`.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdrl.core.trees import raw
from jaxdrl.distributed.spread import is_spread
from jaxdrl.runs.checkpoint_arrays import (
    UNREADABLE,
    Archive,
    Staged,
    archive_of,
    damaged,
    named_leaves,
    read_array,
)

NUM_PROCESSES = "num_processes"
"""The field of a manifest with the number of processes that have written rows."""

_START = re.compile(r"@((?:\d{1,18}(?:,\d{1,18})*)?)\.npy")


class Block(NamedTuple):
    """A part of an array that is on one device of this process.

    Attributes:
      name: of the array.
      start: its first index along each axis.
      data: its values.
    """

    name: str
    start: tuple[int, ...]
    data: jax.Array

    @property
    def entry(self) -> str:
        """Its name in an archive."""
        return f"{self.name}@{','.join(map(str, self.start))}"


class Parts(NamedTuple):
    """What a process can write of a state.

    Attributes:
      whole: arrays that it holds as a whole, by name; those of process 0 are written.
      blocks: its share of the others, of which every number is one process's.
      num_members: for a population, how many members it has; otherwise None.
      begun: the archive with blocks that it has written already.
    """

    whole: dict[str, Any]
    blocks: list[Block]
    num_members: int | None
    begun: Archive | None = None


def split(state: Any) -> Parts:
    """What this process can write of a state; nothing is computed for it."""
    whole, blocks, leaves = {}, [], named_leaves(state)
    for name, leaf in leaves.items():
        if isinstance(leaf, Staged):
            continue
        array = raw(leaf)
        if is_spread(array):
            blocks += blocks_of(name, array)
        else:
            whole[name] = array
    members = getattr(leaves.get("learner/num_updates"), "shape", ())
    return Parts(whole, blocks, members[0] if members else None, archive_of(state))


def blocks_of(name: str, array: jax.Array) -> list[Block]:
    """The share of this process in an array that is spread over several."""
    blocks = []
    for shard in array.addressable_shards:
        if shard.replica_id == 0:
            start = tuple(index.indices(size)[0] for index, size in _axes(shard, array))
            blocks.append(Block(name, start, shard.data))
    return blocks


def _axes(shard: Any, array: jax.Array) -> Any:
    return zip(shard.index, array.shape, strict=True)


def file_name(process: int) -> str:
    """The name of the file with the rows of a process."""
    return f"rows-{process:05d}.npz"


def file_names(manifest: Mapping[str, Any]) -> list[str]:
    """The names of the files with rows beside a manifest; none where one process has written it."""
    return [file_name(process) for process in range(manifest.get(NUM_PROCESSES, 0))]


def read(path: Path, files: Sequence[str], wanted: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Arrays in host memory, put together from the rows of all processes; others are not read.

    Args:
      path: of the checkpoint.
      files: names of the files with rows.
      wanted: shape and dtype by name.

    Raises:
      DamagedCheckpointError: naming the file, or the array of which a number is missing or there
        twice.
    """
    arrays = {name: np.empty(like.shape, like.dtype) for name, like in wanted.items()}
    found: dict[str, list[tuple[list[int], tuple[int, ...]]]] = {name: [] for name in wanted}
    for file in [path / name for name in files if wanted]:
        try:
            with zipfile.ZipFile(file) as archive:
                for entry in archive.namelist():
                    start = _START.search(entry)
                    if start is None or start.end() != len(entry):
                        raise damaged(file, f"has {entry}, which is not a part of an array")
                    if (name := entry[: start.start()]) in wanted:
                        at = [int(number) for number in start[1].split(",") if number]
                        block = _read_block(archive, file, entry, arrays[name], at)
                        found[name].append((at, block.shape))
        except UNREADABLE as error:
            raise damaged(file, f"is not an archive of these arrays ({error})") from error
    for name, array in arrays.items():
        if not _is_covered(array.shape, found[name]):
            raise damaged(path, f"its files do not have every number of {name} exactly once")
    return arrays


def _read_block(
    archive: zipfile.ZipFile, file: Path, entry: str, array: np.ndarray, start: list[int]
) -> np.ndarray:
    """Reads a block into its place in `array`, and returns it."""

    def fits(shape: tuple[int, ...]) -> bool:
        if not len(start) == len(shape) == array.ndim:
            return False
        places = zip(start, shape, array.shape, strict=True)
        return all(0 <= num <= size - first for first, num, size in places)

    block = read_array(archive, file, entry.removesuffix(".npy"), array, fits)
    array[tuple(slice(a, a + n) for a, n in zip(start, block.shape, strict=True))] = block
    return block


def _is_covered(shape: tuple[int, ...], blocks: list[tuple[list[int], tuple[int, ...]]]) -> bool:
    """Whether blocks, each within the array, contain every element once."""
    if not blocks:
        return False
    starts, sizes = (np.array(numbers, np.int64) for numbers in zip(*blocks, strict=True))
    before = (starts[:, None] < (starts + sizes)[None]).all(axis=-1)
    overlap = np.triu(before & before.T, k=1)
    return not overlap.any() and int(sizes.prod(axis=1).sum()) == int(np.prod(shape))
