"""Pictures of a sweep: the return over its hyperparameters, and who copied whom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdrl.analysis.figures import COLOURS, legend_beside, picture
from jaxdrl.config.choices import Choices
from jaxdrl.config.search_space import Range
from jaxdrl.io.numerals import short
from jaxdrl.io.terminal import drawable
from jaxdrl.runs import pbt_log

Varied = dict[str, Range | Choices]
"""The ranges and choices that vary, by name."""

BEST = "best setting, by the lower end of its interval"


def values_of(row: dict[str, Any]) -> dict[str, Any]:
    """The values of a setting: choices of shapes as text, and hyperparameters as numbers."""
    return row.get("shape", {}) | row["hyperparams"]


def _heading(rows: Sequence[dict[str, Any]], env: str) -> str:
    """What was trained, and how many seeds each setting had."""
    seeds = len(rows[0]["members"])
    each = "one seed each" if seeds == 1 else f"{seeds} seeds each"
    return drawable(f"{env}: {len(rows):,} settings, {each}")


def draw_response(rows: list[dict[str, Any]], varied: Varied, env: str, out: Path) -> None:
    """Plots the return of every setting, best first, against each of its hyperparameters."""
    means = np.array([row["mean_return"] for row in rows])
    errors = np.abs([[row["ci95_low"], row["ci95_high"]] for row in rows] - means[:, None]).T
    over = "seeds" if len(rows[0]["members"]) > 1 else "episodes"
    with picture(out, max(4.0, 3.3 * len(varied) + 0.6), 3.8) as figure:
        all_axes = figure.subplots(1, len(varied), sharey=True, squeeze=False)[0]
        for axes, (name, spread) in zip(all_axes, varied.items(), strict=True):
            x: Any = [values_of(row)[name] for row in rows]
            if isinstance(spread, Choices):
                x = [spread.texts.index(text) for text in x]
            how = {"fmt": "o", "elinewidth": 0.8, "capsize": 0}
            words = f"mean return, with its 95% interval over {over}"
            axes.errorbar(x, means, errors, color=COLOURS[0], alpha=0.6, label=words, **how)
            best = {"marker": "o", "markersize": 7, "linestyle": "", "zorder": 3}
            axes.plot(x[:1], means[:1], color=COLOURS[1], label=BEST, **best)
            axes.set_xlabel(name.replace("_", " ") + " (log)" * _is_log(spread))
            _scale(axes, spread)
        all_axes[0].set_ylabel("mean return")
        figure.suptitle(_heading(rows, env))
        legend_beside(figure)


def _is_log(spread: Range | Choices) -> bool:
    return isinstance(spread, Range) and spread.log


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


def draw_parallel(rows: list[dict[str, Any]], varied: Varied, env: str, out: Path) -> None:
    """Plots a line for every setting, best first, over its hyperparameters to its return."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    names = list(varied)
    means = np.array([row["mean_return"] for row in rows])
    spread = Normalize(means.min(), means.max() if means.max() > means.min() else means.min() + 1)
    colours = ScalarMappable(spread, colormaps["viridis"])
    with picture(out, 2.2 * (len(names) + 1) + 1.4, 4.2) as figure:
        axes = figure.subplots()
        for i, row in reversed(list(enumerate(rows))):
            shares = [_share(varied[name], values_of(row)[name]) for name in names]
            how: dict[str, Any] = {"color": colours.to_rgba(means[i]), "alpha": 0.7}
            if i == 0:
                how = {"color": COLOURS[1], "linewidth": 3.0, "label": BEST}
            axes.plot(range(len(names) + 1), [*shares, spread(means[i])], linestyle="-", **how)
        words = [name.replace("_", " ") + "\n(log)" * _is_log(varied[name]) for name in names]
        axes.set_xticks(range(len(names) + 1), [*words, "mean return"])
        for i, name in enumerate(names):
            _label(axes, i, varied[name])
        _label(axes, len(names), Range(float(spread.vmin or 0), float(spread.vmax or 1)))
        axes.set_ylim(-0.12, 1.12)
        axes.set_yticks([])
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        figure.colorbar(colours, ax=axes, label="mean return", shrink=0.8)
        figure.suptitle(_heading(rows, env))
        legend_beside(figure)


def _share(spread: Range | Choices, value: Any) -> float:
    """The position of a value in its range, 0 to 1."""
    if isinstance(spread, Choices):
        return spread.texts.index(value) / (len(spread.texts) - 1)
    if spread.log:
        return float(np.log(value / spread.low) / np.log(spread.high / spread.low))
    return (value - spread.low) / (spread.high - spread.low)


def _label(axes: Any, x: int, spread: Range | Choices) -> None:
    """Draws a vertical axis, with the ends of its range or with all its choices."""
    axes.plot([x, x], [0, 1], color="grey", linewidth=0.8, linestyle="-")
    if isinstance(spread, Choices):
        for text in spread.texts:
            plain = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
            where = (x + 0.04, _share(spread, text))
            axes.text(*where, drawable(text), va="center", fontsize=8, bbox=plain)
        return
    for y, value, align in ((-0.03, spread.low, "top"), (1.03, spread.high, "bottom")):
        axes.text(x, y, short(value), ha="center", va=align, fontsize=8)


def draw_lineage(
    first: dict[str, np.ndarray],
    lines: list[dict[str, Any]],
    ranges: dict[str, Range],
    env: str,
    out: Path,
) -> None:
    """Plots the hyperparameters of every member over the updates, with a dot for every copy.

    The lower the value with which a member begins, the darker its line.
    """
    from matplotlib import colormaps

    history = pbt_log.replay(first, lines)
    updates = np.array([0, *(line["update"] for line in lines)])
    with picture(out, 7.0, 2.4 * len(ranges) + 0.9) as figure:
        all_axes = figure.subplots(len(ranges), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, range_) in zip(all_axes, ranges.items(), strict=True):
            ranks = np.argsort(np.argsort(history[name][0])) / max(1, len(history[name][0]) - 1)
            for member, rank in zip(history[name].T, ranks, strict=True):
                how = {"drawstyle": "steps-post", "linewidth": 0.9, "linestyle": "-"}
                axes.plot(updates, member, color=colormaps["viridis"](0.9 * rank), **how)
            for update, line, values in zip(updates[1:], lines, history[name][1:], strict=True):
                copied = np.flatnonzero(np.asarray(line["parent"]) != np.arange(len(values)))
                x = np.full(len(copied), update)
                axes.plot(x, values[copied], "k.", label="copied a better member")
            axes.set_yscale("log" if range_.log else "linear")
            axes.set_ylabel(name.replace("_", " ") + "\n(log)" * range_.log)
        all_axes[-1].set_xlabel("updates")
        num_members = len(next(iter(first.values())))
        figure.suptitle(drawable(f"{env}: {num_members} members, coloured by their first value"))
        legend_beside(figure)
