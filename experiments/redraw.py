"""Draws the pictures of the documentation anew from the stored results; nothing is measured."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pbt
import staleness
import tyro
from benchmarks import plot
from learning import pictures

from jaxdrl import ConfigError

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments/results"


@dataclass(frozen=True)
class Redraw:
    """Where the pictures go."""

    out: Path = ROOT
    """Directory in which they have the same paths as in the repository."""


def redraw(config: Redraw) -> None:
    """Draws all pictures."""
    images, results = config.out / "docs/images", config.out / "experiments/results"
    for name in ("throughput", "hosts_scaling"):
        plot.draw(stored(f"{name}.json"), images / f"{name}.png")
    content = stored("staleness.json")
    of_staleness = staleness.Staleness(**_known(staleness.Staleness, content["settings"]))
    staleness.draw(of_staleness, content["rows"], images / "staleness.png")
    content = stored("pbt.json")
    of_pbt = pbt.Comparison(**_known(pbt.Comparison, content["settings"]))
    pbt.draw(of_pbt, content["rows"], results / "pbt.png")
    for table in (".", "host", "suites"):
        found, rows = cells_of(RESULTS / table)
        pictures.draw(results / table, found, rows)


def stored(name: str) -> Any:
    """The content of a file of results."""
    return json.loads((RESULTS / name).read_text())


def _known(kind: Any, settings: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in settings.items() if name in names}


def cells_of(directory: Path) -> tuple[pictures.Cells, Any]:
    """The cells from which a table was made, and its rows.

    Raises:
      ConfigError: if a cell has another return than the table.
    """
    rows = json.loads((directory / "learning_table.json").read_text())["tasks"]
    found: pictures.Cells = {}
    for task, of_task in rows.items():
        for algorithm, row in of_task.items():
            folder = directory / "learning" / task / (algorithm if algorithm != "ppo" else "")
            paths = [folder / f"seed{seed}.json" for seed in range(row["num_seeds"])]
            cells = [json.loads(path.read_text()) for path in paths]
            if [cell["evaluation"]["mean_return"] for cell in cells] != row["returns"]:
                raise ConfigError(f"{folder}: is newer than the table; run learning_table.py")
            found.setdefault(task, {})[algorithm] = cells
    return found, rows


if __name__ == "__main__":
    redraw(tyro.cli(Redraw, description=__doc__))
