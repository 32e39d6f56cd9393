"""Sweeps in waves: members that do not fit into memory at once are trained in groups.

Each wave is a run of its own with some of the members. A member has the same key and the same
hyperparameters as if all members were trained at once, and so the same result.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.console import Console

from jaxdrl.config.experiment import Experiment
from jaxdrl.runs.nested import WAVES, TrainPart, mean_return, merge


def train(experiment: Experiment, train_part: TrainPart, console: Console) -> dict[str, Any]:
    """Trains the waves of a sweep in order, and returns one `result.json` of all its members."""
    assert experiment.sweep is not None and experiment.run_dir is not None
    waves, results = experiment.sweep.waves, []
    for wave, sweep in enumerate(waves):
        numbers, run_dir = sweep.numbers, experiment.run_dir / WAVES / str(wave)
        console.print(f"wave {wave + 1} of {len(waves)}: members {numbers[0]} to {numbers[-1]}")
        results.append(train_part(replace(experiment, sweep=sweep, run_dir=run_dir)))
    best = max(range(len(waves)), key=lambda wave: mean_return(results[wave]))
    firsts = [sweep.numbers[0] for sweep in waves]
    return merge(results, firsts, experiment.sweep.num_members, best)
