"""What a sweep found: a table, the best settings as a config, and pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from jaxdrl.config.experiment import Experiment
from jaxdrl.config.settings import with_settings
from jaxdrl.config.stored import to_json
from jaxdrl.errors import ConfigError
from jaxdrl.evaluation.episodes import bootstrap_interval
from jaxdrl.io.json_files import write_json
from jaxdrl.io.numerals import short
from jaxdrl.runs import pbt_log
from jaxdrl.runs.sweep_members import numbers_in_words
from jaxdrl.sweeps import pictures
from jaxdrl.sweeps.pictures import values_of

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
        pictures.draw_response(rows, varied, experiment.env, paths[1])
        pictures.draw_parallel(rows, varied, experiment.env, paths[2])
    if sweep.pbt and not sweep.is_search:
        paths.append(run_dir / "lineage.png")
        first = sweep.values(experiment.seed)
        try:
            lines, ranges = pbt_log.read(run_dir), sweep.parsed()
            pictures.draw_lineage(first, lines, ranges, experiment.env, paths[3])
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
    names, ends = list(values_of(rows[0])), ["mean return", "95% interval"]
    table = Table(box=None, pad_edge=False)
    for name in (*where, members, *([] if narrow else names), *ends):
        table.add_column(name, justify="right")
    if narrow:
        table.add_column("values")
    for row in rows:
        numbers = [*(str(row[name]) for name in where), numbers_in_words(row["members"])]
        values = [x if isinstance(x, str) else short(x) for x in values_of(row).values()]
        found = ["not finite", ""]
        if is_finite(row):
            interval = f"{short(row['ci95_low'])} to {short(row['ci95_high'])}"
            found = [short(row["mean_return"]), interval]
        lines = "\n".join(f"{name} {x}" for name, x in zip(names, values, strict=True))
        table.add_row(*numbers, *([*found, lines] if narrow else [*values, *found]))
    return table
