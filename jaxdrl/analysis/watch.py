"""`jaxdrl watch`: a running or finished run in the terminal, read from its files."""

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

from jaxdrl.analysis.learning_curves import sparkline
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
"""Columns of every run, which come before the metrics of its algorithm."""

NOT_SHOWN = ("update", "env_steps", "num_episodes", "memory_bytes", "skipped_steps")
"""Columns that are shown in other places; so are evaluations, and counts of what should not be."""

WINDOW = 10
"""Lines at the end of the metrics that warnings look at."""

BAD = {
    "skipped_steps": "gradient steps were not finite",
    "nonfinite_values": f"numbers were {UNUSABLE}",
}
"""Counts of what should not be, and what they count."""


@dataclass(frozen=True)
class Limits:
    """Beyond which a figure looks ill.

    Attributes:
      entropy: share of the first entropy below which a discrete policy has collapsed.
      approx_kl: median KL (nats) of the last updates above which steps are too long.
      explained_variance: median below which the values are worse than none.
    """

    entropy: float = 0.02
    approx_kl: float = 0.1
    explained_variance: float = -0.1


@dataclass(frozen=True)
class Snapshot:
    """How a run stands.

    Attributes:
      env: name of the environment.
      part: which part of a sweep this is, such as "waves/1"; None where there are none.
      state: "running", "finished" or "stopped".
      env_steps: done.
      total_env_steps: of the whole run.
      seconds_left: at the speed of the last lines, None unless it is running.
      metrics: each metric over the lines, of a long run over means of a few, NaN where it has none.
      last: the last number of each.
      evaluation: the last one, None where there is none.
      memory: what the run needs, and what it has used at most, in words; None for an old run.
      warnings: what looks ill, in words.
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
    """What the lines of a run come to, in memory that does not grow with them.

    Attributes:
      reader: where the reading of them stands.
      num_lines: how many there are.
      recent: the last of them.
      evaluation: the last line with an evaluation, None where there is none.
      shown: names of the columns that are shown.
      thinned: these columns.
      first: the first number of each metric, by name.
      last: the last number of each, likewise.
      bad: how many numbers were not finite, by their kind.
      doubt: how the lines differed from what a checkpoint is bound to, at the first look.
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
        self.thinned, self.bad = Thinned(), dict.fromkeys(BAD, 0.0)
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}

    def add(self, record: dict[str, Any]) -> None:
        """Takes a line."""
        self.shown = self.shown or shown_of(record)
        values = [record.get(name) for name in self.shown]
        there = {name: x for name, x in zip(self.shown, values, strict=True) if x is not None}
        self.first, self.last = there | self.first, self.last | there
        numbers = [math.nan if x is None else float(x) for x in values]
        self.thinned.add((), numbers, (1.0,) * len(numbers))
        for name in BAD:
            self.bad[name] += record.get(name) or 0
        if "evaluation_mean_return" in record:
            self.evaluation = record
        self.recent.append(record)
        self.num_lines += 1

    def look(self) -> None:
        """Reads what is new."""
        self.reader.read(self.begin, self.add)

    def columns(self) -> dict[str, np.ndarray]:
        """Each metric over the lines, or over the means of a few, NaN where it has none."""
        columns = enumerate(self.shown)
        return {name: self.thinned.values(i) for i, name in columns if name in self.last}

    def median(self, name: str) -> float | None:
        """Of a metric in the recent lines, None where they have none."""
        found = [record[name] for record in self.recent if record.get(name) is not None]
        return float(np.median(found)) if found else None


def shown_of(record: dict[str, Any]) -> list[str]:
    """The columns that are shown of a run, whose lines are like `record`."""
    elsewhere = ("evaluation_", "nonfinite_", "states_without_action", "members/")
    of_algorithm = [
        name
        for name in record
        if name not in (*SHOWN_FIRST, *NOT_SHOWN) and not name.startswith(elsewhere)
    ]
    return [*SHOWN_FIRST, *of_algorithm]


Histories = dict[Path, History]
"""What is known of the run that is looked at, from one look to the next."""


def take(run_dir: Path, known: Histories | None = None) -> Snapshot:
    """Reads how a run stands; a torn last line is left out. Of a sweep in parts, the last one.

    Args:
      run_dir: of the run.
      known: of looks before, which this one adds to: what they read is not read again.

    Raises:
      ConfigError: if the directory is no run, or its metrics are damaged.
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
        known.clear()  # of parts that are done
        known[run_dir] = History(run_dir)
    history = known[run_dir]
    history.look()
    total = experiment.num_updates * experiment.algorithm.env_steps_per_update
    latest = history.recent[-1] if history.recent else {}
    done = latest.get("env_steps", 0)
    state = _state(run_dir)
    left = None
    speed = history.median("steps_per_second")
    if state == "running" and speed:
        left = (total - done) / speed
    evaluation = None
    if history.evaluation is not None:
        prefix = "evaluation_"
        evaluation = {
            name.removeprefix(prefix): value
            for name, value in history.evaluation.items()
            if name.startswith(prefix)
        }
    return Snapshot(
        env=experiment.env,
        part=None,
        state=state,
        env_steps=done,
        total_env_steps=total,
        seconds_left=left,
        metrics=history.columns(),
        last=history.last,
        evaluation=evaluation,
        memory=_memory(stored.devices, latest),
        warnings=find_warnings(history) + _about_result(run_dir, state, is_done=done >= total),
    )


def _state(run_dir: Path) -> str:
    if writer_of(run_dir):
        return "running"
    return "finished" if (run_dir / RESULT_FILE).exists() else "stopped"


def _about_result(run_dir: Path, state: str, *, is_done: bool) -> list[str]:
    """What is wrong with the result of a run that nobody writes to."""
    doubt = None if state == "running" else doubt_about_result(run_dir, is_done=is_done)
    return [] if doubt is None else [doubt]


def _memory(devices: dict[str, Any], latest: dict[str, Any]) -> str | None:
    """What a run needs on a device, and the most that its last line says was in use."""
    words = []
    if "needed_bytes" in devices:
        by = "counted by the compiler" if devices.get("is_counted") else "estimated"
        words.append(f"{in_words(devices['needed_bytes'])} needed per device ({by})")
    if latest.get("memory_bytes"):
        owner = "the process" if devices.get("platform") == "cpu" else "a device"
        words.append(f"{in_words(latest['memory_bytes'])} in use by {owner} at most")
    return ", ".join(words) or None


def find_warnings(history: History) -> list[str]:
    """What looks ill in the last lines, each with what it may come from."""
    limits = Limits()
    found = [] if history.doubt is None else [history.doubt]
    if history.num_lines < WINDOW:
        return found
    entropy, kl = history.median("entropy"), history.median("approx_kl")
    explained = history.median("explained_variance")
    first = history.first.get("entropy", 0.0)
    if entropy is not None and first > 0 and 0 <= entropy < limits.entropy * first:
        found.append(
            f"entropy has collapsed ({short(entropy)} of {short(first)}): nothing new is tried; "
            "a larger entropy_coef keeps it up"
        )
    if kl is not None and kl > limits.approx_kl:
        found.append(
            f"approx_kl is {short(kl)}: the policy jumps; a smaller learning_rate, or a "
            "target_kl, holds it"
        )
    if explained is not None and explained < limits.explained_variance:
        found.append(
            f"explained_variance is {short(explained)}: the values are worse than a constant; "
            "normalize_rewards may help"
        )
    for name, words in BAD.items():
        if bad := history.bad[name]:
            found.append(f"{bad:,.0f} {words}; --debug-nans finds the operation")
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
    parts += [Text(f"look: {words}", style="yellow") for words in snapshot.warnings]
    return Group(*parts)


def main(run_dir: Path, *, once: bool, seconds: float) -> None:
    """Shows a run until it ends or Ctrl-C; once where the output is no terminal."""
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
        pass  # the usual end; the run goes on
