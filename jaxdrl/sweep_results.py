"""What a sweep found: a table, the best settings as a config, and pictures."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from jaxdrl import lineage
from jaxdrl.evaluation import bootstrap_interval
from jaxdrl.experiment import Experiment
from jaxdrl.hyperparams import Range
from jaxdrl.plotting import make_figure, save_figure
from jaxdrl.run_dir import write_json

BEST_FILE = "best.json"
NUM_SHOWN = 10
"""Settings that the terminal shows."""


def rank(
    experiment: Experiment, hyperparams: dict[str, np.ndarray], evaluation: dict[str, Any]
) -> list[dict[str, Any]]:
    """The settings of a sweep, best first, by the lower end of the interval over their seeds.

    With one seed the interval is that over episodes.

    Args:
      experiment: with its sweep.
      hyperparams: by name, `[P]`, as they are at the end.
      evaluation: that of all members, as `result.json` has it.
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
    return sorted(rows, key=lambda row: (-row["ci95_low"], -row["mean_return"]))


def best_experiment(experiment: Experiment, rows: list[dict[str, Any]]) -> Experiment:
    """The experiment of one agent with the best settings."""
    ppo = replace(experiment.ppo, **rows[0]["hyperparams"])
    return replace(experiment, ppo=ppo, sweep=None, run_dir=None, devices=None)


def write(run_dir: Path, experiment: Experiment, rows: list[dict[str, Any]]) -> list[Path]:
    """Writes the best settings and the pictures, and gives back their paths."""
    assert experiment.sweep is not None
    best = asdict(best_experiment(experiment, rows))
    for name in ("run_dir", "from_run"):
        best[name] = None if best[name] is None else str(best[name])
    write_json(run_dir / BEST_FILE, {"experiment": best})
    ranges = experiment.sweep.parsed()
    paths = [run_dir / BEST_FILE, run_dir / "response.png", run_dir / "parallel.png"]
    draw_response(rows, ranges, experiment.env, paths[1])
    draw_parallel(rows, ranges, experiment.env, paths[2])
    if experiment.sweep.pbt:
        paths.append(run_dir / "lineage.png")
        first = experiment.sweep.values(experiment.seed)
        draw_lineage(first, lineage.read(run_dir), ranges, experiment.env, paths[3])
    return paths


def print_table(console: Console, rows: list[dict[str, Any]]) -> None:
    """The best settings."""
    names = list(rows[0]["hyperparams"])
    table = Table(box=None, pad_edge=False)
    for name in ("setting", *names, "mean return", "95% interval"):
        table.add_column(name, justify="right")
    for row in rows[:NUM_SHOWN]:
        values = [f"{row['hyperparams'][name]:.3g}" for name in names]
        interval = f"{row['ci95_low']:.4g} to {row['ci95_high']:.4g}"
        table.add_row(str(row["setting"]), *values, f"{row['mean_return']:.4g}", interval)
    console.print(table)
    if len(rows) > NUM_SHOWN:
        console.print(f"and {len(rows) - NUM_SHOWN} more, all in result.json")


def draw_response(
    rows: list[dict[str, Any]], ranges: dict[str, Range], title: str, out: Path
) -> None:
    """The return of every setting against each of its hyperparameters."""
    from matplotlib.ticker import MaxNLocator

    figure = make_figure(3.6 * len(ranges) + 0.6, 3.6)
    all_axes = figure.subplots(1, len(ranges), sharey=True, squeeze=False)[0]
    means = np.array([row["mean_return"] for row in rows])
    errors = np.abs([[row["ci95_low"], row["ci95_high"]] for row in rows] - means[:, None]).T
    for axes, (name, range_) in zip(all_axes, ranges.items(), strict=True):
        x = [row["hyperparams"][name] for row in rows]
        axes.errorbar(x, means, errors, fmt="o", markersize=4, elinewidth=0.8, alpha=0.7)
        axes.plot(x[:1], means[:1], "o", markersize=7, color="tab:red", label="best")
        axes.set_xlabel(name.replace("_", " "))
        axes.set_xscale("log" if range_.log else "linear")
        if not range_.log:
            axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(alpha=0.3)
    all_axes[0].set_ylabel("mean return, 95% interval")
    all_axes[0].legend(loc="best", fontsize=8)
    figure.suptitle(title, fontsize=10)
    save_figure(figure, out)


def draw_parallel(
    rows: list[dict[str, Any]], ranges: dict[str, Range], title: str, out: Path
) -> None:
    """A line for every setting over its hyperparameters to its return, the best ones brightest."""
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    names = list(ranges)
    means = np.array([row["mean_return"] for row in rows])
    spread = Normalize(means.min(), means.max() if means.max() > means.min() else means.min() + 1)
    figure = make_figure(2.2 * (len(names) + 1) + 0.8, 3.8)
    axes = figure.subplots()
    for row, mean in reversed(list(zip(rows, means, strict=True))):
        shares = [_share(ranges[name], row["hyperparams"][name]) for name in names]
        color = colormaps["viridis"](spread(mean))
        axes.plot(range(len(names) + 1), [*shares, spread(mean)], color=color, alpha=0.8)
    axes.set_xticks(range(len(names) + 1), [*(n.replace("_", " ") for n in names), "mean return"])
    for i, name in enumerate(names):
        _label_ends(axes, i, ranges[name].low, ranges[name].high)
    _label_ends(axes, len(names), spread.vmin, spread.vmax)
    axes.set_ylim(-0.12, 1.12)
    axes.set_yticks([])
    for side in ("left", "right", "top", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_title(title, fontsize=10)
    save_figure(figure, out)


def _share(range_: Range, value: float) -> float:
    """Where in its range a value is, 0 to 1."""
    if range_.log:
        return float(np.log(value / range_.low) / np.log(range_.high / range_.low))
    return (value - range_.low) / (range_.high - range_.low)


def _label_ends(axes: Any, x: int, low: float | None, high: float | None) -> None:
    axes.plot([x, x], [0, 1], color="grey", linewidth=0.8)
    for y, value, align in ((-0.03, low, "top"), (1.03, high, "bottom")):
        axes.text(x, y, f"{value:.3g}", ha="center", va=align, fontsize=8)


def draw_lineage(
    first: dict[str, np.ndarray],
    lines: list[dict[str, Any]],
    ranges: dict[str, Range],
    title: str,
    out: Path,
) -> None:
    """Every member's hyperparameters over the updates, a dot where it took over from another."""
    history = lineage.replay(first, lines)
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
    all_axes[-1].set_xlabel("updates (a dot: took over from a better member)")
    figure.suptitle(title, fontsize=10)
    save_figure(figure, out)
