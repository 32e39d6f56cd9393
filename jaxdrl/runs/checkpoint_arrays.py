"""Arrays in the archives of a checkpoint, which `numpy.load` opens without unpickling anything."""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdrl.core.trees import is_key, raw
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


def plain(array: np.ndarray) -> np.ndarray:
    """Types that NumPy lacks, such as bfloat16, as unsigned integers of the same size."""
    array = np.ascontiguousarray(array).reshape(array.shape)
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array


class _Digested:
    """Passes on what is written to a file, and digests it; `zipfile` finds no way back in it."""

    def __init__(self, file: Any) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def write_archive(path: Path, arrays: Iterable[tuple[str, np.ndarray]]) -> str:
    """Writes a new archive, one array after another, and returns its digest.

    No more than one array has to be in host memory at a time. The file is on the disk at the end.

    Args:
      path: of the file, which must not exist.
      arrays: their names and values.

    Raises:
      OSError: if it cannot be written.
    """
    with os.fdopen(os.open(path, NEW, 0o666), "wb") as file:
        digested = _Digested(file)
        with zipfile.ZipFile(digested, "w") as archive:  # type: ignore[call-overload]
            for name, array in arrays:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, plain(array), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    return digested.digest.hexdigest()


UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(KeyError, ValueError, EOFError, OSError, RuntimeError),
)
"""What reading a file that is no such archive may raise."""

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
    stored_as = np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype
    with archive.open(f"{name}.npy") as file:
        np.lib.format.read_magic(file)
        shape, fortran_order, stored = np.lib.format.read_array_header_1_0(file)
        if stored != stored_as or fortran_order or not fits(shape):
            raise damaged(path, f"has {name} as {stored}{list(shape)}")
        content = file.read(int(np.prod(shape)) * stored_as.itemsize)
    # A copy, since the buffer is neither writeable nor aligned.
    return np.frombuffer(content, stored_as).reshape(shape).copy().view(dtype)


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
