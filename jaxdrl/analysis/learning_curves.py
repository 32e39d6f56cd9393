"""`jaxdrl plot`: learning curves; runs of the same settings become one curve with a band."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from jaxdrl.analysis.curve_labels import label_groups, metric_in_words, run_names
from jaxdrl.analysis.figures import (
    count_axis,
    legend_beside,
    picture,
    require_picture,
    sparkline,
)
from jaxdrl.checks import checked, require
from jaxdrl.config.experiment import Experiment, unresolve
from jaxdrl.config.settings import flat_settings
from jaxdrl.errors import ConfigError
from jaxdrl.io.console import make_console, warner
from jaxdrl.io.line_reader import LineReader, Thinned
from jaxdrl.io.numerals import short
from jaxdrl.io.terminal import drawable
from jaxdrl.runs.checkpoint_binding import doubt_about
from jaxdrl.runs.nested import doubt_about_parts, parts_of
from jaxdrl.runs.run_dir import METRICS_FILE, read_line, read_run

NUM_POINTS = 200
"""How many points a curve has, each the mean over an equal part of the longest run."""

NOT_SETTINGS = (
    *("seed", "run_dir", "devices", "debug_nans", "profile", "max_skipped_updates"),
    *("checkpoint_every", "checkpoint_minutes", "keep_checkpoints", "export_every"),
    *("log_every", "track"),
    *("evaluate_every", "num_eval_episodes", "greedy_evaluation"),
    *("actor_devices", "actor_timeout", "actor_retries"),
)
"""Settings of an experiment in which runs of one group may differ."""

AGAINST = {"env_steps": "environment steps", "seconds": "training time (s)"}
"""Quantities that curves can be drawn against, with the labels of the axis."""


@dataclass(frozen=True)
class Curve:
    """A metric of one run.

    Attributes:
      run_dir: directory of the run.
      settings: flat settings of the run, without those in which runs of a group may differ.
      env_steps: environment steps after each line, or after every few lines of a long run, `[n]`.
      seconds: seconds of training until then, `[n]`.
      values: the metric, NaN where it has no value, `[n]`.
      weights: episodes of a line if the metric is a mean over episodes, otherwise 1, `[n]`.
    """

    run_dir: Path
    settings: dict[str, Any]
    env_steps: np.ndarray
    seconds: np.ndarray
    values: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Group:
    """Curves of runs with the same settings, at common points.

    Attributes:
      label: how its settings differ from those of the other groups, or the names of its runs.
      settings: those that its runs share.
      run_dirs: directories of its runs.
      x: the points, `[p]`.
      values: `[runs, p]`, NaN where a run has no value.
    """

    label: str
    settings: dict[str, Any]
    run_dirs: list[Path]
    x: np.ndarray
    values: np.ndarray


def read_curve(run_dir: Path, metric: str = "episode_return") -> Curve:
    """The curve of a metric in a run, which may still be running; a torn last line is left out.

    Raises:
      ConfigError: if the directory is not a run, or its metrics have no line yet or no such metric.
    """
    experiment = read_run(run_dir).experiment
    seen, known = Thinned(), {}
    seconds, last = 0.0, 0.0

    def add(record: dict[str, Any]) -> None:
        nonlocal seconds, last
        known.update(record)
        steps, value = float(record["env_steps"]), record.get(metric)
        seconds += (steps - last) / record["steps_per_second"]
        last = steps
        number = math.nan if value is None or _is_list(value) else float(value)
        weight = record["num_episodes"] if _is_mean(metric) else 1.0
        seen.add((steps, seconds), (number,), (float(weight),))

    LineReader(run_dir / METRICS_FILE, read_line).read(lambda: None, add)
    if not seen.rows:
        raise ConfigError(
            f"run_dir = {str(run_dir)!r}: {METRICS_FILE} has no line yet; wait for its first "
            "updates, or leave the run out"
        )
    numbers = sorted(name for name, value in known.items() if not _is_list(value))
    require(metric in numbers, "metric", metric, f"{METRICS_FILE} has {', '.join(numbers)}")
    return Curve(
        run_dir=run_dir,
        settings=settings_of(experiment),
        env_steps=seen.where(0),
        seconds=seen.where(1),
        values=seen.values(0),
        weights=seen.weights(0),
    )


def _is_mean(metric: str) -> bool:
    return metric.startswith("episode_")  # over the episodes of a line


def _is_list(value: Any) -> bool:
    return isinstance(value, list)  # of members


def runs_of(run_dir: Path) -> list[Path]:
    """The directories with metrics of a run: itself, or the parts of a sweep."""
    parts = parts_of(run_dir)
    return [path for part in parts for path in runs_of(part)] or [run_dir]


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """The flat settings in which runs of a group must agree: `{"env": ..., "gamma": ...}`."""
    experiment = unresolve(experiment)
    fields = asdict(experiment)
    for name in ("wave", "wave_size", "trial") if fields["sweep"] else ():
        del fields["sweep"][name]
    for name in ("acting", "algorithm"):
        del fields[name]
        fields |= flat_settings(getattr(experiment, name))
    return {k: v for k, v in fields.items() if k not in NOT_SETTINGS}


def group_curves(
    curves: Sequence[Curve], metric: str = "episode_return", against: str = "env_steps"
) -> list[Group]:
    """Groups curves with equal settings, and resamples all at common points."""
    last = max(float(getattr(curve, against)[-1]) for curve in curves)
    edges = np.linspace(0.0, last, NUM_POINTS + 1)
    by_settings: dict[str, list[Curve]] = {}
    for curve in curves:
        by_settings.setdefault(json.dumps(curve.settings, default=str), []).append(curve)
    members = list(by_settings.values())
    run_dirs = [[curve.run_dir for curve in group] for group in members]
    labels = label_groups([group[0].settings for group in members], run_names(run_dirs))
    is_mean = _is_mean(metric)
    return [
        Group(
            label=f"{label} ({len(group)} runs)" if len(group) > 1 else label,
            settings=group[0].settings,
            run_dirs=dirs,
            x=edges[1:],
            values=np.stack([resample(curve, edges, against, is_mean) for curve in group]),
        )
        for label, dirs, group in zip(labels, run_dirs, members, strict=True)
    ]


def resample(curve: Curve, edges: np.ndarray, against: str, is_mean: bool) -> np.ndarray:
    """Means of a curve between `edges`, interpolated in gaps, and NaN beyond its end."""
    x = getattr(curve, against)
    bins = np.clip(np.searchsorted(edges, x, side="left") - 1, 0, len(edges) - 2)
    there = np.isfinite(curve.values)
    weights = np.where(there, curve.weights if is_mean else 1.0, 0.0)
    sums = np.bincount(bins, weights * np.where(there, curve.values, 0.0), len(edges) - 1)
    totals = np.bincount(bins, weights, len(edges) - 1)
    found = totals > 0
    points = edges[1:]
    if not found.any():
        return np.full(len(points), np.nan)
    means = sums[found] / totals[found]
    values = np.interp(points, points[found], means, left=np.nan)
    width = edges[1] - edges[0]
    return np.where(points <= x[-1] + width, values, np.nan)


@checked
def plot_runs(
    run_dirs: Sequence[Path | str],
    out: Path | str | None = None,
    *,
    metric: str = "episode_return",
    against: Literal["env_steps", "seconds"] = "env_steps",
) -> list[Group]:
    """Draws learning curves: for runs with equal settings, their mean as a line with a band.

    The band is from the minimum to the maximum over the runs.

    Args:
      run_dirs: directories of runs.
      out: a PNG, SVG or PDF file; None draws nothing.
      metric: name of any number in `metrics.jsonl`.
      against: the horizontal axis.

    Raises:
      ConfigError: if a directory is not a run or has no such metric, or for another kind of file.
    """
    require(len(run_dirs) > 0, "run_dirs", list(run_dirs), "must name at least one run")
    require(against in AGAINST, "against", against, f"must be one of {', '.join(AGAINST)}")
    if out is not None:
        require_picture(Path(out))
    named = [path for run_dir in run_dirs for path in runs_of(Path(run_dir))]
    first = {os.path.realpath(path): path for path in named[::-1]}  # each run once
    paths = list(first.values())[::-1]
    curves = [read_curve(path, metric) for path in paths]
    warn = warner(make_console())
    doubts = [doubt_about_parts(Path(run_dir)) for run_dir in run_dirs]
    for doubt in doubts + [doubt_about(path, METRICS_FILE) for path in paths]:
        if doubt is not None:
            warn(doubt)
    groups = group_curves(curves, metric, against)
    if out is not None:
        _draw(groups, Path(out), metric, against)
    return groups


def _draw(groups: list[Group], out: Path, metric: str, against: str) -> None:
    envs = sorted({str(group.settings["env"]) for group in groups})
    are_several = max(len(group.values) for group in groups) > 1
    with picture(out, 7.5, 4.5) as figure:
        axes = figure.subplots()
        for group in groups:
            there = np.isfinite(group.values).any(axis=0)
            x, values = group.x[there], group.values[:, there]
            (line,) = axes.plot(x, np.nanmean(values, axis=0), label=drawable(group.label))
            if len(values) > 1:
                low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
                axes.fill_between(x, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
        words = [*envs[: len(envs) == 1], *["mean and range of the runs"][:are_several]]
        axes.set_title(drawable(", ".join(words)))
        count_axis(axes.xaxis, AGAINST[against])
        axes.set_ylabel(drawable(metric_in_words(metric)))
        if len(groups) > 1 or are_several:
            legend_beside(figure)


def show(console: Console, groups: list[Group], metric: str) -> None:
    """Prints a table of the groups with curves as text."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("runs", overflow="fold", min_width=16)
    table.add_column(metric_in_words(metric), min_width=24)
    for name in ("first", "last", "range of the last"):
        table.add_column(name, justify="right")
    finite = np.concatenate([group.values[np.isfinite(group.values)] for group in groups])
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    for group in groups:
        there = np.isfinite(group.values).any(axis=0)
        if not there.any():
            table.add_row(group.label, "", "–", "–", "–")
            continue
        mean = np.nanmean(group.values[:, there], axis=0)
        last = group.values[:, there][:, -1]
        spread = f"{short(np.nanmin(last))} to {short(np.nanmax(last))}"
        line = sparkline(mean, low, high)
        table.add_row(group.label, line, short(mean[0]), short(mean[-1]), spread)
    console.print(table)


def main(run_dirs: Sequence[Path], out: Path | None, metric: str, against: Any) -> None:
    """Draws the curves, and prints them as a table."""
    console = make_console()
    groups = plot_runs(run_dirs, out, metric=metric, against=against)
    show(console, groups, metric)
    if out is not None:
        console.print(f"picture: {out}", soft_wrap=True)
