"""`processes.json`: what each process of a run on several does, kept by the first for `watch`.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from jaxdrl.distributed.judge_processes import Report, name_of
from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import finite, read_object
from jaxdrl.io.safe_files import write_text
from jaxdrl.runs.run_dir import NUMBER, PROCESSES_FILE

FORMAT_VERSION = 1
"""Version of the format of this file, which is newer than that of the others."""

SILENT_SECONDS = 10.0
"""Age from which the file says that the process that writes it has stopped doing so."""

COUNTS = ("process", "pid", "dispatched", "completed")
WORDS = ("host", "phase")
TIMES = ("idle_seconds",)
MAY_BE_UNKNOWN = ("own_seconds", "memory_bytes")


class Processes(NamedTuple):
    """The content of the file.

    Attributes:
      time: when it was written, in seconds since 1970.
      reports: one of each process, in order.
    """

    time: float
    reports: list[Report]


def write(run_dir: Path, reports: Sequence[Report], now: float | None = None) -> None:
    """Replaces the file; one that cannot be written is left as it is, since no run depends on it.

    It does not wait for the disk, so that a slow one holds up nothing.

    Args:
      run_dir: directory of the run.
      reports: one of each process, in order.
      now: seconds since 1970; None asks the clock.
    """
    content = {
        "format_version": FORMAT_VERSION,
        "time": time.time() if now is None else now,
        "processes": list(reports),
    }
    with contextlib.suppress(OSError):
        text = json.dumps(finite(content), indent=2) + "\n"
        write_text(run_dir / PROCESSES_FILE, text, durable=False)


def read(run_dir: Path) -> Processes | None:
    """What is in the file; None if there is none, or it is damaged or from a newer version."""
    try:
        content = read_object(run_dir / PROCESSES_FILE, "it is written again")
    except ConfigError:
        return None
    written, reports = content.get("time"), content.get("processes")
    if not _is_number(written) or content.get("format_version") != FORMAT_VERSION:
        return None
    if not isinstance(reports, list) or not reports or not all(map(_is_report, reports)):
        return None
    return Processes(written, reports)


def silence(found: Processes, now: float) -> str | None:
    """What to say if the file has not been written for long; None if it is recent.

    Args:
      found: what is in the file.
      now: seconds since 1970.
    """
    seconds = now - found.time
    if seconds < SILENT_SECONDS:
        return None
    return (
        f"no news of the processes for {seconds:.0f} s: {name_of(found.reports[0])}, which writes "
        f"{PROCESSES_FILE}, is stopped or stuck, or cannot write"
    )


def _is_report(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(type(value.get(name)) is int and value[name] >= 0 for name in COUNTS)
        and all(isinstance(value.get(name), str) for name in WORDS)
        and all(_is_number(value.get(name)) for name in TIMES)
        and all(value.get(name) is None or _is_number(value[name]) for name in MAY_BE_UNKNOWN)
    )


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, NUMBER) and not isinstance(value, bool) and value >= 0
