"""Learning curves of every task, with the spread over seeds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxdrl.analysis.figures import make_figure
from learning import tables

Cells = dict[str, dict[str, list[dict[str, Any]]]]
"""By task and algorithm, those of all seeds."""


def draw(directory: Path, found: Cells, rows: tables.Rows) -> None:
    """A panel a task with the curve of its first algorithm, and one with those of all of them."""

    def alone(axes: Any, task: str) -> None:
        algorithm, cells = next(iter(found[task].items()))
        _alone(axes, cells, rows[task][algorithm])

    def together(axes: Any, task: str) -> None:
        for algorithm in tables.ordered(found[task]):
            _curve(axes, found[task][algorithm], algorithm.upper(), tables.order(algorithm))
        axes.set_xscale("log")

    _panels(directory / "learning_curves.png", list(found), alone)
    compared = list(tables.compared(rows))
    if compared:
        _panels(directory / "learning_curves_by_algorithm.png", compared, together)


def _panels(path: Path, tasks: list[str], draw_panel: Callable[[Any, str], None]) -> None:
    num_columns = min(5, len(tasks))
    num_rows = -(-len(tasks) // num_columns)
    figure = make_figure(3.1 * num_columns, 2.3 * num_rows + 0.5)
    panels = np.atleast_1d(figure.subplots(num_rows, num_columns, squeeze=False)).reshape(-1)
    handles: dict[str, Any] = {}
    for axes, task in zip(panels, tasks, strict=False):
        draw_panel(axes, task)
        axes.set_title(task, fontsize=9)
        axes.tick_params(labelsize=7)
        handles |= {
            label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
    for axes in panels[len(tasks) :]:
        axes.remove()
    figure.supxlabel("environment steps")
    figure.supylabel("return of training episodes")
    labels = list(handles)
    figure.legend(handles.values(), labels, loc="outside upper right", ncols=len(labels))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=110)


def _alone(axes: Any, cells: list[dict[str, Any]], row: dict[str, Any]) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    _curve(axes, cells, "mean over seeds", 0, spread="range of seeds")
    axes.axhline(row["mean"], color="C2", linewidth=1, label="greedy evaluation at the end")
    if row["published"] is not None:
        axes.axhline(row["published"], color="black", linestyle=":", label="published")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(4))


def _curve(
    axes: Any, cells: list[dict[str, Any]], label: str, color: int, spread: str = "_"
) -> None:
    """The mean of the seeds and their range."""
    curves = [cell["curve"] for cell in cells if cell["curve"]["env_steps"]]
    if not curves:
        return
    # Curves may lack points where no episode ended: interpolate onto those of the shortest.
    steps = np.asarray(min((c["env_steps"] for c in curves), key=len), np.float64)
    returns = np.stack([np.interp(steps, c["env_steps"], c["episode_return"]) for c in curves])
    low, high = returns.min(0), returns.max(0)
    axes.fill_between(steps, low, high, alpha=0.3, color=f"C{color}", label=spread)
    axes.plot(steps, returns.mean(0), color=f"C{color}", label=label)
