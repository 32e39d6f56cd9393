"""`jaxdrl watch`: a running or finished run in the terminal, read from its files."""

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

from jaxdrl.console import make_console
from jaxdrl.experiment import Experiment
from jaxdrl.plotting import sparkline
from jaxdrl.run_dir import RESULT_FILE, in_words, read_metrics, read_run, writer_of
from jaxdrl.sweep_parts import parts_of
from jaxdrl.terminal import printable

SHOWN = (
    *("episode_return", "episode_length", "steps_per_second", "policy_loss", "value_loss"),
    *("entropy", "approx_kl", "clip_fraction", "explained_variance", "grad_norm", "learning_rate"),
)
"""Metrics that get a line, where a run has them."""

WINDOW = 10
"""Lines at the end of the metrics that warnings look at."""


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
      metrics: each metric over the lines, NaN where it has none.
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
    evaluation: dict[str, float] | None
    memory: str | None
    warnings: list[str]


def take(run_dir: Path) -> Snapshot:
    """Reads how a run stands; a torn last line is left out. Of a sweep in parts, the last one.

    Raises:
      ConfigError: if the directory is no run, or its metrics are damaged.
    """
    if parts := parts_of(run_dir):
        last = parts[-1]
        found, state = take(last), _state(run_dir)
        left = found.seconds_left if state == "running" else None
        name = str(last.relative_to(run_dir) / (found.part or ""))
        return replace(found, part=name, state=state, seconds_left=left)
    stored = read_run(run_dir, Experiment)
    experiment = stored.experiment
    records = read_metrics(run_dir)
    metrics = {name: _column(records, name) for name in SHOWN if _has(records, name)}
    total = experiment.num_updates * experiment.ppo.env_steps_per_update
    done = records[-1]["env_steps"] if records else 0
    state = _state(run_dir)
    left = None
    if state == "running" and records:
        left = (total - done) / float(np.median(metrics["steps_per_second"][-WINDOW:]))
    evaluations = [record for record in records if "evaluation_mean_return" in record]
    evaluation = None
    if evaluations:
        prefix = "evaluation_"
        evaluation = {
            name.removeprefix(prefix): value
            for name, value in evaluations[-1].items()
            if name.startswith(prefix)
        }
    return Snapshot(
        env=experiment.env,
        part=None,
        state=state,
        env_steps=done,
        total_env_steps=total,
        seconds_left=left,
        metrics=metrics,
        evaluation=evaluation,
        memory=_memory(stored.devices, records),
        warnings=find_warnings(records, metrics),
    )


def _state(run_dir: Path) -> str:
    if writer_of(run_dir):
        return "running"
    return "finished" if (run_dir / RESULT_FILE).exists() else "stopped"


def _memory(devices: dict[str, Any], records: list[dict[str, Any]]) -> str | None:
    """What a run needs on a device, and the most that its last line says was in use."""
    words = []
    if "needed_bytes" in devices:
        by = "counted by the compiler" if devices.get("is_counted") else "estimated"
        words.append(f"{in_words(devices['needed_bytes'])} needed per device ({by})")
    if records and records[-1].get("memory_bytes"):
        owner = "the process" if devices.get("platform") == "cpu" else "a device"
        words.append(f"{in_words(records[-1]['memory_bytes'])} in use by {owner} at most")
    return ", ".join(words) or None


def _has(records: list[dict[str, Any]], name: str) -> bool:
    return any(record.get(name) is not None for record in records)


def _column(records: list[dict[str, Any]], name: str) -> np.ndarray:
    values = [record.get(name) for record in records]
    return np.array([np.nan if value is None else value for value in values], np.float64)


def find_warnings(records: list[dict[str, Any]], metrics: dict[str, np.ndarray]) -> list[str]:
    """What looks ill in the last lines, each with what it may come from."""
    limits = Limits()
    if len(records) < WINDOW:
        return []
    last = {
        name: float(np.nanmedian(column[-WINDOW:])) for name, column in _finite(metrics).items()
    }
    found = []
    entropy, kl = last.get("entropy"), last.get("approx_kl")
    explained = last.get("explained_variance")
    first = metrics["entropy"][0] if "entropy" in metrics else 0.0
    if entropy is not None and first > 0 and 0 <= entropy < limits.entropy * first:
        found.append(
            f"entropy has collapsed ({entropy:.2g} of {first:.2g}): nothing new is tried; "
            "a larger ppo.entropy_coef keeps it up"
        )
    if kl is not None and kl > limits.approx_kl:
        found.append(
            f"approx_kl is {kl:.2g}: the policy jumps; a smaller ppo.learning_rate, or a "
            "ppo.target_kl, holds it"
        )
    if explained is not None and explained < limits.explained_variance:
        found.append(
            f"explained_variance is {explained:.2g}: the values are worse than a constant; "
            "ppo.normalize_rewards may help"
        )
    for name, words in (("skipped_steps", "gradient steps"), ("nonfinite_values", "numbers")):
        bad = sum(record.get(name) or 0 for record in records)
        if bad:
            found.append(f"{bad:,.0f} {words} were not finite; --debug-nans finds the operation")
    return found


def _finite(metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: c for name, c in metrics.items() if np.isfinite(c[-WINDOW:]).any()}


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
        table.add_row(name, line, f"{there[-1]:,.5g}", style=None)
    parts: list[Any] = [head, table if snapshot.metrics else Text("no metrics yet")]
    if snapshot.evaluation is not None:
        found = snapshot.evaluation
        parts.append(
            Text(
                f"last evaluation: {found['mean_return']:.4g} "
                f"(95% interval {found['ci95_low']:.4g} to {found['ci95_high']:.4g})"
            )
        )
    if snapshot.memory is not None:
        parts.append(Text(f"memory: {snapshot.memory}"))
    parts += [Text(f"look: {words}", style="yellow") for words in snapshot.warnings]
    return Group(*parts)


def main(run_dir: Path, *, once: bool, seconds: float) -> None:
    """Shows a run until it ends or Ctrl-C; once where the output is no terminal."""
    console = make_console()
    snapshot = take(run_dir)
    if once or not console.is_terminal or snapshot.state != "running":
        console.print(render(snapshot), soft_wrap=False)
        return
    try:
        with Live(render(snapshot), console=console, auto_refresh=False) as live:
            while snapshot.state == "running":
                time.sleep(seconds)
                snapshot = take(run_dir)
                live.update(render(snapshot), refresh=True)
    except KeyboardInterrupt:
        pass  # the usual end; the run goes on
