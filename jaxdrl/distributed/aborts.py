"""Delays the abort of a process by JAX, so that the process can still say why it ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal


def delay_aborts() -> None:
    """Lets a process live for 6 seconds after it has aborted itself.

    JAX aborts a process when its coordinator is gone or another process is, without saying which.
    The handler is the `sleep` of the C library itself, called with the number of the signal: 6. No
    Python runs in it, and the process dies of the abort afterwards, unless it has ended before.
    """
    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        library.signal(signal.SIGABRT, ctypes.cast(library.sleep, ctypes.c_void_p))


def is_aborting() -> bool:
    """Whether a thread of this process sleeps in that handler, which blocks SIGABRT alone."""
    blocks_abort, blocks_end = (1 << (n - 1) for n in (signal.SIGABRT, signal.SIGTERM))
    masks = [_blocked(thread) for thread in _threads()]
    return any(mask & blocks_abort and not mask & blocks_end for mask in masks)


def _threads() -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir("/proc/self/task")
    return []


def _blocked(thread: str) -> int:
    """The signals that a thread blocks, as bits."""
    with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/status") as file:
        for line in file:
            if line.startswith("SigBlk:"):
                return int(line.split()[1], 16)
    return 0
