"""Locks of open files, which end with the process that has them."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF, errno.EINVAL}
"""Errors of file systems without locks, or without locks on directories."""


def try_lock(descriptor: int, kind: int, seconds: float) -> bool | None:
    """Whether the lock was obtained within some seconds, None where there are no locks.

    Args:
      descriptor: of a file or directory.
      kind: `fcntl.LOCK_EX` or `fcntl.LOCK_SH`.
      seconds: how long to try.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        except OSError as error:
            if error.errno in NO_LOCKS:
                return None
            raise


def is_same(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at that path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False
