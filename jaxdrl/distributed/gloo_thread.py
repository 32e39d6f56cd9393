"""Lets the computation go before the thread that waits for data of other processes, on CPUs.

While data has arrived that the computation does not ask for yet, gloo's thread asks for it again
and again, and takes half of a core that both have to share. With `SCHED_IDLE` it runs when the core
has nothing else to do, which is just when the computation waits for that data.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

TASKS = Path("/proc/self/task")
START_SECONDS = 0.5
"""Within how long a new thread has begun to wait for data."""


@contextlib.contextmanager
def waits_in_idle_time() -> Iterator[None]:
    """Threads that start within the block and wait for data have the lowest priority after it.

    Elsewhere than on Linux, and where the kernel does not allow it, nothing happens.
    """
    if not TASKS.is_dir():
        yield
        return
    before = _threads()
    yield
    deadline = time.monotonic() + START_SECONDS
    found = _waiting(_threads() - before)
    while not found and time.monotonic() < deadline:
        time.sleep(0.01)
        found = _waiting(_threads() - before)
    for thread in found:
        with contextlib.suppress(OSError):  # it has ended, or a container forbids it
            os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))


def _threads() -> set[int]:
    """The threads of this process."""
    return {int(task.name) for task in TASKS.iterdir()}


def _waiting(threads: set[int]) -> list[int]:
    """Those of the threads that wait for data in the kernel's `epoll`."""
    found = []
    for thread in threads:
        with contextlib.suppress(OSError):
            where = (TASKS / str(thread) / "wchan").read_text()
            if "ep_poll" in where or "epoll" in where:
                found.append(thread)
    return found
