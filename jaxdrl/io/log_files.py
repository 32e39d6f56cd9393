"""Append-only files of lines, with the length and the digest of their content.

A checkpoint records both, so that a resumed run can verify that the files were not changed.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxdrl.errors import ConfigError
from jaxdrl.io.outages import Outage
from jaxdrl.io.safe_files import open_existing, open_itself, open_to_append

CHUNK = 2**20
"""How many bytes are read at once."""

MAX_WAITING = 2**24
"""The most bytes of lines that wait while a file cannot be written; further lines are dropped."""


class LogFile:
    """A file of lines that only this process writes.

    Lines that cannot be written, such as on a full disk, wait and are tried again with the next
    ones, in order, as many as fit. One warning says that lines wait, one that they are written
    again, and one that no more can wait.

    Args:
      path: path of the file.
      warn: takes a warning.
    """

    def __init__(self, path: Path, warn: Callable[[str], Any]) -> None:
        self.path, self.warn = path, warn
        self.length, self.digest = 0, hashlib.sha256()
        self.unwritten = bytearray()
        self.outage, self.num_dropped = Outage(warn), 0

    def append(self, lines: bytes) -> None:
        """Writes whole lines at the end of the file, after those that could not be written."""
        self.unwritten += lines
        if not self.unwritten:
            return
        error = self._write()
        if error is None:
            self.outage.is_over(f"{self.path} can be written again{self._losses()}")
            self.num_dropped = 0
            return
        why = error.strerror or error
        self.outage.failed(f"{self.path} could not be written ({why}); its lines wait until it can")
        if len(self.unwritten) > MAX_WAITING:
            self._drop()

    def finish(self) -> None:
        """Tries a last time, and warns of lines that could not be written."""
        self.append(b"")
        num = self.unwritten.count(b"\n")
        if num:
            self.warn(f"{self.path}: its last {num:,} lines could not be written{self._losses()}")

    def _write(self) -> OSError | None:
        """Writes as many lines as fit; returns the error if some are left."""
        try:
            with open_to_append(self.path) as file:
                size = os.fstat(file.fileno()).st_size
                if size != self.length:
                    self._adopt(size)
                num, error = _write_some(file.fileno(), bytes(self.unwritten))
                whole = num if error is None else self.unwritten.rfind(b"\n", 0, num) + 1
                if whole < num:
                    os.truncate(file.fileno(), size + whole)  # remove a partial line
        except OSError as failed:
            return failed
        self.digest.update(self.unwritten[:whole])
        self.length += whole
        del self.unwritten[:whole]
        return error

    def _drop(self) -> None:
        """Drops the latest waiting lines, so that earlier ones can keep waiting."""
        keep = self.unwritten.rfind(b"\n", 0, MAX_WAITING) + 1
        if self.num_dropped == 0:
            self.warn(
                f"{keep:,} bytes of lines wait for {self.path}: no more fit, and further lines are "
                "lost until it can be written"
            )
        self.num_dropped += self.unwritten.count(b"\n", keep)
        del self.unwritten[keep:]

    def _losses(self) -> str:
        return f"; {self.num_dropped:,} lines are lost" if self.num_dropped else ""

    def _adopt(self, size: int) -> None:
        """Continues with a file that another program has changed or removed."""
        self.warn(
            f"{self.path} was changed by another program while the run wrote it: further lines are "
            "appended to its present content"
        )
        self.length, self.digest = size, digest_of(self.path, size)

    def snapshot(self) -> dict[str, Any]:
        """The length and digest of what is written, for a checkpoint's JSON; see `restore`."""
        return {
            "bytes": self.length,
            "sha256": self.digest.hexdigest(),
            "unwritten": self.unwritten.decode(),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Cuts the file back to a snapshot; a resumed run writes the later lines again.

        Raises:
          ConfigError: if the file does not begin with what was written.
        """
        self.length = snapshot["bytes"]
        self.unwritten = bytearray(snapshot["unwritten"].encode())
        self.digest = require(self.path, snapshot, "what the run had written")
        if self.length or self.path.exists():
            descriptor = open_itself(self.path, os.O_WRONLY | os.O_CREAT)
            try:
                os.truncate(descriptor, self.length)
            finally:
                os.close(descriptor)


def _write_some(descriptor: int, data: bytes) -> tuple[int, OSError | None]:
    """Writes what fits: `(number of bytes written, the error that stopped it)`."""
    num = 0
    try:
        while num < len(data):
            num += os.write(descriptor, data[num:])
    except OSError as error:
        return num, error
    return num, None


def digest_of(path: Path, length: int) -> Any:
    """An updatable SHA-256 over the first `length` bytes of a file, or all of a shorter one."""
    digest = hashlib.sha256()
    with open_existing(path) as file:
        while length > 0 and (chunk := file.read(min(CHUNK, length))):
            digest.update(chunk)
            length -= len(chunk)
    return digest


def require(path: Path, snapshot: dict[str, Any], whose: str) -> Any:
    """The digest of the bytes that a snapshot describes.

    Raises:
      ConfigError: if the file does not begin with these bytes, saying how it differs.
    """
    length = snapshot["bytes"]
    if length == 0:
        return hashlib.sha256()
    try:
        size = path.stat().st_size
        digest = digest_of(path, length)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {WORKS}") from error
    if size < length:
        raise ConfigError(f"{path}: has {size:,} of the {length:,} bytes of {whose}; {WORKS}")
    if digest.hexdigest() != snapshot["sha256"]:
        raise ConfigError(
            f"{path}: its first {length:,} bytes are not {whose}: lines were changed, removed or "
            f"put in another order; {WORKS}"
        )
    return digest


WORKS = (
    "put back a copy, or name an earlier --checkpoint; `jaxdrl train --config RUN/config.json "
    "--from RUN --run-dir ANOTHER` continues without the log"
)
"""Advice about a log that was changed after it was written."""
