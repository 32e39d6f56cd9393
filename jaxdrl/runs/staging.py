"""What a checkpoint takes of a state before the next step is given it.

The state is copied on its devices, and the copy is written while training goes on. A replay buffer
may be too large to be there twice: its large arrays are written to an archive at once, in pieces,
while the step waits (1 GB takes about a second).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.core.trees import is_key
from jaxdrl.distributed.spread import is_spread
from jaxdrl.io.safe_files import remove
from jaxdrl.runs.checkpoint import UNFINISHED
from jaxdrl.runs.checkpoint_arrays import Archive, Staged, name_of
from jaxdrl.runs.checkpoint_rows import blocks_of

REPLAY = "actor/replay/"
"""The path under which a state has its replay buffer."""

STAGED_BYTES = 2**25
"""From this size on, an array of a replay buffer is not copied."""


@jax.jit
def copy(tree: Any) -> Any:
    """A copy on the same devices, which survives the donation of the arrays."""
    return jax.tree.map(jnp.copy, tree)


def is_staged(path: Any, leaf: Any) -> bool:
    """Whether a leaf of a state, which may be abstract, is not copied for a checkpoint."""
    if is_key(leaf) or not name_of(path).startswith(REPLAY):
        return False
    return leaf.size * leaf.dtype.itemsize >= STAGED_BYTES


def is_any_staged(state: Any) -> bool:
    """Whether a state has anything that is not copied."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return any(is_staged(path, leaf) for path, leaf in leaves)


def to_copy(state: Any) -> Any:
    """A state with `None` for what is not copied of it."""

    def kept(path: Any, leaf: Any) -> Any:
        return None if is_staged(path, leaf) else leaf

    return jax.tree_util.tree_map_with_path(kept, state)


def begin(
    directory: Path, update: int, process: int, prepare: Callable[[], Any] = tuple
) -> Archive:
    """An archive for what is not copied, beside the checkpoints in `directory`.

    Args:
      directory: with the checkpoints of a run.
      update: updates done.
      process: which of several processes it is of.
      prepare: called first.
    """
    archive = Archive(directory / f"{UNFINISHED}{update:08d}-{process:05d}.npz")
    try:
        prepare()
        if directory.is_symlink():
            raise OSError(errno.ELOOP, "its directory is a symbolic link", str(directory))
        directory.mkdir(parents=True, exist_ok=True)
        remove(archive.path)
    except OSError as error:
        archive.error = error
    return archive


def take(state: Any, archive: Archive) -> Any:
    """What a checkpoint takes of a state, which may be donated afterwards.

    Args:
      state: the state.
      archive: gets what is not copied. Where it cannot be written, `archive.error` says so.

    Returns:
      A copy of the state, with a `Staged` for each array in the archive.
    """
    copied = copy(to_copy(state))

    def stage(path: Any, leaf: Any) -> Any:
        if not is_staged(path, leaf):
            return None
        _add(archive, name_of(path), leaf)
        return Staged(leaf.shape, leaf.dtype, archive)

    staged = jax.tree_util.tree_map_with_path(stage, state)
    both = (staged, copied)
    return jax.tree.map(lambda a, b: b if a is None else a, *both, is_leaf=lambda x: x is None)


def _add(archive: Archive, name: str, array: jax.Array) -> None:
    try:
        if archive.error is None and not is_spread(array):
            archive.add(name, array)
        elif archive.error is None:
            for block in blocks_of(name, array):
                archive.add(block.entry, block.data)
    except OSError as error:
        archive.error = error
        archive.abandon()
