"""Judges the processes of a run by what they report: which one is slow, and which one is stuck.

A report is a plain dictionary, as `processes.json` contains it:

- `process`, `host`, `pid`: its index, the name of its host, and its number there;
- `phase`: one of `PHASES`;
- `dispatched`, `completed`: updates that it has sent to its devices, and that these have finished;
- `own_seconds`: mean seconds of its last updates that it spent outside the wait for its devices,
  None if unknown;
- `memory_bytes`: the memory that it uses, None if unknown;
- `idle_seconds`: time since its phase or counts last changed.

Importing this module imports only Python's standard library.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Report = Mapping[str, Any]

PHASES = ("starting", "compiling", "updating", "evaluating", "saving", "ending")

MAY_TAKE_LONG = ("starting", "compiling")
"""Phases in which nothing can be counted, and in which no process is held to be stuck."""

LOOK_AT = {"saving": "the file system", "ending": "the network and the trackers"}
"""What to look at if all processes stand still in a phase; otherwise a device or the network."""

SLOW_RATIO = 1.5
"""How many times as long as the others a process takes, at the least, to be called slow."""

SLOW_SECONDS = 0.010
"""How much longer than the others a process takes for each update, at the least."""


class Slow(NamedTuple):
    """A process that takes longer than the others.

    Attributes:
      process: its index.
      own_seconds: seconds of an update that it spends outside the wait for its devices.
      others: the median of the same over the other processes.
      why: a sentence that names it.
    """

    process: int
    own_seconds: float
    others: float
    why: str


class Stuck(NamedTuple):
    """A run in which nothing happens any more.

    Attributes:
      process: index of the process to blame; None if every process waits for its devices.
      why: a sentence that names it, its host and what it last did.
    """

    process: int | None
    why: str


def name_of(report: Report) -> str:
    """How messages name a process."""
    return f"process {report['process']} on host {report['host']}"


def slow(reports: Sequence[Report]) -> list[Slow]:
    """The processes that take well over the median of the others for each update."""
    timed = [r for r in reports if r["completed"] and r["own_seconds"] is not None]
    found = []
    for report in timed:
        own = report["own_seconds"]
        rest = [r["own_seconds"] for r in timed if r["process"] != report["process"]]
        if not rest:
            continue
        others = statistics.median(rest)
        if own > SLOW_RATIO * others and own - others > SLOW_SECONDS:
            whose = "the other" if len(rest) == 1 else "the others"
            why = (
                f"{name_of(report)} spends {1e3 * own:.0f} ms of each update outside the wait for "
                f"its devices, {whose} {1e3 * others:.0f} ms"
            )
            found.append(Slow(report["process"], own, others, why))
    return found


def stuck(reports: Sequence[Report], after_seconds: float) -> Stuck | None:
    """Whom to blame if nothing has changed in any process for `after_seconds`.

    None while anything changes, or while a process starts or compiles, which may take long.

    Processes wait for each other on their devices, so most of those that stand still do so without
    fault. To blame is the one that has dispatched the fewest updates: all others have given their
    devices work that cannot finish without its part. If all have dispatched the same, it is the one
    in another phase than the rest.
    """
    if not reports or any(report["phase"] in MAY_TAKE_LONG for report in reports):
        return None
    idle = min(report["idle_seconds"] for report in reports)
    if idle < after_seconds:
        return None
    fewest = min(report["dispatched"] for report in reports)
    blamed = _in_another_phase([r for r in reports if r["dispatched"] == fewest])
    if len(blamed) < len(reports):
        return Stuck(blamed[0]["process"], _why_stuck(blamed, reports))
    phase = reports[0]["phase"]
    why = f"all processes are {phase}, without progress for {idle:.0f} s after {fewest:,} updates: "
    if phase not in LOOK_AT:
        why += "every process waits for its devices, "
    return Stuck(None, f"{why}look at {LOOK_AT.get(phase, 'a device or the network')}")


def _in_another_phase(reports: list[Report]) -> list[Report]:
    """Those in the rarest phase, or all that are in the same.

    A process that is ending waits for all others, and one that is updating waits for its devices,
    so that neither is named where another phase is as rare.
    """
    phases = [report["phase"] for report in reports]
    rarest = min(phases, key=lambda p: (p == "ending", phases.count(p), p == "updating"))
    return [report for report in reports if report["phase"] == rarest]


def _why_stuck(blamed: list[Report], reports: Sequence[Report]) -> str:
    names = " and ".join(name_of(report) for report in blamed)
    first, idle = blamed[0], min(report["idle_seconds"] for report in blamed)
    why = f"{names} {'is' if len(blamed) == 1 else 'are'} stuck: {first['phase']}, without "
    why += f"progress for {idle:.0f} s; "
    dispatched, most = first["dispatched"], max(report["dispatched"] for report in reports)
    if dispatched < most:
        return f"{why}dispatched {dispatched:,} updates, while others have dispatched {most:,}"
    others = sorted({report["phase"] for report in reports} - {first["phase"]})
    return f"{why}the others are {' or '.join(others)} after as many updates"
