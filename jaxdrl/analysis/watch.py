"""`jaxdrl watch`: shows a running or finished run in the terminal, read from its files."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jaxdrl.analysis.figures import sparkline
from jaxdrl.analysis.metrics_history import History, find_warnings
from jaxdrl.analysis.watch_asynchronous import ShownActors, render_actors, take_actors
from jaxdrl.analysis.watch_processes import ShownProcesses, render_processes, take_processes
from jaxdrl.io.console import make_console
from jaxdrl.io.numerals import brief, duration, short, size_in_words
from jaxdrl.io.terminal import printable
from jaxdrl.runs.locking import writer_of
from jaxdrl.runs.nested import doubt_about_result, parts_of
from jaxdrl.runs.run_dir import RESULT_FILE, read_run

SHORTEST = 8
"""Letters of a curve on a terminal that is too narrow."""

HINT = "Ctrl-C leaves this view, and the run goes on"


@dataclass(frozen=True)
class Snapshot:
    """The present state of a run.

    Attributes:
      env: name of the environment.
      part: the part of a sweep that is shown, such as "waves/1"; None if the run has no parts.
      state: "running", "finished" or "stopped".
      env_steps: environment steps so far.
      total_env_steps: environment steps of the whole run.
      seconds_left: estimated from the speed of the last lines; None unless it is running.
      metrics: each metric over the lines, or over means of a few lines of a long run, NaN where it
        has no value.
      last: the last value of each metric.
      evaluation: the last evaluation, None if there is none.
      memory: the memory that the run needs and has used at most, in words; None for an old run.
      warnings: anything that looks wrong, in words.
      processes: what each process does; None for a run of one.
      actors: what actors and learner do; None for a run without actors.
    """

    env: str
    part: str | None
    state: str
    env_steps: int
    total_env_steps: int
    seconds_left: float | None
    metrics: dict[str, np.ndarray]
    last: dict[str, float]
    evaluation: dict[str, float] | None
    memory: str | None
    warnings: list[str]
    processes: ShownProcesses | None = None
    actors: ShownActors | None = None


Histories = dict[Path, History]
"""The history of the run that is shown, which is kept from one snapshot to the next."""


def take(run_dir: Path, known: Histories | None = None) -> Snapshot:
    """Reads the present state of a run, or of the last part of a sweep.

    A torn last line is left out.

    Args:
      run_dir: directory of the run.
      known: histories from earlier calls, which are updated, so that no line is read twice.

    Raises:
      ConfigError: if the directory is not a run, or its metrics are damaged.
    """
    known = {} if known is None else known
    if parts := parts_of(run_dir):
        return _of_sweep(run_dir, parts[-1], len(parts), known)
    stored = read_run(run_dir)
    experiment = stored.experiment
    if run_dir not in known:
        known.clear()  # drop parts that are done
        known[run_dir] = History(run_dir)
    history = known[run_dir]
    history.update()
    steps = experiment.algorithm.env_steps_per_update
    total = experiment.num_updates * steps
    latest = history.recent[-1] if history.recent else {}
    done = latest.get("env_steps", 0)
    writer, state = writer_of(run_dir), _state(run_dir)
    left = update_seconds = None
    speed = history.median("steps_per_second")
    if speed:
        num_members = 1 if experiment.sweep is None else experiment.sweep.num_members
        update_seconds = num_members * steps / speed  # the steps of all members count for the speed
    if state == "running" and update_seconds:
        left = (total - done) / steps * update_seconds
    return Snapshot(
        env=experiment.env,
        part=None,
        state=state,
        env_steps=done,
        total_env_steps=total,
        seconds_left=left,
        metrics=history.columns(),
        last=history.last,
        evaluation=_evaluation(history.evaluation),
        memory=_memory(stored.devices, latest),
        warnings=find_warnings(history) + _about_result(run_dir, state, is_done=done >= total),
        processes=None
        if state == "finished"
        else take_processes(run_dir, writer, time.time(), update_seconds),
        actors=take_actors(history, experiment),
    )


def _of_sweep(run_dir: Path, last: Path, num_parts: int, known: Histories) -> Snapshot:
    """The state of the last part of a sweep, and where the sweep stands."""
    found, state = take(last, known), _state(run_dir)
    left = found.seconds_left if state == "running" else None
    name = str(last.relative_to(run_dir) / (found.part or ""))
    sweep = read_run(run_dir).experiment.sweep
    num_waves = 0 if sweep is None else sweep.num_waves  # 0 of a search
    is_done = found.state == "finished" and num_parts == num_waves
    warnings = found.warnings + _about_result(run_dir, state, is_done=is_done)
    return replace(found, part=name, state=state, seconds_left=left, warnings=warnings)


def _evaluation(record: dict[str, Any] | None) -> dict[str, float] | None:
    """The figures of an evaluation in a line."""
    if record is None:
        return None
    prefix = "evaluation_"
    return {k.removeprefix(prefix): x for k, x in record.items() if k.startswith(prefix)}


def _state(run_dir: Path) -> str:
    if writer_of(run_dir):
        return "running"
    return "finished" if (run_dir / RESULT_FILE).exists() else "stopped"


def _about_result(run_dir: Path, state: str, *, is_done: bool) -> list[str]:
    """Doubts about the result of a run that is not running."""
    doubt = None if state == "running" else doubt_about_result(run_dir, is_done=is_done)
    return [] if doubt is None else [doubt]


def _memory(devices: dict[str, Any], latest: dict[str, Any]) -> str | None:
    """The memory that a run needs on a device, and the peak in its last line, in words."""
    words = []
    if "needed_bytes" in devices:
        by = "counted by the compiler" if devices.get("is_counted") else "estimated"
        words.append(f"{size_in_words(devices['needed_bytes'])} needed per device ({by})")
    if latest.get("memory_bytes"):
        owner = "process" if devices.get("platform") == "cpu" else "device"
        words.append(f"{size_in_words(latest['memory_bytes'])} peak use by the {owner}")
    return ", ".join(words) or None


def _curves(snapshot: Snapshot, width: int) -> Table:
    """A line of the whole width for each metric: its curve, its ends, and its last value."""
    rows = []
    for name, column in snapshot.metrics.items():
        there = column[np.isfinite(column)]
        low, high = float(there.min()), float(there.max())
        rows.append((name, there, brief(low), brief(high), brief(snapshot.last[name])))
    taken = sum(max(len(row[i]) for row in rows) for i in (0, 2, 3)) + 2 * 4
    taken += max(len("last"), *(len(row[4]) for row in rows))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("", "lowest", "", "highest", "last"):
        justify: Any = "right" if heading in ("lowest", "last") else "left"
        table.add_column(heading, justify=justify, no_wrap=True)
    for name, there, low_text, high_text, last in rows:
        length = max(SHORTEST, width - taken)
        parts = there[np.arange(length) * len(there) // length] if len(there) < length else there
        line = sparkline(parts, float(there.min()), float(there.max()), length)
        table.add_row(name, low_text, line, high_text, last)
    return table


def render(snapshot: Snapshot, width: int = 80, hint: str | None = None) -> Group:
    """The dashboard for a terminal with `width` columns.

    Args:
      snapshot: what is shown.
      width: of the terminal.
      hint: a line about what one can do.
    """
    share = snapshot.env_steps / snapshot.total_env_steps
    part = f"{snapshot.part}: " if snapshot.part else ""
    head = Text.assemble(
        (printable(snapshot.env), "bold"),
        f"  {snapshot.state}, {part}{snapshot.env_steps:,} of "
        f"{snapshot.total_env_steps:,} steps ({share:.0%})",
    )
    if snapshot.seconds_left is not None:
        head.append(f", {duration(snapshot.seconds_left)} left")
    parts: list[Any] = [head]
    if hint is not None:
        parts.append(Text(hint, style="dim"))
    parts.append(_curves(snapshot, width) if snapshot.metrics else Text("no metrics yet"))
    if snapshot.evaluation is not None:
        found = snapshot.evaluation
        parts.append(
            Text(
                f"last evaluation: {short(found['mean_return'])} "
                f"(95% interval {short(found['ci95_low'])} to {short(found['ci95_high'])})"
            )
        )
    if snapshot.memory is not None:
        parts.append(Text(f"memory: {snapshot.memory}"))
    if snapshot.actors is not None:
        parts += render_actors(snapshot.actors)
    shown = (snapshot.processes, snapshot.actors)
    warnings = [words for of in shown if of is not None for words in of.warnings]
    warnings += snapshot.warnings
    parts += [Text(f"warning: {words}", style="yellow") for words in warnings]
    if snapshot.processes is not None:
        parts.append(render_processes(snapshot.processes, width))
    return Group(*parts)


def main(run_dir: Path, *, once: bool, seconds: float) -> None:
    """Shows a run until it ends or Ctrl-C; only once if the output is not a terminal."""
    console = make_console()
    known: Histories = {}
    snapshot = take(run_dir, known)
    if once or not console.is_terminal or snapshot.state != "running":
        console.print(render(snapshot, console.width), soft_wrap=False)
        return
    try:
        first = render(snapshot, console.width, HINT)
        with Live(first, console=console, auto_refresh=False) as live:
            while snapshot.state == "running":
                time.sleep(seconds)
                snapshot = take(run_dir, known)
                hint = HINT if snapshot.state == "running" else None
                live.update(render(snapshot, console.width, hint), refresh=True)
    except KeyboardInterrupt:
        pass  # the usual end; the run continues
