"""Opens files without blocking, creates them without following links, and replaces them atomically.

A run directory may come from somebody else or be damaged: a path in it can be a named pipe, a
device, or a symbolic link to a file that does not belong to the run.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxdrl.errors import ConfigError
from jaxdrl.io.file_locks import is_same, try_lock

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags that create a file, and fail if anything of that name exists."""

_KINDS = {
    stat.S_IFDIR: (errno.EISDIR, "Is a directory"),
    stat.S_IFIFO: (errno.EINVAL, "Is a named pipe"),
    stat.S_IFCHR: (errno.EINVAL, "Is a device"),
    stat.S_IFBLK: (errno.EINVAL, "Is a device"),
    stat.S_IFSOCK: (errno.EINVAL, "Is a socket"),
}


def open_existing(path: Path) -> Any:
    """Opens a regular file for reading, and never blocks on anything else.

    Raises:
      OSError: if it does not exist, is not a regular file, or cannot be read.
    """
    _require_regular(os.stat(path).st_mode, path)  # before a device is opened
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.fdopen(_checked(descriptor, path), "rb")


def open_to_append(path: Path) -> Any:
    """Opens or creates a regular file to append to it; a symbolic link is not followed.

    Raises:
      OSError: if it is not a regular file, or cannot be written.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    return os.fdopen(open_itself(path, flags), "ab", buffering=0)


def open_itself(path: Path, flags: int) -> int:
    """A descriptor of a regular file, never of the target of a symbolic link.

    Raises:
      OSError: if it is a link or not a regular file, or cannot be opened.
    """
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return _checked(os.open(path, flags, 0o666), path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "Is a symbolic link", str(path)) from error
        raise


def _checked(descriptor: int, path: Path) -> int:
    """The descriptor if it is that of a regular file; any other is closed."""
    try:
        _require_regular(os.fstat(descriptor).st_mode, path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _require_regular(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        number, words = _KINDS.get(stat.S_IFMT(mode), (errno.EINVAL, "Is not a regular file"))
        raise OSError(number, words, str(path))


def remove(path: Path) -> None:
    """Removes a file, a directory or a link, but never the target of a link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Renames a file to a name that is free: `a.jsonl` becomes `a.old-1.jsonl`."""
    number = 1
    while True:
        aside = path.with_name(f"{path.stem}.old-{number}{path.suffix}")
        if not aside.exists() and not aside.is_symlink():
            return path.rename(aside)
        number += 1


@contextlib.contextmanager
def replaced(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A new file beside `path` that replaces it atomically at the end of the block.

    Each writer has a file of its own: of several at a time, the last to end decides. A link at
    `path` is replaced, not its target.

    Args:
      path: path of the file.
      durable: whether to wait until the new file is on the disk, so that it survives a power cut.
    """
    _remove_abandoned(path)
    unfinished, lock = _new_beside(path)
    try:
        yield unfinished
        if durable:
            sync(unfinished)
        unfinished.replace(path)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        os.close(lock)


def _new_beside(path: Path) -> tuple[Path, int]:
    """`(a new file beside a path, a descriptor that holds its lock until it is closed)`."""
    while True:
        name = f"{_beginning(path)}{secrets.token_hex(4)}{path.suffix}"
        unfinished = path.with_name(name)
        lock = os.open(unfinished, NEW, 0o666)
        is_locked = try_lock(lock, fcntl.LOCK_EX, 0.0)
        if is_locked is not False and is_same(lock, unfinished):
            return unfinished, lock
        os.close(lock)  # before it was locked, another writer has taken it for abandoned


def _beginning(path: Path) -> str:
    return f".{path.stem}.writing-"


def _remove_abandoned(path: Path) -> None:
    """Removes what killed processes have left of files for a path: nobody has their locks."""
    with contextlib.suppress(OSError):
        names = [entry.name for entry in os.scandir(path.parent)]
        for name in names:
            if name.startswith(_beginning(path)) and name.endswith(path.suffix):
                with contextlib.suppress(OSError):
                    _remove_unlocked(path.with_name(name))


def _remove_unlocked(unfinished: Path) -> None:
    if not stat.S_ISREG(os.lstat(unfinished).st_mode):
        remove(unfinished)  # nobody writes it
        return
    lock = open_itself(unfinished, os.O_RDWR)
    try:
        if try_lock(lock, fcntl.LOCK_EX, 0.0) and is_same(lock, unfinished):
            unfinished.unlink()
    finally:
        os.close(lock)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Writes a file atomically: if the process is killed, it is either the old or the new one.

    Args:
      path: path of the file.
      text: its content.
      durable: as in `replaced`.
    """
    with replaced(path, durable=durable) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Waits until a file, or the entries of a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_own(*paths: Path) -> None:
    """Refuses symbolic links, through which a run would write to another place.

    Raises:
      ConfigError: naming the link.
    """
    for path in paths:
        if path.is_symlink():
            raise ConfigError(
                f"{path}: is a symbolic link, which a run does not write through; remove it, or "
                "put what it points to in its place"
            )
