"""Files that are opened without waiting, made without following links, and replaced as a whole.

A run directory may come from somebody else, or be damaged: what is named as a file of a run can be
a named pipe, a device, or a symbolic link to a file that is none of ours.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxdrl.errors import ConfigError

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags that make a file, and fail where there is anything of its name."""

_KINDS = {
    stat.S_IFDIR: (errno.EISDIR, "Is a directory"),
    stat.S_IFIFO: (errno.EINVAL, "Is a named pipe"),
    stat.S_IFCHR: (errno.EINVAL, "Is a device"),
    stat.S_IFBLK: (errno.EINVAL, "Is a device"),
    stat.S_IFSOCK: (errno.EINVAL, "Is a socket"),
}


def open_existing(path: Path) -> Any:
    """Opens a regular file for reading, and never waits for one that is none.

    Raises:
      OSError: if there is none, it is of another kind, or it cannot be read.
    """
    _require_regular(os.stat(path).st_mode, path)  # before a device is opened
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.fdopen(_checked(descriptor, path), "rb")


def open_to_append(path: Path) -> Any:
    """Opens a regular file, or makes it, to write at its end; a symbolic link is not followed.

    Raises:
      OSError: if it is something else, or cannot be written.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    return os.fdopen(open_itself(path, flags), "ab", buffering=0)


def open_itself(path: Path, flags: int) -> int:
    """A descriptor of a regular file, never of what a symbolic link at its end points to.

    Raises:
      OSError: if it is a link or of another kind, or cannot be opened.
    """
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return _checked(os.open(path, flags, 0o666), path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "Is a symbolic link", str(path)) from error
        raise


def _checked(descriptor: int, path: Path) -> int:
    """The descriptor of a regular file; that of anything else is closed."""
    try:
        _require_regular(os.fstat(descriptor).st_mode, path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _require_regular(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        number, words = _KINDS.get(stat.S_IFMT(mode), (errno.EINVAL, "Is no regular file"))
        raise OSError(number, words, str(path))


def remove(path: Path) -> None:
    """Removes a file, a directory or a link, and never what a link points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Gives a file another name, which no file has; `a.jsonl` becomes `a.old-1.jsonl`."""
    number = 1
    while True:
        aside = path.with_name(f"{path.stem}.old-{number}{path.suffix}")
        if not aside.exists() and not aside.is_symlink():
            return path.rename(aside)
        number += 1


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A new file beside `path` that takes its name at the end of the block, whole or not at all.

    A link at `path` is replaced, and not what it points to.
    """
    unfinished = path.with_name(f".{path.stem}.writing{path.suffix}")
    remove(unfinished)  # of a process that was killed, or a link
    os.close(os.open(unfinished, NEW, 0o666))
    try:
        yield unfinished
        sync(unfinished)
        unfinished.replace(path)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a file that is either the old or the new one, whenever the process is killed."""
    with replaced(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Waits until a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_own(*paths: Path) -> None:
    """Refuses symbolic links, where a run would write through them into another place.

    Raises:
      ConfigError: naming one.
    """
    for path in paths:
        if path.is_symlink():
            raise ConfigError(
                f"{path}: is a symbolic link, which a run does not write through; remove it, or "
                "put what it points to in its place"
            )
