"""A checkpoint that several processes write together, each the rows of the state that it holds.

Process 0 makes the directory and says so; the others write into it and say what they have written;
process 0 adds the rest, renames the directory and says that it is done. All of it goes through the
store of `Hosts` and the disk that the processes share: nothing runs on the devices, which train on.
"""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxdrl.core.finiteness import members_with_nonfinite
from jaxdrl.distributed.hosts import Hosts
from jaxdrl.runs import checkpoint
from jaxdrl.runs.checkpoint_arrays import write_archive
from jaxdrl.runs.checkpoint_rows import NUM_PROCESSES, Parts, file_name

SEEN_SECONDS = 5.0
"""How long it may take until a host sees what another has written to the disk that they share."""

SHARED = "the run directory must be on a disk that all hosts share"

Found = TypeVar("Found")


class NotFiniteError(Exception):
    """A state is not written because it is not finite, of a population no member."""


def write(
    hosts: Hosts,
    key: str,
    directory: Path,
    update: int,
    parts: Parts,
    described: dict[str, list],
    manifest: dict[str, Any],
    prepare: Callable[[], Any],
) -> None:
    """Writes a checkpoint together with the other processes; for process 0.

    Args:
      hosts: the processes.
      key: of this save and no other.
      directory: with the checkpoints of a run.
      update: updates done.
      parts: what this process holds of the state.
      described: from `checkpoint.describe`.
      manifest: JSON that is stored with them.
      prepare: called before anything is written.

    Raises:
      NotFiniteError: naming an array; nothing is written.
      OSError: if any of the processes cannot write its part; then nothing of it is left.
    """
    is_written = False
    try:
        found = _Nonfinite(parts.num_members)
        for name, array in parts.whole.items():
            found.look(name, (), np.asarray(array))
        found.require_some_finite()
        prepare()
        with checkpoint.unfinished(directory, update) as where:
            hosts.post(f"{key}/begin", True)
            digests = _write_arrays(hosts, key, where, parts, found)
            found.require_some_finite()
            manifest = manifest | {NUM_PROCESSES: hosts.count}
            text = checkpoint.manifest_text(update, described, manifest)
            checkpoint.write_file(where / checkpoint.MANIFEST_FILE, text)
            digests = {checkpoint.MANIFEST_FILE: hashlib.sha256(text).hexdigest(), **digests}
            sums = checkpoint.digests_text(digests)
            checkpoint.write_file(where / checkpoint.DIGESTS_FILE, sums)
        is_written = True
    finally:
        hosts.post(f"{key}/begin", is_written)
        hosts.post(f"{key}/done", is_written)


def join(hosts: Hosts, key: str, directory: Path, update: int, parts: Parts) -> bool:
    """Writes the rows of this process; returns whether there is a checkpoint in the end.

    Args:
      hosts: the processes, of which this one is not the first.
      key: as in `write`.
      directory: likewise.
      update: likewise.
      parts: likewise.
    """
    if not hosts.wait(f"{key}/begin"):
        return False
    path, me = checkpoint.unfinished_path(directory, update), hosts.name(hosts.index)
    try:
        report = _once_seen(lambda: _write_rows(path / file_name(hosts.index), parts))
    except FileNotFoundError:
        report = {"error": f"{me} does not see {path}; {SHARED}"}
    except OSError as error:
        report = {"error": f"{me}: {path}: {error.strerror or error}"}
    except Exception as error:
        hosts.post(f"{key}/rows/{hosts.index}", {"error": f"{me}: {error!r}"})
        raise
    hosts.post(f"{key}/rows/{hosts.index}", report)
    return hosts.wait(f"{key}/done")


@dataclass
class _Nonfinite:
    """The arrays of a learner that hold NaN or infinity, and the members that they are of."""

    num_members: int | None
    names: list[str] = field(default_factory=list)
    members: set[int] = field(default_factory=set)

    def look(self, name: str, start: tuple[int, ...], array: np.ndarray) -> None:
        """Looks at the block of an array that starts at `start`, or at a whole array."""
        has_members = self.num_members is not None
        rows = members_with_nonfinite(name, array, array.shape[0] if has_members else 1)
        first = start[0] if has_members and start else 0
        self.add([name] if rows.any() else [], (np.flatnonzero(rows) + first).tolist())

    def add(self, names: Iterable[str], members: Iterable[int]) -> None:
        self.names += names
        self.members |= set(members)

    def require_some_finite(self) -> None:
        if len(self.members) == (self.num_members or 1):
            raise NotFiniteError(f"{self.names[0]} holds NaN or infinity")


def _write_arrays(
    hosts: Hosts, key: str, where: Path, parts: Parts, found: _Nonfinite
) -> dict[str, str]:
    """Writes the archives of all processes, and returns their digests by name."""
    try:
        whole = ((name, np.asarray(array)) for name, array in parts.whole.items())
        digests = {checkpoint.STATE_FILE: write_archive(where / checkpoint.STATE_FILE, whole)}
        reports = [_write_rows(where / file_name(0), parts)]
    finally:  # also of this process: none of them is to write into what is removed
        others = [hosts.wait(f"{key}/rows/{index}") for index in range(1, hosts.count)]
    for index, report in enumerate(reports + others):
        if "error" in report:
            raise OSError(report["error"])
        path = where / file_name(index)
        try:
            num_bytes = _once_seen(path.stat).st_size
        except FileNotFoundError:
            num_bytes = -1
        if num_bytes != report["num_bytes"]:
            raise OSError(f"{path} of {hosts.name(index)} is not seen by {hosts.name(0)}; {SHARED}")
        found.add(report["names"], report["members"])
        digests[path.name] = report["sha256"]
    return digests


def _write_rows(path: Path, parts: Parts) -> dict[str, Any]:
    """Writes the rows of this process, and returns what is said of them to process 0."""
    found = _Nonfinite(parts.num_members)

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        for block in parts.blocks:
            array = np.asarray(block.data)
            found.look(block.name, block.start, array)
            yield block.entry, array

    digest = write_archive(path, arrays(), parts.begun)
    return {
        "sha256": digest,
        "num_bytes": path.stat().st_size,
        "names": found.names,
        "members": sorted(found.members),
    }


def _once_seen(access: Callable[[], Found]) -> Found:
    """What an access to a file gives once another host's directory is seen, or its last error."""
    deadline = time.monotonic() + SEEN_SECONDS
    while True:
        try:
            return access()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE) or time.monotonic() > deadline:
                raise
        time.sleep(0.1)
