"""Arrays in the archives of a checkpoint, which `numpy.load` opens without unpickling anything."""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdrl.core.trees import is_key, raw
from jaxdrl.distributed.spread import pieces
from jaxdrl.errors import ConfigError
from jaxdrl.io.safe_files import NEW


class DamagedCheckpointError(ConfigError):
    """The files of a checkpoint are not what was written."""


def damaged(path: Path, how: str) -> DamagedCheckpointError:
    """The error for a file of a checkpoint."""
    return DamagedCheckpointError(f"{path}: {how}; this checkpoint is damaged")


def name_of(path: Any) -> str:
    """The name of a leaf of a state, by its path in the tree."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(state: Any) -> dict[str, Any]:
    """The leaves of a state by their names.

    Raises:
      ConfigError: if two of them have the same.
    """
    leaves = jax.tree_util.tree_leaves_with_path(state)
    named = {name_of(path): leaf for path, leaf in leaves}
    if len(named) != len(leaves):
        raise ConfigError(
            "state: two of its arrays have the same path; do not use / in their names"
        )
    return named


def _stored_as(dtype: np.dtype) -> np.dtype:
    """Types that NumPy lacks, such as bfloat16, are stored as unsigned integers of their size."""
    return np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype


class _Digested:
    """Passes on what is written to a file, and digests it; `zipfile` finds no way back in it."""

    def __init__(self, file: Any) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


class Archive:
    """A new archive that is written array after array; no more than a piece is in host memory.

    Args:
      path: of the file, which must not exist; it is created with the first array.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, None  # type: tuple[Path, Any]
        self.error: OSError | None = None  # of what has been written so far

    def add(self, name: str, array: Any) -> None:
        """Writes an array, of the host or of the devices of this process.

        Raises:
          OSError: if it cannot be written.
        """
        self._open()
        with self.zip.open(f"{name}.npy", "w", force_zip64=True) as entry:
            stored_as = np.lib.format.dtype_to_descr(_stored_as(np.dtype(array.dtype)))
            header = {"descr": stored_as, "fortran_order": False, "shape": tuple(array.shape)}
            np.lib.format.write_array_header_1_0(entry, header)
            for piece in pieces(array):
                entry.write(np.ascontiguousarray(piece).reshape(-1).view(np.uint8))

    def move(self, path: Path) -> None:
        """Renames the file, before it is complete or afterwards.

        Raises:
          OSError: if it cannot be renamed.
        """
        if self.path != path:
            self.path = self.path.rename(path)

    def finish(self) -> str:
        """Completes the file, which is on the disk then, and returns its digest.

        Raises:
          OSError: if it cannot be written.
        """
        self._open()
        self.zip.close()
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        return self.digested.digest.hexdigest()

    def abandon(self) -> None:
        """Closes and removes a file that is not complete; otherwise does nothing."""
        if self.file is None or self.file.closed:
            return
        for close in (self.zip.close, self.file.close, self.path.unlink):
            with contextlib.suppress(OSError):
                close()

    def _open(self) -> None:
        if self.file is None:
            self.file = os.fdopen(os.open(self.path, NEW, 0o666), "wb")
            self.digested = _Digested(self.file)
            self.zip = zipfile.ZipFile(self.digested, "w")  # type: ignore[call-overload]


def write_archive(
    path: Path, arrays: Iterable[tuple[str, Any]], begun: Archive | None = None
) -> str:
    """Writes a new archive, one array after another, and returns its digest.

    No more than one array has to be in host memory at a time. The file is on the disk at the end.

    Args:
      path: of the file, which must not exist.
      arrays: their names and values, as in `Archive.add`.
      begun: an archive with other arrays that becomes this one; None begins one.

    Raises:
      OSError: if it cannot be written, or the archive that was begun could not.
    """
    archive = begun or Archive(path)
    if archive.error is not None:
        raise archive.error
    archive.move(path)  # if its directory is not seen yet, the caller may try again
    try:
        for name, array in arrays:
            archive.add(name, array)
        return archive.finish()
    except BaseException:
        archive.abandon()
        raise


@dataclass(frozen=True)
class Staged:
    """Stands in a state for an array that is written already.

    Attributes:
      shape: of the array.
      dtype: likewise.
      archive: that it is in.
    """

    shape: tuple[int, ...]
    dtype: Any
    archive: Archive


def archive_of(state: Any) -> Archive | None:
    """The archive with the arrays of a state that are written already."""
    leaves = (leaf for leaf in jax.tree.leaves(state) if isinstance(leaf, Staged))
    return next((leaf.archive for leaf in leaves), None)


UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(KeyError, ValueError, EOFError, OSError, RuntimeError),
)
"""What reading a file that is no such archive may raise."""

READ_BYTES = 2**20
"""How much of an array is read at a time, beside which the archive needs memory of its own."""

Fits = Callable[[tuple[int, ...]], bool]
"""Whether an array may have a shape."""


def read_array(archive: zipfile.ZipFile, path: Path, name: str, like: Any, fits: Fits) -> Any:
    """An array of an archive.

    Args:
      archive: the archive.
      path: of its file.
      name: of the array.
      like: of the dtype that it must have.
      fits: whether the shape that it has there is as it must be.

    Raises:
      DamagedCheckpointError: if it is another array.
      UNREADABLE: if the file is not such an archive.
    """
    dtype = np.dtype(like.dtype)
    stored_as = _stored_as(dtype)
    with archive.open(f"{name}.npy") as file:
        np.lib.format.read_magic(file)
        shape, fortran_order, stored = np.lib.format.read_array_header_1_0(file)
        if stored != stored_as or fortran_order or not fits(shape):
            raise damaged(path, f"has {name} as {stored}{list(shape)}")
        array = np.empty(shape, stored_as)
        content = array.reshape(-1).view(np.uint8).data
        while content:
            content = content[_read_into(file, content[:READ_BYTES]) :]
        file.read()  # its end, where the archive compares the sum
    return array.view(dtype)


def _read_into(file: Any, content: memoryview) -> int:
    num = file.readinto(content)
    if num == 0:
        raise EOFError("it ends within an array")
    return num


def with_key(array: Any, leaf: Any) -> Any:
    """`array`, or the random keys that it has the data of if `leaf` describes keys."""
    return jax.random.wrap_key_data(array, impl=_key_impl(leaf)) if is_key(leaf) else array


def data_of(leaf: Any) -> Any:
    """Shape and dtype of a leaf that may be abstract; of the data of random keys."""
    return jax.eval_shape(raw, leaf)


def _key_impl(keys: Any) -> Any:
    """The implementation of abstract keys, which is known only while tracing."""
    found: list[Any] = []
    jax.eval_shape(lambda keys: found.append(jax.random.key_impl(keys)), keys)
    return found[0]
