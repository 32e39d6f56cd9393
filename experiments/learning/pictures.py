"""Learning curves of every task, with the spread over seeds."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxdrl.analysis.learning_curves import make_figure


def draw(
    path: Path, found: dict[str, list[dict[str, Any]]], rows: dict[str, dict[str, Any]]
) -> None:
    """A panel a task: mean over the seeds, the range of the seeds, and the published score."""
    tasks = [task for task, cells in found.items() if cells]
    if not tasks:
        return
    num_columns = min(5, len(tasks))
    num_rows = -(-len(tasks) // num_columns)
    figure = make_figure(3.1 * num_columns, 2.3 * num_rows + 0.5)
    panels = np.atleast_1d(figure.subplots(num_rows, num_columns, squeeze=False)).reshape(-1)
    for axes, task in zip(panels, tasks, strict=False):
        _panel(axes, task, found[task], rows[task])
    for axes in panels[len(tasks) :]:
        axes.remove()
    figure.supxlabel("environment steps")
    figure.supylabel("return of training episodes")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=110)


def _panel(axes: Any, task: str, cells: list[dict[str, Any]], row: dict[str, Any]) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    curves = [cell["curve"] for cell in cells if cell["curve"]["env_steps"]]
    if curves:
        # Curves may lack points where no episode ended: interpolate onto those of the shortest.
        steps = np.asarray(min((c["env_steps"] for c in curves), key=len), np.float64)
        returns = np.stack([np.interp(steps, c["env_steps"], c["episode_return"]) for c in curves])
        axes.fill_between(steps, returns.min(0), returns.max(0), alpha=0.3, label="range of seeds")
        axes.plot(steps, returns.mean(0), label="mean over seeds")
    axes.axhline(row["mean"], color="C2", linewidth=1, label="greedy evaluation at the end")
    if row["published"] is not None:
        axes.axhline(row["published"], color="black", linestyle=":", label="published")
    axes.set_title(task, fontsize=9)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(labelsize=7)
