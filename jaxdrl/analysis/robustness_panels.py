"""The panels of a robustness map: curves over one parameter, heat maps over two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdrl.analysis.figures import COLOURS
from jaxdrl.evaluation.parameter_grid import RobustnessMap
from jaxdrl.io.numerals import short
from jaxdrl.io.terminal import drawable

Trained = Mapping[str, tuple[float, float]]
"""The range of each parameter in training, whose ends are equal where it was fixed."""

Difference = tuple[np.ndarray, ...]
"""First minus second of two maps, and the ends of its interval."""

LONGEST = 30
"""Letters of the names of two policies that fit at their difference."""


def draw_curves(
    figure: Any,
    maps: Mapping[str, RobustnessMap],
    trained: Mapping[str, Trained],
    label: str,
    gain: Difference | None,
) -> None:
    """The return over one parameter, above the difference of two policies if there are two."""
    rows = 1 if gain is None else 2
    panels = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=[3, 2][:rows])[:, 0]
    (variation,) = next(iter(maps.values())).variations
    x = variation.values
    for colour, (title, one) in zip(COLOURS, maps.items(), strict=False):
        panels[0].plot(x, one.mean_return, marker="o", color=colour, label=drawable(title))
        panels[0].fill_between(
            x, one.ci95_low, one.ci95_high, alpha=0.25, color=colour, linewidth=0
        )
    panels[0].set_ylabel("mean return\nand 95% interval")
    panels[0].set_xlim(x[0], x[-1])
    if gain is not None:
        mean, low, high = gain
        panels[1].plot(x, mean, marker="o", color="black")
        panels[1].fill_between(x, low, high, alpha=0.2, color="black", linewidth=0)
        panels[1].axhline(0.0, color="grey", linewidth=0.8)
        panels[1].set_ylabel(f"{_minus(maps)},\n95% interval")
    panels[-1].set_xlabel(label)
    for axes in panels:
        _mark_on_axis(axes, variation.name, trained)


def _minus(maps: Mapping[str, RobustnessMap]) -> str:
    words = " minus ".join(maps)
    return drawable(words) if len(words) <= LONGEST else "first minus second"


def _mark_on_axis(axes: Any, name: str, trained: Mapping[str, Trained]) -> None:
    """A line or a band where policies were trained, grey if it is the same for all."""
    places = {title: place[name] for title, place in trained.items() if name in place}
    is_shared = len(set(places.values())) == 1
    for colour, (low, high) in zip(COLOURS, places.values(), strict=False):
        colour = "grey" if is_shared else colour
        if low < high:
            words = f"trained on {short(low)} to {short(high)}"
            axes.axvspan(low, high, color=colour, alpha=0.12, linewidth=0, label=words)
        else:
            words = f"trained at {short(low)}"
            axes.axvline(low, color=colour, linestyle=":", label=words)
        if is_shared:
            return


def draw_heat(
    figure: Any,
    maps: Mapping[str, RobustnessMap],
    trained: Mapping[str, Trained],
    labels: Sequence[str],
    gain: Difference | None,
) -> None:
    """A map for each policy in the same colours, and one of the difference of two."""
    found = list(maps.values())
    panels = figure.subplots(1, len(found) + (gain is not None), squeeze=False, sharey=True)[0]
    low = min(one.mean_return.min() for one in found)
    high = max(one.mean_return.max() for one in found)
    for axes, (title, one) in zip(panels, maps.items(), strict=False):
        mesh = _heat(axes, one, one.mean_return, cmap="viridis", vmin=low, vmax=high)
        axes.set_title(drawable(title) if len(found) > 1 else "")
        _mark_on_map(axes, one, trained.get(title, {}))
    figure.colorbar(mesh, ax=list(panels[: len(found)]), label="mean return")
    if gain is not None:
        mean, *ends = gain
        most = float(np.abs(mean).max()) or 1.0
        mesh = _heat(panels[-1], found[0], mean, cmap="PuOr", vmin=-most, vmax=most)
        panels[-1].set_title(_minus(maps))
        _dot(panels[-1], found[0], (ends[0] <= 0.0) & (ends[1] >= 0.0))
        figure.colorbar(mesh, ax=panels[-1], label="difference of the mean returns")
    for axes in panels:
        axes.set_xlabel(labels[0])
    panels[0].set_ylabel(labels[1])


def _heat(axes: Any, grid: RobustnessMap, values: np.ndarray, **colours: Any) -> Any:
    x, y = (variation.values for variation in grid.variations)
    mesh = axes.pcolormesh(x, y, values.T, shading="nearest", **colours)
    axes.grid(visible=False)
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # what is marked may lie outside
    return mesh


def _mark_on_map(axes: Any, grid: RobustnessMap, place: Trained) -> None:
    """A star where a policy was trained, or the outline of where its parameters were drawn from."""
    from matplotlib.patches import Rectangle

    if not all(variation.name in place for variation in grid.variations):
        return
    (left, right), (bottom, top) = (place[variation.name] for variation in grid.variations)
    if (left, bottom) == (right, top):
        star = {"marker": "*", "markersize": 13, "markeredgecolor": "white", "linestyle": ""}
        axes.plot(left, bottom, color=COLOURS[1], label="trained here", **star)
        return
    outline = Rectangle((left, bottom), right - left, top - bottom, fill=False)
    outline.set(edgecolor=COLOURS[1], linewidth=2.0)
    outline.set_label("trained on parameters drawn from here")
    axes.add_patch(outline)


def _dot(axes: Any, grid: RobustnessMap, where: np.ndarray) -> None:
    """A dot in the cells in which two policies cannot be told apart."""
    x, y = (variation.values for variation in grid.variations)
    i, j = np.nonzero(where)
    if len(i):
        words = "no difference by its 95% interval"
        axes.plot(x[i], y[j], ".", color="black", markersize=3, label=words)
