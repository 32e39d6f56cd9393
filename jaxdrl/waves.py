"""Sweeps in waves: members that do not fit at once are trained some after the others.

Each wave is a run of its own over some of the members. A member has the key and the hyperparameters
that it has where all are trained at once, and so the same result.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxdrl.experiment import Experiment
from jaxdrl.sweep_parts import WAVES, mean_return

TrainPart = Callable[[Experiment], dict[str, Any]]
"""Trains a run to its end, from wherever it stands, and gives back its `result.json`."""


def train(experiment: Experiment, train_part: TrainPart, console: Console) -> dict[str, Any]:
    """Trains the waves of a sweep in turn, and gives back the `result.json` of all its members."""
    assert experiment.sweep is not None and experiment.run_dir is not None
    waves, results = experiment.sweep.waves, []
    for wave, sweep in enumerate(waves):
        numbers, run_dir = sweep.numbers, experiment.run_dir / WAVES / str(wave)
        console.print(f"wave {wave + 1} of {len(waves)}: members {numbers[0]} to {numbers[-1]}")
        results.append(train_part(replace(experiment, sweep=sweep, run_dir=Path(run_dir))))
    return merge(experiment, results)


def merge(experiment: Experiment, results: list[dict[str, Any]]) -> dict[str, Any]:
    """One result of those of all waves; its digests are digests of theirs."""
    assert experiment.sweep is not None
    evaluations = [result["evaluation"] for result in results]
    best = max(range(len(results)), key=lambda wave: mean_return(results[wave]))
    number = experiment.sweep.waves[best].numbers[evaluations[best]["best_member"]]
    lists = {
        name: _numbers([value for found in evaluations for value in found[name]])
        for name in ("member_returns", "member_ci95")
    }
    sums = {
        name: sum(result[name] for result in results)
        for name in ("compile_seconds", "train_seconds")
    }
    digests = {
        name: hashlib.sha256("".join(result[name] for result in results).encode()).hexdigest()
        for name in ("params_sha256", "state_sha256")
    }
    env_steps = experiment.sweep.num_members * results[0]["env_steps"]
    speed = env_steps / sums["train_seconds"]
    evaluation = evaluations[best] | {"best_member": number} | lists
    whole = {"steps_per_second": speed, "evaluation": evaluation}
    return results[0] | sums | digests | whole


def _numbers(values: list[Any]) -> list[Any]:
    """Lists from JSON, where null stands for a number that is not finite."""
    return [
        _numbers(value) if isinstance(value, list) else math.nan if value is None else value
        for value in values
    ]
