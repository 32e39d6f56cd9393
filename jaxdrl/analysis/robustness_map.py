"""Returns over a grid of environment parameters, as a picture and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console

from jaxdrl.analysis.figures import make_figure, require_picture, save_figure
from jaxdrl.checks import require
from jaxdrl.evaluation.parameter_grid import RobustnessMap
from jaxdrl.io.numerals import short
from jaxdrl.io.terminal import drawable


def require_drawable(out: Path, num_variations: int) -> None:
    """Raises `ConfigError` unless a grid of this many parameters can be drawn in `out`."""
    require_picture(out)
    require(
        num_variations > 0,
        "out",
        str(out),
        "is the picture of --vary or --round-robin; give one of them",
    )
    works = "can show one or two parameters; with more, use the JSON file of --json"
    require(num_variations <= 2, "out", str(out), works)


def draw(maps: Mapping[str, RobustnessMap], out: Path) -> None:
    """Draws curves over one parameter, or a heat map over two for each of `maps`, by title."""
    found = list(maps.values())
    require_drawable(out, len(found[0].variations))
    first, *others = found[0].variations
    num_panels = len(found) if others else 1
    figure = make_figure(1.5 + 5.0 * num_panels, 4.5)
    panels = figure.subplots(1, num_panels, squeeze=False, sharey=True)[0]
    for axes in panels:
        axes.set_xlabel(drawable(first.name))
    if others:
        panels[0].set_ylabel(drawable(others[0].name))
        low = min(one.mean_return.min() for one in found)
        high = max(one.mean_return.max() for one in found)
        for axes, (title, one) in zip(panels, maps.items(), strict=True):
            axes.set_title(drawable(title), fontsize=10)
            x, y = first.values, others[0].values
            mesh = axes.pcolormesh(x, y, one.mean_return.T, shading="nearest", vmin=low, vmax=high)
        words = f"mean return over {found[0].num_episodes} episodes"
        figure.colorbar(mesh, ax=list(panels), label=words)
    else:
        (axes,) = panels
        for title, one in maps.items():
            axes.plot(
                first.values, one.mean_return, marker="o", markersize=3, label=drawable(title)
            )
            axes.fill_between(first.values, one.ci95_low, one.ci95_high, alpha=0.3)
        axes.set_ylabel(f"mean return over {found[0].num_episodes} episodes, 95% interval")
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(figure, out)


def show(console: Console, found: RobustnessMap) -> None:
    """Prints a summary of the grid, and its worst cells."""
    returns = found.mean_return
    quarter = np.sort(returns, axis=None)[: max(1, returns.size // 4)]
    console.print(
        f"{returns.size:,} cells of {found.num_episodes} episodes: "
        f"mean return {short(returns.mean())}, {short(quarter.mean())} in the worst quarter, "
        f"from {short(returns.min())} to {short(returns.max())}",
        soft_wrap=True,
    )
    for params, mean in found.worst():
        words = ", ".join(f"{name}={short(value)}" for name, value in params.items())
        console.print(f"  among the worst: {words}: {short(mean)}", soft_wrap=True)
