"""Trains every task of gymnax with its shipped settings, and tables what they reach.

Each algorithm trains the tasks for which it has a preset of its own.

Can be stopped at any time and goes on where it was; cells whose settings changed are done anew.
"""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import tyro
from learning import cells, pictures, tables
from rich.console import Console

from jaxdrl import ConfigError, Experiment
from jaxdrl.algorithms.settings import make_experiment
from jaxdrl.config.algorithms import ALGORITHMS, DEFAULT, require_algorithm
from jaxdrl.config.presets import PRESETS, TASKS
from jaxdrl.runs.stopping import RunInterruptedError

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class LearningTable:
    """Which tasks, how often, and where the results go."""

    tasks: tuple[str, ...] = tuple(TASKS)
    """Environments; all that are known by default."""
    algorithms: tuple[str, ...] = tuple(ALGORITHMS)
    """Algorithms, by name."""
    seeds: int = 5
    """Seeds of each, from 0 on."""
    results: Path = RESULTS
    """Directory of the cells, the table and the picture."""
    runs: Path = Path("runs/learning_table")
    """Directory of the run directories."""
    minutes: float | None = None
    """Begin no cell after so many; None: no limit."""
    short: bool = False
    """A few updates and episodes: shows that it works, measures nothing."""


class Cell(NamedTuple):
    """Which cell of the table."""

    task: str
    algorithm: str
    seed: int

    def __str__(self) -> str:
        suffix = "" if self.algorithm == DEFAULT else f" by {self.algorithm}"
        return f"{self.task}{suffix}, seed {self.seed}"

    @property
    def path(self) -> Path:
        """Where it is kept, of a directory; those of the default algorithm have none for it."""
        folder = "" if self.algorithm == DEFAULT else self.algorithm
        return Path(self.task, folder, f"seed{self.seed}")


def algorithms_of(config: LearningTable, task: str) -> list[str]:
    """Those that have a preset of the task; an unknown task has the defaults of all."""
    known = [name for name in PRESETS if task in PRESETS[name]]
    return [name for name in config.algorithms if not known or name in known]


def experiment_of(config: LearningTable, cell: Cell) -> Experiment:
    """What one cell trains."""
    experiment = replace(make_experiment(cell.task, cell.algorithm), seed=cell.seed)
    if config.short:
        steps = 2 * experiment.algorithm.env_steps_per_update
        experiment = replace(experiment, total_env_steps=steps, num_eval_episodes=4)
    return experiment


def load_cell(config: LearningTable, cell: Cell) -> dict[str, Any] | None:
    """What a cell holds, None where it has to be done."""
    return cells.load(path_of(config, cell), experiment_of(config, cell))


def path_of(config: LearningTable, cell: Cell) -> Path:
    """The file of a cell."""
    return config.results / "learning" / cell.path.with_suffix(".json")


def learn(config: LearningTable, console: Console) -> None:
    """Fills the cells that are missing, seed by seed, and writes the table after each seed."""
    started = time.perf_counter()
    for name in config.algorithms:
        require_algorithm(name)
    pairs = [(task, name) for task in config.tasks for name in algorithms_of(config, task)]
    for seed in range(config.seeds):
        for cell in (Cell(task, algorithm, seed) for task, algorithm in pairs):
            if load_cell(config, cell) is not None:
                continue
            if config.minutes is not None and time.perf_counter() - started > config.minutes * 60:
                console.print(f"{config.minutes:g} minutes are over; the same command goes on")
                return write(config)
            fill(config, cell, console)
        write(config)
    return None


def fill(config: LearningTable, cell: Cell, console: Console) -> None:
    """Trains a cell."""
    experiment = experiment_of(config, cell)
    name = f"{cell.path.name}-{cells.digest(experiment)}"
    console.rule(str(cell))
    run_dir = config.runs / cell.path.with_name(name)
    cells.measure(experiment, path_of(config, cell), run_dir, console.print)


def write(config: LearningTable) -> None:
    """The table, the JSON file and the pictures of all cells that there are."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for task in config.tasks:
        for algorithm in algorithms_of(config, task):
            each = (Cell(task, algorithm, seed) for seed in range(config.seeds))
            there = [x for x in (load_cell(config, cell) for cell in each) if x is not None]
            if there:
                found.setdefault(task, {})[algorithm] = there
    if not found:
        return
    rows = tables.summarise(found)
    tables.write_json(config.results / "learning_table.json", rows)
    tables.write_markdown(config.results / "learning_table.md", rows)
    pictures.draw(config.results, found, rows)


def main() -> None:
    """Runs what the command line says."""
    config = tyro.cli(LearningTable, description=__doc__)
    console = Console(highlight=False)
    try:
        learn(config, console)
    except RunInterruptedError as error:
        sys.exit(f"learning_table.py: {error}; the same command goes on")
    except ConfigError as error:
        sys.exit(f"learning_table.py: {error}")


if __name__ == "__main__":
    main()
