"""Learning curves of every task, with the spread over seeds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxdrl.analysis.figures import COLOURS, count_axis, legend_beside, picture
from learning import tables
from learning.notes import NOTES, Note

Cells = dict[str, dict[str, list[dict[str, Any]]]]
"""By task and algorithm, those of all seeds."""

WIDTH = 10.0
"""Of a picture in inches: on a page of 830 pixels its smallest letters are 9 pixels high."""


def draw(directory: Path, found: Cells, rows: tables.Rows) -> None:
    """A panel a task with the curve of its first algorithm, and one with those of all of them."""

    def alone(axes: Any, task: str) -> None:
        algorithm, cells = next(iter(found[task].items()))
        _alone(axes, cells, rows[task][algorithm])
        if remark := NOTES.get(task, Note()).remark:
            axes.set_title(f"{task}\n({remark})", fontsize=8)

    def together(axes: Any, task: str) -> None:
        for algorithm in tables.ordered(found[task]):
            colour = COLOURS[tables.order(algorithm) % len(COLOURS)]
            _curve(axes, found[task][algorithm], algorithm.upper(), colour)
        axes.set_xscale("log")

    of_what = "return of training episodes"
    _panels(directory / "learning_curves.png", list(found), 4, alone, of_what)
    compared = list(tables.compared(rows))
    if compared:
        path, spread = directory / "learning_curves_by_algorithm.png", "mean and range of the seeds"
        _panels(path, compared, 3, together, f"{of_what}\n({spread})", "environment steps (log)")


def _panels(
    path: Path,
    tasks: list[str],
    most: int,
    draw_panel: Callable[[Any, str], None],
    y: str,
    x: str = "environment steps",
) -> None:
    """Panels of the tasks, at most so many beside each other."""
    num_columns = min(most, len(tasks))
    num_rows = -(-len(tasks) // num_columns)
    size = WIDTH * num_columns / most, 1.8 * num_rows * 4 / most + 0.9
    with picture(path, *size) as figure:
        panels = figure.subplots(num_rows, num_columns, squeeze=False).reshape(-1)
        for axes, task in zip(panels, tasks, strict=False):
            axes.set_title(task.replace("/", "/\n"))
            draw_panel(axes, task)
        for axes in panels[len(tasks) :]:
            axes.remove()
        figure.supxlabel(x, fontsize=9)
        figure.supylabel(y, fontsize=9)
        legend_beside(figure, "upper")


def _alone(axes: Any, cells: list[dict[str, Any]], row: dict[str, Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    _curve(axes, cells, "mean of the seeds", COLOURS[0], spread="range of the seeds")
    axes.axhline(row["mean"], color=COLOURS[1], linewidth=1, label="greedy evaluation at the end")
    if row["published"] is not None:
        axes.axhline(row["published"], color="black", linestyle=":", label="published")
    count_axis(axes.xaxis, "")
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _curve(
    axes: Any, cells: list[dict[str, Any]], label: str, colour: str, spread: str = "_"
) -> None:
    """The mean of the seeds and their range."""
    curves = [cell["curve"] for cell in cells if cell["curve"]["env_steps"]]
    if not curves:
        return
    # Curves may lack points where no episode ended: interpolate onto those of the shortest.
    steps = np.asarray(min((c["env_steps"] for c in curves), key=len), np.float64)
    returns = np.stack([np.interp(steps, c["env_steps"], c["episode_return"]) for c in curves])
    low, high = returns.min(0), returns.max(0)
    axes.fill_between(steps, low, high, alpha=0.25, color=colour, label=spread, linewidth=0)
    axes.plot(steps, returns.mean(0), color=colour, linestyle="-", label=label)
