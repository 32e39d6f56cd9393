"""The processes of a run on several, as `jaxdrl watch` shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from jaxdrl.distributed.judge_processes import Report, slow, stuck
from jaxdrl.io.numerals import duration, size_in_words
from jaxdrl.io.terminal import printable
from jaxdrl.runs.processes_file import Processes, read, silence

STUCK_SECONDS = 20.0
"""Time without any progress from which a run is shown as stuck; saving may take that long."""

HIDDEN = 0.8
"""Part of the time of an update up to which a process works while its devices still compute."""

MAX_ROWS = 12
"""The most processes that are shown one by one; those with a fault are always among them."""

COLUMNS = ("process", "host", "phase", "updates", "own ms", "memory", "idle")
LEAST_FIRST = ("memory", "phase", "updates", "idle")
"""Columns that are left out if there is no room, in this order."""

HOST_WIDTH = 8
"""Letters of a host's name for which other columns are left out."""


@dataclass(frozen=True)
class ShownProcesses:
    """The processes of a run at the time of a snapshot.

    Attributes:
      reports: one of each process, in order.
      faulty: indices of those that are slow, stuck or silent.
      warnings: what is wrong with them, in words.
      age: seconds since they were written, None while the run trains.
    """

    reports: Sequence[Report]
    faulty: frozenset[int]
    warnings: tuple[str, ...]
    age: float | None


def take_processes(
    run_dir: Path, writer: str | None, now: float, update_seconds: float | None
) -> ShownProcesses | None:
    """What is known of the processes; None for a run of one process.

    A file that an earlier process left is ignored, such as one from before the run was resumed.

    Args:
      run_dir: directory of the run.
      writer: the process that writes to it, as `writer_of` names it; None if none does.
      now: seconds since 1970.
      update_seconds: how long an update takes, None if unknown.
    """
    found = read(run_dir)
    if found is None:
        return None
    if writer is None:
        return ShownProcesses(found.reports, frozenset(), (), max(0.0, now - found.time))
    if not writer.startswith(f"process {found.reports[0]['pid']} "):
        return None
    return judged(found, now, update_seconds)


def judged(found: Processes, now: float, update_seconds: float | None) -> ShownProcesses:
    """The processes of a run that trains, with what is wrong with them."""
    silent = silence(found, now)
    if silent is not None:  # the rest is too old to be judged
        first = frozenset([found.reports[0]["process"]])
        return ShownProcesses(found.reports, first, (silent,), None)
    warnings, faulty = [], set()
    for process in slow(found.reports):
        effect = "all wait for it"
        if update_seconds is not None and process.own_seconds < HIDDEN * update_seconds:
            effect = f"none waits for it yet, since an update takes {1e3 * update_seconds:.0f} ms"
        warnings.append(f"{process.why}: {effect}")
        faulty.add(process.process)
    halt = stuck(found.reports, STUCK_SECONDS)
    if halt is not None:
        warnings.append(halt.why)
        faulty |= set() if halt.process is None else {halt.process}
    return ShownProcesses(found.reports, frozenset(faulty), tuple(warnings), None)


def render_processes(shown: ShownProcesses, width: int) -> Group:
    """A table of the processes in `width` letters, dim if the run has ended."""
    listed = _listed(shown)
    rows = [cells(report) for report in listed]
    table = Table(box=None, pad_edge=False, header_style="dim")
    chosen = _that_fit(rows, width)
    for column in chosen:
        is_host = column == "host"  # the only one that shrinks
        justify: Any = "left" if column in ("host", "phase") else "right"
        table.add_column(column, justify=justify, no_wrap=not is_host, overflow="ellipsis")
    for report, row in zip(listed, rows, strict=True):
        style = "yellow" if report["process"] in shown.faulty else None
        style = style if shown.age is None else "dim"
        table.add_row(*(row[column] for column in chosen), style=style)
    parts: list[Table | Text] = [table]
    if shown.age is not None:
        parts.insert(0, Text(f"the processes {duration(shown.age)} ago:", style="dim"))
    if rest := [report for report in shown.reports if report not in listed]:
        parts.append(Text(_about_rest(rest), style="dim"))
    return Group(*parts)


def _that_fit(rows: list[dict[str, str]], width: int) -> list[str]:
    """The columns for which there is room, if the names of hosts are cut."""
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in COLUMNS}
    widths["host"] = min(HOST_WIDTH, widths["host"])
    chosen = list(COLUMNS)
    for name in LEAST_FIRST:
        if sum(widths[name] + 2 for name in chosen) - 2 > width:
            chosen.remove(name)
    return chosen


def cells(report: Report) -> dict[str, str]:
    """A row of the table: updates that are completed, and those that the devices still have."""
    own, memory = report["own_seconds"], report["memory_bytes"]
    on_devices = report["dispatched"] - report["completed"]
    return {
        "process": str(report["process"]),
        "host": printable(report["host"]),
        "phase": printable(report["phase"]),
        "updates": f"{report['completed']:,}" + (f" +{on_devices}" if on_devices > 0 else ""),
        "own ms": f"{1e3 * own:.1f}" if own is not None and report["completed"] else "",
        "memory": size_in_words(memory) if memory else "",
        "idle": duration(report["idle_seconds"]),
    }


def _listed(shown: ShownProcesses) -> list[Report]:
    """The reports with a row of their own: the faulty, and as many others as there is room for."""
    is_faulty = {report["process"]: report["process"] in shown.faulty for report in shown.reports}
    first = sorted(shown.reports, key=lambda report: not is_faulty[report["process"]])[:MAX_ROWS]
    return sorted(first, key=lambda report: report["process"])


def _about_rest(rest: Sequence[Report]) -> str:
    """A line about processes that have no row."""
    own = max(report["own_seconds"] or 0.0 for report in rest)
    return f"and {len(rest)} more, each with at most {1e3 * own:.1f} ms of its own an update"
