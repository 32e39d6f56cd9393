"""Trains with two processes of one device, and with one process of two, on the same cores."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from benchmarks.cases import Case
from benchmarks.figures import ratios, spread
from benchmarks.report import make_table, with_spread
from benchmarks.workers import WorkerError

COMMAND = (sys.executable, "-c", "from jaxdrl.cli.main import main; main()")
WAYS = {
    "1 process x 2 devices": (),
    "2 processes x 1 device": ("launch", "--processes", "2", "--"),
}
"""What precedes the command that trains; the first is compared with."""


def train_flags(case: Case, updates: int, run_dir: Path) -> list[str]:
    """The command that trains a case on two devices, in however many processes."""
    numbers = {
        "num-envs": case.num_envs,
        "num-steps": case.num_steps,
        "num-epochs": case.num_epochs,
        "num-minibatches": case.num_minibatches,
        "total-env-steps": updates * case.env_steps,
        "num-eval-episodes": 8,
        "checkpoint-every": updates,
        "devices": 2,
    }
    flags = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    sizes = ["--torso", "mlp", "--hidden-sizes", *map(str, case.hidden_sizes)]
    return ["train", case.env, *flags, *sizes, "--run-dir", str(run_dir)]


def train(way: str, case: Case, updates: int, run_dir: Path) -> float:
    """Steps per second of a run, without what it compiles.

    Raises:
      WorkerError: if it fails.
    """
    command = [*COMMAND, *WAYS[way], *train_flags(case, updates, run_dir)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
        raise WorkerError(f"{way} ended with {done.returncode}:\n{last}")
    return json.loads((run_dir / "result.json").read_text())["steps_per_second"]


def environment() -> dict[str, str]:
    """Variables without those of a launcher that this process may have been started by."""
    ours = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    return {name: value for name, value in os.environ.items() if name not in ours}


def measure(
    case: Case, updates: int, repetitions: int, directory: Path, report: Callable[[str], Any]
) -> dict[str, Any]:
    """Both ways in turn, after a round of each that compiles; the ratios are taken round by round.

    Args:
      case: what is trained.
      updates: of a run.
      repetitions: rounds.
      directory: where the runs go.
      report: is told what is being done.
    """
    speeds: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(repetitions + 1):
        for i, way in enumerate(WAYS):
            report(f"round {number} of {repetitions}: {way}")
            speed = train(way, case, updates if number else 2, directory / f"{number}-{i}")
            if number:  # the first keeps its program
                speeds[way].append(speed)
    one, two = speeds.values()
    return {
        "speeds": speeds,
        "speed": {way: spread(found) for way, found in speeds.items()},
        "ratio": ratios(two, one),
    }


def tables(result: dict[str, Any]) -> list[RenderableType]:
    """The speed of each way, and their ratio."""
    rows = [(way, with_spread(speed)) for way, speed in result["speed"].items()]
    ratio = with_spread(result["ratio"], ".2f")
    one, two = WAYS
    words = f"{two}: {ratio} times the speed of {one}, round by round"
    return [make_table("MEASURED on the same cores, in turn", ("", "steps/s"), rows), words]
