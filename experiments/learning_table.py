"""Trains every task of gymnax with its shipped settings, and tables what they reach.

Can be stopped at any time and goes on where it was; cells whose settings changed are done anew.
"""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from learning import cells, pictures, tables
from rich.console import Console

from jaxdrl import ConfigError, Experiment
from jaxdrl.algorithms.settings import make_experiment
from jaxdrl.config.presets import TASKS
from jaxdrl.runs.stopping import RunInterruptedError

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class LearningTable:
    """Which tasks, how often, and where the results go."""

    tasks: tuple[str, ...] = tuple(TASKS)
    """Environments; all that are known by default."""
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


def experiment_of(config: LearningTable, task: str, seed: int) -> Experiment:
    """What one cell trains."""
    experiment = replace(make_experiment(task), seed=seed)
    if config.short:
        steps = 2 * experiment.algorithm.env_steps_per_update
        experiment = replace(experiment, total_env_steps=steps, num_eval_episodes=4)
    return experiment


def load_cell(config: LearningTable, task: str, seed: int) -> dict[str, Any] | None:
    """A cell, None where it has to be done."""
    return cells.load(path_of(config, task, seed), experiment_of(config, task, seed))


def path_of(config: LearningTable, task: str, seed: int) -> Path:
    """The file of a cell."""
    return config.results / "learning" / task / f"seed{seed}.json"


def learn(config: LearningTable, console: Console) -> None:
    """Fills the cells that are missing, seed by seed, and writes the table after each seed."""
    started = time.perf_counter()
    for seed in range(config.seeds):
        for task in config.tasks:
            if load_cell(config, task, seed) is not None:
                continue
            if config.minutes is not None and time.perf_counter() - started > config.minutes * 60:
                console.print(f"{config.minutes:g} minutes are over; the same command goes on")
                return write(config)
            experiment = experiment_of(config, task, seed)
            run_dir = config.runs / task / f"seed{seed}-{cells.digest(experiment)}"
            console.rule(f"{task}, seed {seed}")
            cells.measure(experiment, path_of(config, task, seed), run_dir, console.print)
        write(config)
    return None


def write(config: LearningTable) -> None:
    """The table, the JSON file and the picture of all cells that there are."""
    found = {}
    for task in config.tasks:
        loaded = [load_cell(config, task, seed) for seed in range(config.seeds)]
        found[task] = [cell for cell in loaded if cell is not None]
    rows = tables.summarise({task: there for task, there in found.items() if there})
    if not rows:
        return
    tables.write_json(config.results / "learning_table.json", rows)
    tables.write_markdown(config.results / "learning_table.md", rows)
    pictures.draw(config.results / "learning_curves.png", found, rows)


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
