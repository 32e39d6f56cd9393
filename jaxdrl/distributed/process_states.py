"""What Linux says of processes on this host."""

from __future__ import annotations

import os

GONE = ("Z", "")
"""States of a process that does not run any more: ended, and not there."""

STOPPED = "T"
"""State of a process that is stopped, as by SIGSTOP."""


def state_of(pid: int) -> str | None:
    """The state of a process on this host: one letter, or one of `GONE`; None if unknown."""
    fields = _stat(pid)
    return None if fields is None else fields[0] if fields else ""


def start_of(pid: int) -> str | None:
    """When a process on this host started, which tells it from another with the same number."""
    fields = _stat(pid)
    return fields[19] if fields else None


def _stat(pid: int) -> list[str] | None:
    """What Linux says of a process, after its name; empty if there is none, None if unknown."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].decode().split()
    except (FileNotFoundError, ProcessLookupError):
        return [] if os.path.exists("/proc/self/stat") else None
    except OSError:
        return None
