"""What a sweep found: a table, the best settings as a config, and pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from jaxdrl.analysis.figures import make_figure, save_figure
from jaxdrl.config.choices import Choices
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.search_space import Range
from jaxdrl.config.settings import with_settings
from jaxdrl.config.stored import to_json
from jaxdrl.errors import ConfigError
from jaxdrl.evaluation.episodes import bootstrap_interval
from jaxdrl.io.json_files import write_json
from jaxdrl.io.numerals import short
from jaxdrl.io.terminal import drawable
from jaxdrl.runs import pbt_log
from jaxdrl.runs.sweep_members import numbers_in_words

BEST_FILE = "best.json"
NUM_SHOWN = 10
"""Settings that the terminal shows."""


def rank(
    experiment: Experiment, hyperparams: dict[str, np.ndarray], evaluation: dict[str, Any]
) -> list[dict[str, Any]]:
    """The settings of a sweep, best first, by the lower end of the interval over their seeds.

    With one seed, the interval is that over episodes.

    Args:
      experiment: with its sweep.
      hyperparams: by name, `[P]`, as they are at the end.
      evaluation: of all members, as in `result.json`.
    """
    assert experiment.sweep is not None
    seeds, rows = experiment.sweep.seeds, []
    returns, ends = evaluation["member_returns"], evaluation["member_ci95"]
    for first in range(0, len(returns), seeds):
        means = np.array(returns[first : first + seeds])
        low, high = bootstrap_interval(means) if seeds > 1 else ends[first]
        rows.append(
            {
                "setting": first // seeds,
                "members": list(range(first, first + seeds)),
                "hyperparams": {name: float(x[first]) for name, x in hyperparams.items()},
                "mean_return": float(means.mean()),
                "ci95_low": low,
                "ci95_high": high,
            }
        )
    return sort(rows)


def sort(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Settings in the order of their rank; those with figures that are not finite come last."""

    def goodness(row: dict[str, Any]) -> tuple[float, ...]:
        figures = row["ci95_low"], row["mean_return"]
        return figures if is_finite(row) else (-math.inf, -math.inf)

    return sorted(rows, key=goodness, reverse=True)


def is_finite(row: dict[str, Any]) -> bool:
    """Whether the figures of a setting are finite; in JSON, others are None."""
    figures = row["ci95_low"], row["mean_return"]
    return all(x is not None and math.isfinite(x) for x in figures)


def best_experiment(experiment: Experiment, rows: list[dict[str, Any]]) -> Experiment:
    """The experiment of one agent with the best settings."""
    assert experiment.sweep is not None
    choices = experiment.sweep.choices(experiment.algorithm)
    shape = {name: choices[name][text] for name, text in rows[0].get("shape", {}).items()}
    of_one: dict[str, Any] = {"sweep": None, "run_dir": None, "devices": None}
    return with_settings(experiment, **of_one, **rows[0]["hyperparams"], **shape)


def write(
    run_dir: Path,
    experiment: Experiment,
    rows: list[dict[str, Any]],
    warn: Callable[[str], Any] = print,
) -> list[Path]:
    """Writes the best setting and the plots, and returns their paths.

    They leave out settings whose return is not finite.
    """
    sweep, rows = experiment.sweep, [row for row in rows if is_finite(row)]
    assert sweep is not None
    if not rows:
        return []
    best = best_experiment(experiment, rows)
    write_json(run_dir / BEST_FILE, {"experiment": to_json(best)})
    paths = [run_dir / BEST_FILE]
    if varied := sweep.axes:
        paths += [run_dir / "response.png", run_dir / "parallel.png"]
        draw_response(rows, varied, experiment.env, paths[1])
        draw_parallel(rows, varied, experiment.env, paths[2])
    if sweep.pbt and not sweep.is_search:
        paths.append(run_dir / "lineage.png")
        first = sweep.values(experiment.seed)
        try:
            draw_lineage(first, pbt_log.read(run_dir), sweep.parsed(), experiment.env, paths[3])
        except ConfigError as error:  # about the log, which the result does not need
            warn(f"{paths.pop().name} was not drawn: {error}")
    return paths


def print_table(console: Console, rows: list[dict[str, Any]]) -> None:
    """Prints the best settings, with the numbers that `--setting` and `--member` take."""
    table = make_table(rows[:NUM_SHOWN], narrow=False)
    boundless = console.options.update_width(10_000)
    if console.measure(table, options=boundless).maximum > console.width:
        table = make_table(rows[:NUM_SHOWN], narrow=True)
    console.print(table)
    if len(rows) > NUM_SHOWN:
        console.print(f"and {len(rows) - NUM_SHOWN} more, all in result.json")


def make_table(rows: list[dict[str, Any]], *, narrow: bool) -> Table:
    """A table of settings; a narrow one has all values of a setting in one cell, on lines."""
    where = [name for name in ("trial", "setting") if name in rows[0]]
    members = "member" if len(rows[0]["members"]) == 1 else "members"
    names, ends = list(_values(rows[0])), ["mean return", "95% interval"]
    table = Table(box=None, pad_edge=False)
    for name in (*where, members, *([] if narrow else names), *ends):
        table.add_column(name, justify="right")
    if narrow:
        table.add_column("values")
    for row in rows:
        numbers = [*(str(row[name]) for name in where), numbers_in_words(row["members"])]
        values = [x if isinstance(x, str) else short(x) for x in _values(row).values()]
        found = ["not finite", ""]
        if is_finite(row):
            interval = f"{short(row['ci95_low'])} to {short(row['ci95_high'])}"
            found = [short(row["mean_return"]), interval]
        lines = "\n".join(f"{name} {x}" for name, x in zip(names, values, strict=True))
        table.add_row(*numbers, *([*found, lines] if narrow else [*values, *found]))
    return table


def _values(row: dict[str, Any]) -> dict[str, Any]:
    """The values of a setting: choices of shapes as text, and hyperparameters as numbers."""
    return row.get("shape", {}) | row["hyperparams"]


Varied = dict[str, Range | Choices]
"""The ranges and choices that vary, by name."""


def draw_response(rows: list[dict[str, Any]], varied: Varied, title: str, out: Path) -> None:
    """Plots the return of every setting against each of its hyperparameters."""
    figure = make_figure(3.6 * len(varied) + 0.6, 3.6)
    all_axes = figure.subplots(1, len(varied), sharey=True, squeeze=False)[0]
    means = np.array([row["mean_return"] for row in rows])
    errors = np.abs([[row["ci95_low"], row["ci95_high"]] for row in rows] - means[:, None]).T
    for axes, (name, spread) in zip(all_axes, varied.items(), strict=True):
        x = [_values(row)[name] for row in rows]
        if isinstance(spread, Choices):
            x = [spread.texts.index(text) for text in x]
        axes.errorbar(x, means, errors, fmt="o", markersize=4, elinewidth=0.8, alpha=0.7)
        axes.plot(x[:1], means[:1], "o", markersize=7, color="tab:red", label="best")
        axes.set_xlabel(name.replace("_", " "))
        _scale(axes, spread)
        axes.grid(alpha=0.3)
    all_axes[0].set_ylabel("mean return, 95% interval")
    all_axes[0].legend(loc="best", fontsize=8)
    figure.suptitle(drawable(title), fontsize=10)
    save_figure(figure, out)


def _scale(axes: Any, spread: Range | Choices) -> None:
    """Fits the ticks along x to the range or the choices."""
    from matplotlib.ticker import MaxNLocator

    if isinstance(spread, Choices):
        axes.set_xticks(range(len(spread.texts)), [drawable(text) for text in spread.texts])
        axes.margins(x=0.2)
    elif spread.log:
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))


def draw_parallel(rows: list[dict[str, Any]], varied: Varied, title: str, out: Path) -> None:
    """Plots a line for every setting, over its hyperparameters to its return; best is brightest."""
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    names = list(varied)
    means = np.array([row["mean_return"] for row in rows])
    spread = Normalize(means.min(), means.max() if means.max() > means.min() else means.min() + 1)
    figure = make_figure(2.2 * (len(names) + 1) + 0.8, 3.8)
    axes = figure.subplots()
    for row, mean in reversed(list(zip(rows, means, strict=True))):
        shares = [_share(varied[name], _values(row)[name]) for name in names]
        color = colormaps["viridis"](spread(mean))
        axes.plot(range(len(names) + 1), [*shares, spread(mean)], color=color, alpha=0.8)
    axes.set_xticks(range(len(names) + 1), [*(n.replace("_", " ") for n in names), "mean return"])
    for i, name in enumerate(names):
        _label(axes, i, varied[name])
    _label(axes, len(names), Range(float(spread.vmin or 0), float(spread.vmax or 1)))
    axes.set_ylim(-0.12, 1.12)
    axes.set_yticks([])
    for side in ("left", "right", "top", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_title(drawable(title), fontsize=10)
    save_figure(figure, out)


def _share(spread: Range | Choices, value: Any) -> float:
    """The position of a value in its range, 0 to 1."""
    if isinstance(spread, Choices):
        return spread.texts.index(value) / (len(spread.texts) - 1)
    if spread.log:
        return float(np.log(value / spread.low) / np.log(spread.high / spread.low))
    return (value - spread.low) / (spread.high - spread.low)


def _label(axes: Any, x: int, spread: Range | Choices) -> None:
    """Draws a vertical axis, with the ends of its range or with all its choices."""
    axes.plot([x, x], [0, 1], color="grey", linewidth=0.8)
    if isinstance(spread, Choices):
        for text in spread.texts:
            plain = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
            axes.text(x + 0.04, _share(spread, text), text, va="center", fontsize=8, bbox=plain)
        return
    for y, value, align in ((-0.03, spread.low, "top"), (1.03, spread.high, "bottom")):
        axes.text(x, y, short(value), ha="center", va=align, fontsize=8)


def draw_lineage(
    first: dict[str, np.ndarray],
    lines: list[dict[str, Any]],
    ranges: dict[str, Range],
    title: str,
    out: Path,
) -> None:
    """Plots the hyperparameters of every member over the updates, with a dot for every copy."""
    history = pbt_log.replay(first, lines)
    updates = np.array([0, *(line["update"] for line in lines)])
    figure = make_figure(7.0, 2.4 * len(ranges) + 0.6)
    all_axes = figure.subplots(len(ranges), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, range_) in zip(all_axes, ranges.items(), strict=True):
        axes.plot(updates, history[name], drawstyle="steps-post", linewidth=0.9, alpha=0.6)
        for update, line, values in zip(updates[1:], lines, history[name][1:], strict=True):
            copied = np.flatnonzero(np.asarray(line["parent"]) != np.arange(len(values)))
            axes.plot(np.full(len(copied), update), values[copied], "k.", markersize=4)
        axes.set_yscale("log" if range_.log else "linear")
        axes.set_ylabel(name.replace("_", " "))
        axes.grid(alpha=0.3)
    all_axes[-1].set_xlabel("updates (a dot: copied a better member)")
    figure.suptitle(drawable(title), fontsize=10)
    save_figure(figure, out)
