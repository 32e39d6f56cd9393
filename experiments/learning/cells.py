"""One cell of the learning table: a task trained with one seed, kept as a small JSON file."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxdrl
from jaxdrl import Experiment
from jaxdrl.config.algorithms import kind_of
from jaxdrl.config.settings import flat_settings
from jaxdrl.io.safe_files import write_text
from jaxdrl.runs.machine import versions
from jaxdrl.runs.run_dir import CHECKPOINTS, METRICS_FILE

CURVE_POINTS = 50
"""Points of a learning curve that are kept, each the mean of a part of the run."""

MACHINE = ("run_dir", "devices", "checkpoint_minutes", "checkpoint_every", "keep_checkpoints")
"""Fields of an experiment that do not decide its result."""


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """Everything that decides the result and differs from the defaults, as JSON has it.

    A setting that is new, and left as it was before, so makes no cell another one.
    """
    plain = Experiment(env=experiment.env)
    defaults, config = asdict(plain), experiment.algorithm
    changed = {
        name: value
        for name, value in asdict(experiment).items()
        if name not in (*MACHINE, "algorithm") and (name == "env" or value != defaults[name])
    }
    standard = flat_settings(type(config)())
    settings = {name: v for name, v in flat_settings(config).items() if v != standard[name]}
    return json.loads(json.dumps({**changed, kind_of(config): settings}))


def digest(experiment: Experiment) -> str:
    """Eight letters that tell settings apart."""
    text = json.dumps(settings_of(experiment), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def load(path: Path, experiment: Experiment) -> dict[str, Any] | None:
    """The cell in `path`, None where there is none or it was made with other settings."""
    if not path.exists():
        return None
    cell = json.loads(path.read_text())
    return cell if cell["settings"] == settings_of(experiment) else None


def measure(
    experiment: Experiment, path: Path, run_dir: Path, report: Callable[[str], Any]
) -> dict[str, Any]:
    """Trains, or goes on where an earlier call was stopped, and writes the cell.

    Raises:
      RunInterruptedError: after SIGTERM or Ctrl-C; the next call goes on from there.
    """
    experiment = replace(experiment, run_dir=run_dir)
    if (run_dir / CHECKPOINTS).exists():
        report("going on")
        run = jaxdrl.resume(run_dir)
    else:
        run = jaxdrl.run(experiment)
    cell = {
        "settings": settings_of(experiment),
        "versions": versions(),
        "evaluation": run.result["evaluation"],
        "env_steps": run.result["env_steps"],
        "train_seconds": round(run.result["train_seconds"], 2),
        "compile_seconds": round(run.result["compile_seconds"], 2),
        "curve": curve(run_dir / METRICS_FILE),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(cell, indent=1) + "\n")
    jax.clear_caches()  # or hundreds of programs would stay in memory
    return cell


def curve(metrics_file: Path, num_points: int = CURVE_POINTS) -> dict[str, list[float]]:
    """Mean return of the training episodes over `num_points` equal parts of the run."""
    lines = [json.loads(line) for line in metrics_file.read_text().splitlines()]
    found: dict[str, list[float]] = {"env_steps": [], "episode_return": []}
    for part in np.array_split(np.arange(len(lines)), min(num_points, len(lines))):
        ended = [lines[i] for i in part if lines[i]["num_episodes"]]
        if not ended:
            continue
        weights = [line["num_episodes"] for line in ended]
        returns = [line["episode_return"] for line in ended]
        found["env_steps"].append(lines[part[-1]]["env_steps"])
        found["episode_return"].append(float(f"{np.average(returns, weights=weights):.6g}"))
    return found
