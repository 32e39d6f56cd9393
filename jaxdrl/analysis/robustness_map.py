"""Returns over a grid of environment parameters, as a picture and in the terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from jaxdrl.analysis import robustness_panels
from jaxdrl.analysis.figures import legend_beside, picture, require_picture
from jaxdrl.analysis.parameter_units import with_unit
from jaxdrl.analysis.robustness_panels import Trained
from jaxdrl.checks import require
from jaxdrl.envs.domain_randomization import parse_ranges
from jaxdrl.evaluation.parameter_grid import RobustnessMap
from jaxdrl.io.console import say
from jaxdrl.io.numerals import short
from jaxdrl.io.terminal import drawable
from jaxdrl.runs.restore import Player
from jaxdrl.runs.run_dir import read_run


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


def trained_at(player: Player) -> Trained:
    """Where a policy was trained: its parameters, or the ranges from which they were drawn."""
    params = player.env.default_params
    ranges = parse_ranges(read_run(player.run_dir).experiment.randomize)
    values = vars(params) if dataclasses.is_dataclass(params) else {}
    fixed = {name: (float(x), float(x)) for name, x in values.items() if np.ndim(x) == 0}
    return fixed | ranges


def difference(first: RobustnessMap, second: RobustnessMap) -> tuple[np.ndarray, ...]:
    """First minus second: means, and the lower and upper ends of their 95% intervals.

    The intervals come from those of the two means, taken as independent (Zou and Donner 2008,
    "Construction of confidence limits about effect measures"). Both policies start their episodes
    from the same seeds, which can only narrow the true ones where it makes their returns alike.
    """
    one, other = first.mean_return, second.mean_return
    below = np.hypot(one - first.ci95_low, second.ci95_high - other)
    above = np.hypot(first.ci95_high - one, other - second.ci95_low)
    mean = one - other
    return mean, mean - below, mean + above


def draw(
    maps: Mapping[str, RobustnessMap],
    out: Path,
    env: str = "",
    trained: Mapping[str, Trained] | None = None,
) -> None:
    """Draws curves over one parameter, or a heat map over two for each of `maps`, by title.

    Of two maps, the difference is drawn as well.

    Args:
      maps: by the name of the policy.
      out: a PNG, SVG or PDF file.
      env: name of the environment, for the title and for units.
      trained: where each policy was trained, which is marked.
    """
    found = list(maps.values())
    variations = found[0].variations
    require_drawable(out, len(variations))
    labels = [drawable(with_unit(env, variation.name)) for variation in variations]
    places = {title: (trained or {}).get(title, {}) for title in maps}
    if len(variations) == 1:
        with picture(out, 6.5, 4.0 + 1.7 * (len(found) == 2)) as figure:
            robustness_panels.draw_curves(figure, maps, places, labels[0], _pair(found))
            _finish(figure, env, found[0].num_episodes)
    else:
        with picture(out, 1.5 + 3.6 * len(found) + 3.6 * (len(found) == 2), 4.2) as figure:
            robustness_panels.draw_heat(figure, maps, places, labels, _pair(found))
            _finish(figure, env, found[0].num_episodes)


def _pair(found: list[RobustnessMap]) -> tuple[np.ndarray, ...] | None:
    return difference(*found) if len(found) == 2 else None


def _finish(figure: Any, env: str, num_episodes: int) -> None:
    figure.suptitle(drawable(f"{env}: " * bool(env) + f"{num_episodes:,} episodes in each cell"))
    legend_beside(figure)


def show(console: Console, found: RobustnessMap) -> None:
    """Prints a summary of the grid, and its worst cells."""
    returns = found.mean_return
    quarter = np.sort(returns, axis=None)[: max(1, returns.size // 4)]
    say(
        console,
        f"{returns.size:,} cells of {found.num_episodes} episodes: "
        f"mean return {short(returns.mean())}, {short(quarter.mean())} in the worst quarter, "
        f"from {short(returns.min())} to {short(returns.max())}",
    )
    for params, mean in found.worst():
        words = ", ".join(f"{name}={short(value)}" for name, value in params.items())
        say(console, f"  among the worst: {words}: {short(mean)}")


def show_difference(console: Console, first: RobustnessMap, second: RobustnessMap) -> None:
    """Prints where the first of two policies is better, and where it is worse."""
    mean, low, high = difference(first, second)
    better, worse = int((low > 0.0).sum()), int((high < 0.0).sum())
    say(
        console,
        f"first minus second: {short(mean.mean())} on average, from {short(mean.min())} to "
        f"{short(mean.max())}; the first is better in {better:,} and worse in {worse:,} of "
        f"{mean.size:,} cells by the 95% interval of the difference",
    )
