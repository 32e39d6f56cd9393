"""The single writer of a run directory: how a process becomes it, and finds out that it is not.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxdrl.errors import ConfigError
from jaxdrl.io.file_locks import is_same, try_lock
from jaxdrl.io.safe_files import NEW, open_existing, open_itself, require_own
from jaxdrl.runs.run_dir import make_run_dir

LOCK_FILE = ".lock"

DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
"""Errors of a full disk."""

SECONDS_TO_TRY = 0.1
"""How long to try for a lock: `jaxdrl watch` holds it for a moment whenever it looks."""


class Claim:
    """The claim of this process to be the only writer of a run directory.

    A process holds the lock of the directory itself and that of a file in it, so that removing the
    file lets nobody in. Where the file system has no locks, the file alone says who writes: it is
    created exclusively, and `check` finds out when it belongs to another process.
    """

    def __init__(self, run_dir: Path, warn: Callable[[str], object]) -> None:
        self.run_dir, self.path, self.warn = run_dir, run_dir / LOCK_FILE, warn
        self.has_locks = True
        self.descriptors: list[int] = []

    def take(self) -> None:
        """Makes this process the only writer.

        Raises:
          ConfigError: if another process is the writer, naming it, or the lock cannot be made.
        """
        try:
            directory = os.open(self.run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self.descriptors = [directory]
            if try_lock(directory, fcntl.LOCK_EX, SECONDS_TO_TRY) is False:
                raise self._taken()
            self._take_file()
        except OSError as error:
            self.release()
            works = "free some space" if error.errno in DISK_FULL else "remove it"
            raise ConfigError(
                f"{self.path}: cannot be written ({error.strerror}); {works}"
            ) from error
        except ConfigError:
            self.release()
            raise

    def _take_file(self) -> None:
        while True:
            file = open_itself(self.path, os.O_RDWR | os.O_CREAT)
            self.descriptors.append(file)
            got = try_lock(file, fcntl.LOCK_EX, SECONDS_TO_TRY)
            if got is False:
                raise self._taken()
            if got is None:
                self._make_file()
                return
            if is_same(file, self.path):
                os.truncate(file, 0)
                os.write(file, _own_name().encode())
                return
            os.close(self.descriptors.pop())  # it was removed in the meantime

    def _make_file(self) -> None:
        """Claims the directory without a lock, by a file that nobody else can have created."""
        os.close(self.descriptors.pop())
        if self.has_locks:
            self.has_locks = False
            self.warn(
                f"{self.run_dir} is on a file system without locks: a second process is detected "
                f"by {LOCK_FILE} alone, and only before it writes"
            )
        if _is_held(_read(self.path)):
            raise self._taken()
        self.path.unlink(missing_ok=True)
        try:
            file = os.open(self.path, NEW, 0o666)
        except FileExistsError as error:
            raise self._taken() from error
        os.write(file, _own_name().encode())
        self.descriptors.append(file)

    def check(self) -> None:
        """Locks again where the lock file was removed, before anything is written.

        Raises:
          ConfigError: if another process writes to the directory now.
        """
        is_claimed = len(self.descriptors) == 2
        if is_claimed and is_same(self.descriptors[1], self.path):
            return
        if is_claimed and self.has_locks and is_same(self.descriptors[0], self.run_dir):
            os.close(self.descriptors.pop())
            self._take_file()
        else:
            self.release()
            self.take()

    def release(self) -> None:
        """Lets the next process in."""
        if not self.has_locks and len(self.descriptors) == 2:
            with contextlib.suppress(OSError):
                if is_same(self.descriptors[-1], self.path):
                    self.path.unlink()
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []

    def _taken(self) -> ConfigError:
        writer = _name(_read(self.path))
        works = "stop that, or name another directory"
        if not self.has_locks:
            works += f"; if it has ended, remove {self.path}"
        return ConfigError(f"run_dir = {str(self.run_dir)!r}: {writer} is writing to it; {works}")


@contextlib.contextmanager
def claim(run_dir: Path, warn: Callable[[str], object] = print) -> Iterator[Claim]:
    """Makes this process the only writer of `run_dir` until the end of the block, or of itself.

    Raises:
      ConfigError: while another process is, naming it, or if a symbolic link in the directory would
        lead it elsewhere.
    """
    make_run_dir(run_dir)
    require_own(*run_dir.iterdir())
    claimed = Claim(run_dir, warn)
    claimed.take()
    try:
        yield claimed
    finally:
        claimed.release()


def writer_of(run_dir: Path) -> str | None:
    """Which process writes to `run_dir`, as `claim` has it; None where none does."""
    path = run_dir / LOCK_FILE
    try:
        with open_existing(path) as file:
            got = try_lock(file.fileno(), fcntl.LOCK_SH, 0.0)
            text = file.read(1000)
    except OSError:
        got, text = True, b""  # nobody ever wrote it, or it was removed
    if got is None:
        return _name(text) if _is_held(text) else None
    if got is True:
        with contextlib.suppress(OSError):
            directory = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                got = try_lock(directory, fcntl.LOCK_SH, 0.0) is not False
            finally:
                os.close(directory)
    return None if got else _name(text)


def _own_name() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}{_started(os.getpid())}"


def _started(pid: int) -> str:
    """When a process started, which distinguishes it from another with the same number."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return f", started at tick {file.read().rpartition(b')')[2].split()[19].decode()}"
    except (OSError, IndexError):
        return ""


def _read(path: Path) -> bytes:
    try:
        with open_existing(path) as file:
            return file.read(1000)
    except OSError:
        return b""


def _name(text: bytes) -> str:
    """The name of the process that wrote a lock file."""
    words = text.decode(errors="replace").partition(",")[0]
    return "".join(c for c in words if c.isprintable())[:200].strip() or "another process"


def _is_held(text: bytes) -> bool:
    """Whether the process that a lock file names may still be alive; on another host, it may."""
    words, _, started = text.decode(errors="replace").partition(", ")
    pid, _, host = words.removeprefix("process ").partition(" on ")
    if not pid.isdecimal():
        return False  # as a process leaves it
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return not started or f", {started}" == _started(int(pid))
