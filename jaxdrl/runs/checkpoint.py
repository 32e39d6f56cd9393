"""Checkpoints: the whole state of a run, stored independently of devices and verified when read.

A checkpoint is a directory of three files: `state.npz` has an array for each leaf of the state
(`numpy.load` opens it), `manifest.json` describes them and the progress of the run, and
`SHA256SUMS` has the digests of both (`sha256sum -c` reads it). The directory is renamed to its name
last, so that a checkpoint with a name is complete. Nothing in it is code, and nothing is unpickled.

Why not Orbax: for the state of a small network, a save took 100 to 290 ms of the training thread,
while this takes 8 ms of another thread; and Orbax loaded flipped bytes without an error.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdrl.core import keys
from jaxdrl.core.trees import is_key, raw
from jaxdrl.distributed.spread import fetch
from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import finite, read_object
from jaxdrl.io.safe_files import open_existing, sync
from jaxdrl.io.safe_files import remove as remove_whole
from jaxdrl.runs.run_dir import require_format

FORMAT_VERSION = 2
"""Version of the format of a checkpoint."""

STATE_FILE = "state.npz"
MANIFEST_FILE = "manifest.json"
DIGESTS_FILE = "SHA256SUMS"
UNFINISHED = ".writing-"
PUT_BACK = "put back a copy of the checkpoint"

_DIGESTS = re.compile(rb"[0-9a-f]{64}  manifest\.json\n[0-9a-f]{64}  state\.npz\n")
"""The content of `SHA256SUMS`."""


class DamagedCheckpointError(ConfigError):
    """The files of a checkpoint are not what was written."""


def path_of(directory: Path, update: int) -> Path:
    """The path of the checkpoint of `update`."""
    return directory / f"{update:08d}"


def updates_in(directory: Path) -> list[int]:
    """The updates of the checkpoints in `directory`, ascending, including damaged ones."""
    if not directory.is_dir():
        return []
    names = [path.name for path in directory.iterdir() if path.name.isdecimal()]
    return sorted(int(name) for name in names if name == path_of(directory, int(name)).name)


def to_host(state: Any) -> dict[str, np.ndarray]:
    """The leaves of `state` on the host by their paths; random keys as their data.

    Where the state is spread over processes, all of them must call this, as in `fetch`.
    """
    leaves = jax.tree_util.tree_leaves_with_path(state)
    arrays = {_name(path): fetch(leaf) for path, leaf in leaves}
    if len(arrays) != len(leaves):
        raise ConfigError(
            "state: two of its arrays have the same path; do not use / in their names"
        )
    return arrays


def describe(state: Any) -> dict[str, list]:
    """`{path: [dtype, shape]}` of the leaves of a state, which may be abstract."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {_name(path): [str(leaf.dtype), list(leaf.shape)] for path, leaf in leaves}


def write(
    directory: Path,
    update: int,
    arrays: dict[str, np.ndarray],
    described: dict[str, list],
    manifest: dict[str, Any],
) -> Path:
    """Writes a checkpoint and returns its path; one of the same update is replaced.

    Args:
      directory: with the checkpoints of a run.
      update: updates done.
      arrays: from `to_host`.
      described: from `describe`.
      manifest: JSON that is stored with them.

    Raises:
      OSError: if it cannot be written; then nothing of it is left.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **{name: _plain(array) for name, array in arrays.items()})  # type: ignore[arg-type]
    manifest = {"format_version": FORMAT_VERSION, "update": update, **manifest}
    files = {
        MANIFEST_FILE: json.dumps(finite(manifest | {"arrays": described}), indent=1).encode(),
        STATE_FILE: buffer.getvalue(),
    }
    files[DIGESTS_FILE] = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()
    ).encode()
    path, unfinished = path_of(directory, update), directory / f"{UNFINISHED}{update:08d}"
    try:
        if directory.is_symlink():
            raise OSError(errno.ELOOP, "its directory is a symbolic link", str(directory))
        remove_whole(unfinished)
        unfinished.mkdir(parents=True)
        for name, content in files.items():
            (unfinished / name).write_bytes(content)
            sync(unfinished / name)
        sync(unfinished)
        remove(directory, update)
        unfinished.rename(path)
    except OSError:
        _clear(unfinished)
        raise
    with contextlib.suppress(
        OSError
    ):  # it is written, though perhaps not safe from a loss of power
        sync(directory)
        sync(directory.parent)
    return path


def remove(directory: Path, update: int) -> None:
    """Removes a checkpoint; it is renamed first, so that an incomplete one never has a name."""
    condemned = directory / f"{UNFINISHED}removed-{update:08d}"
    _clear(condemned)
    with contextlib.suppress(FileNotFoundError):
        path_of(directory, update).rename(condemned)
    _clear(condemned)


def remove_unfinished(directory: Path) -> None:
    """Removes what a killed process left half written or half removed."""
    for path in directory.glob(f"{UNFINISHED}*"):
        _clear(path)


def _clear(path: Path) -> None:
    """Removes what can be removed."""
    with contextlib.suppress(OSError):
        remove_whole(path)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, once the digests of all files are verified.

    Raises:
      DamagedCheckpointError: naming the file.
      ConfigError: if it has another format, or the directory has the number of another update.
    """
    try:
        with open_existing(path / DIGESTS_FILE) as file:
            digests = file.read(1000)
    except OSError as error:
        raise _damaged(path / DIGESTS_FILE, f"cannot be read ({error.strerror})") from error
    if not _DIGESTS.fullmatch(digests):
        raise _damaged(path / DIGESTS_FILE, "does not have a digest of each file")
    for name, line in zip((MANIFEST_FILE, STATE_FILE), digests.splitlines(), strict=True):
        try:
            with open_existing(path / name) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _damaged(path / name, f"cannot be read ({error.strerror})") from error
        if line != f"{digest}  {name}".encode():
            raise _damaged(path / name, f"does not have the digest that {DIGESTS_FILE} gives")
    manifest = read_object(path / MANIFEST_FILE, PUT_BACK)
    require_format(str(path), manifest.get("format_version"), FORMAT_VERSION)
    if path_of(path.parent, manifest["update"]).name != path.name:
        raise ConfigError(
            f"{path}: is the checkpoint of update {manifest['update']} under another number; "
            "rename it back"
        )
    return manifest


def with_stored_keys(path: Path, abstract: Any) -> Any:
    """`abstract` with random keys of the stored kinds, JAX's default when they were made."""
    stored = json.loads((path / MANIFEST_FILE).read_bytes())["arrays"]

    def of_kind(where: Any, leaf: Any) -> Any:
        dtype, *_ = stored.get(_name(where), [""])
        return keys.of_kind(leaf, dtype)

    return jax.tree_util.tree_map_with_path(of_kind, abstract)


def load(path: Path, abstract: Any, what: str) -> Any:
    """The state in a checkpoint that `read_manifest` has verified, in host memory.

    Args:
      path: of the checkpoint.
      abstract: the shapes and dtypes that the arrays must have, as a tree: the whole state or a
        part of it under the same paths. They are checked before anything is read.
      what: what messages call the origin of `abstract`.

    Raises:
      ConfigError: naming the first array that is missing or has another shape or dtype.
      DamagedCheckpointError: if `state.npz` does not hold what the manifest says.
    """
    expected = describe(abstract)
    stored = read_object(path / MANIFEST_FILE, PUT_BACK)["arrays"]
    whole = "learner/num_updates" in expected
    for name in expected | (stored if whole else {}):
        here, there = (_text(arrays.get(name)) for arrays in (expected, stored))
        if here != there:
            raise ConfigError(f"{path}: does not fit {what}: {name} is {there} there, {here} here")
    leaves, treedef = jax.tree_util.tree_flatten_with_path(abstract)
    try:
        with zipfile.ZipFile(path / STATE_FILE) as archive:
            arrays = [_read_leaf(archive, path, _name(where), leaf) for where, leaf in leaves]
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise _damaged(path / STATE_FILE, f"is not an archive of these arrays ({error})") from error
    return jax.tree.unflatten(treedef, arrays)


def _read_leaf(archive: zipfile.ZipFile, path: Path, name: str, leaf: Any) -> Any:
    data = jax.eval_shape(raw, leaf)
    dtype = np.dtype(data.dtype)
    plain = np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype
    with archive.open(f"{name}.npy") as file:
        np.lib.format.read_magic(file)
        shape, fortran_order, stored = np.lib.format.read_array_header_1_0(file)
        if (shape, stored) != (data.shape, plain) or fortran_order:
            raise _damaged(path / STATE_FILE, f"has {name} as {stored}{list(shape)}")
        content = file.read(data.size * plain.itemsize)
    # A copy, since the buffer is neither writeable nor aligned.
    array = np.frombuffer(content, plain).reshape(shape).copy().view(dtype)
    return jax.random.wrap_key_data(array, impl=_key_impl(leaf)) if is_key(leaf) else array


def _key_impl(keys: Any) -> Any:
    """The implementation of abstract keys, which is known only while tracing."""
    found: list[Any] = []
    jax.eval_shape(lambda keys: found.append(jax.random.key_impl(keys)), keys)
    return found[0]


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _plain(array: np.ndarray) -> np.ndarray:
    """Types that NumPy lacks, such as bfloat16, as unsigned integers of the same size."""
    array = np.ascontiguousarray(array).reshape(array.shape)
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array


def _text(described: list | None) -> str:
    return "missing" if described is None else f"{described[0]}{described[1]}"


def _damaged(path: Path, how: str) -> DamagedCheckpointError:
    return DamagedCheckpointError(f"{path}: {how}; this checkpoint is damaged")
