"""`jaxdrl watch`: shows a running or finished run in the terminal, read from its files."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jaxdrl.analysis.figures import sparkline
from jaxdrl.core.magnitude import UNUSABLE
from jaxdrl.io.console import make_console
from jaxdrl.io.line_reader import LineReader, Thinned
from jaxdrl.io.numerals import short
from jaxdrl.io.terminal import printable
from jaxdrl.runs.checkpoint_binding import doubt_about
from jaxdrl.runs.locking import writer_of
from jaxdrl.runs.nested import doubt_about_result, parts_of
from jaxdrl.runs.run_dir import METRICS_FILE, RESULT_FILE, in_words, read_line, read_run

SHOWN_FIRST = ("episode_return", "episode_length", "steps_per_second")
"""Columns of every run, which are shown before the metrics of its algorithm."""

NOT_SHOWN = ("update", "env_steps", "num_episodes", "memory_bytes", "skipped_steps")
"""Columns that are shown elsewhere, as are evaluations and counts of faults."""

WINDOW = 10
"""How many of the last lines of the metrics warnings depend on."""

FAULTS = {
    "skipped_steps": "gradient steps were not finite",
    "nonfinite_values": f"numbers were {UNUSABLE}",
}
"""Metrics that count faults, and what they count."""


@dataclass(frozen=True)
class Limits:
    """Limits beyond which a metric causes a warning.

    Attributes:
      entropy: fraction of the first entropy below which a discrete policy has collapsed.
      approx_kl: median KL (nats) of the last updates above which updates are too large.
      explained_variance: median below which the values are worse than a constant.
    """

    entropy: float = 0.02
    approx_kl: float = 0.1
    explained_variance: float = -0.1


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


class History:
    """A summary of the metrics of a run, in memory that does not grow with their number.

    Attributes:
      reader: the reader of the lines.
      num_lines: number of lines.
      recent: the last lines.
      evaluation: the last line with an evaluation, None if there is none.
      shown: names of the columns that are shown.
      thinned: these columns.
      first: the first value of each metric, by name.
      last: the last value of each metric, by name.
      faults: sums of the metrics in `FAULTS`.
      doubt: how the lines differed from those that a checkpoint recorded, when first read.
    """

    def __init__(self, run_dir: Path) -> None:
        self.reader = LineReader(run_dir / METRICS_FILE, read_line)
        self.doubt = doubt_about(run_dir, METRICS_FILE)
        self.begin()

    def begin(self) -> None:
        """Forgets everything."""
        self.num_lines = 0
        self.shown: list[str] = []
        self.evaluation: dict[str, Any] | None = None
        self.recent: deque[dict[str, Any]] = deque(maxlen=WINDOW)
        self.thinned, self.faults = Thinned(), dict.fromkeys(FAULTS, 0.0)
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}

    def add(self, record: dict[str, Any]) -> None:
        """Adds a line."""
        self.shown = self.shown or shown_of(record)
        values = [record.get(name) for name in self.shown]
        there = {name: x for name, x in zip(self.shown, values, strict=True) if x is not None}
        self.first, self.last = there | self.first, self.last | there
        numbers = [math.nan if x is None else float(x) for x in values]
        self.thinned.add((), numbers, (1.0,) * len(numbers))
        for name in FAULTS:
            self.faults[name] += record.get(name) or 0
        if "evaluation_mean_return" in record:
            self.evaluation = record
        self.recent.append(record)
        self.num_lines += 1

    def update(self) -> None:
        """Reads new lines."""
        self.reader.read(self.begin, self.add)

    def columns(self) -> dict[str, np.ndarray]:
        """Each metric over the lines, or over means of a few, NaN where it has no value."""
        columns = enumerate(self.shown)
        return {name: self.thinned.values(i) for i, name in columns if name in self.last}

    def median(self, name: str) -> float | None:
        """The median of a metric over the recent lines; None if they have no value."""
        found = [record[name] for record in self.recent if record.get(name) is not None]
        return float(np.median(found)) if found else None


def shown_of(record: dict[str, Any]) -> list[str]:
    """The columns that are shown of a run with lines like `record`."""
    elsewhere = ("evaluation_", "nonfinite_", "states_without_action", "members/")
    of_algorithm = [
        name
        for name in record
        if name not in (*SHOWN_FIRST, *NOT_SHOWN) and not name.startswith(elsewhere)
    ]
    return [*SHOWN_FIRST, *of_algorithm]


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
        last = parts[-1]
        found, state = take(last, known), _state(run_dir)
        left = found.seconds_left if state == "running" else None
        name = str(last.relative_to(run_dir) / (found.part or ""))
        sweep = read_run(run_dir).experiment.sweep
        num_waves = 0 if sweep is None else sweep.num_waves  # 0 of a search
        is_done = found.state == "finished" and len(parts) == num_waves
        warnings = found.warnings + _about_result(run_dir, state, is_done=is_done)
        return replace(found, part=name, state=state, seconds_left=left, warnings=warnings)
    stored = read_run(run_dir)
    experiment = stored.experiment
    if run_dir not in known:
        known.clear()  # drop parts that are done
        known[run_dir] = History(run_dir)
    history = known[run_dir]
    history.update()
    total = experiment.num_updates * experiment.algorithm.env_steps_per_update
    latest = history.recent[-1] if history.recent else {}
    done = latest.get("env_steps", 0)
    state = _state(run_dir)
    left = None
    speed = history.median("steps_per_second")
    if state == "running" and speed:
        left = (total - done) / speed
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
    )


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
        words.append(f"{in_words(devices['needed_bytes'])} needed per device ({by})")
    if latest.get("memory_bytes"):
        owner = "process" if devices.get("platform") == "cpu" else "device"
        words.append(f"{in_words(latest['memory_bytes'])} peak use by the {owner}")
    return ", ".join(words) or None


def find_warnings(history: History) -> list[str]:
    """Warnings about the last lines, each with a likely remedy."""
    limits = Limits()
    found = [] if history.doubt is None else [history.doubt]
    if history.num_lines < WINDOW:
        return found
    entropy, kl = history.median("entropy"), history.median("approx_kl")
    explained = history.median("explained_variance")
    first = history.first.get("entropy", 0.0)
    if entropy is not None and first > 0 and 0 <= entropy < limits.entropy * first:
        found.append(
            f"entropy has collapsed (from {short(first)} to {short(entropy)}): the policy no "
            "longer explores; raise entropy_coef"
        )
    if kl is not None and kl > limits.approx_kl:
        found.append(
            f"approx_kl is {short(kl)}: updates of the policy are too large; lower learning_rate, "
            "or set target_kl"
        )
    if explained is not None and explained < limits.explained_variance:
        found.append(
            f"explained_variance is {short(explained)}: the values are worse than a constant; "
            "normalize_rewards may help"
        )
    for name, words in FAULTS.items():
        if num := history.faults[name]:
            found.append(f"{num:,.0f} {words}; --debug-nans finds the operation")
    return found


def render(snapshot: Snapshot) -> Group:
    """The dashboard."""
    share = snapshot.env_steps / snapshot.total_env_steps
    part = f"{snapshot.part}: " if snapshot.part else ""
    head = Text.assemble(
        (printable(snapshot.env), "bold"),
        f"  {snapshot.state}, {part}{snapshot.env_steps:,} of "
        f"{snapshot.total_env_steps:,} steps ({share:.0%})",
    )
    if snapshot.seconds_left is not None:
        head.append(f", {snapshot.seconds_left:,.0f} s left")
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, column in snapshot.metrics.items():
        there = column[np.isfinite(column)]
        line = sparkline(there, float(there.min()), float(there.max()), width=40)
        table.add_row(name, line, short(snapshot.last[name]), style=None)
    parts: list[Any] = [head, table if snapshot.metrics else Text("no metrics yet")]
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
    parts += [Text(f"warning: {words}", style="yellow") for words in snapshot.warnings]
    return Group(*parts)


def main(run_dir: Path, *, once: bool, seconds: float) -> None:
    """Shows a run until it ends or Ctrl-C; only once if the output is not a terminal."""
    console = make_console()
    known: Histories = {}
    snapshot = take(run_dir, known)
    if once or not console.is_terminal or snapshot.state != "running":
        console.print(render(snapshot), soft_wrap=False)
        return
    try:
        with Live(render(snapshot), console=console, auto_refresh=False) as live:
            while snapshot.state == "running":
                time.sleep(seconds)
                snapshot = take(run_dir, known)
                live.update(render(snapshot), refresh=True)
    except KeyboardInterrupt:
        pass  # the usual end; the run continues
