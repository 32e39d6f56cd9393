"""Trains with two processes of one device, and with one process of two, on the same cores."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import RenderableType

from benchmarks.cases import CASES, Case
from benchmarks.figures import ratios, spread
from benchmarks.report import Flags, Output, make_table, with_spread
from benchmarks.workers import WorkerError

SMALL = Case("CartPole-v1", 16, 8, num_epochs=1, num_minibatches=2, hidden_sizes=(8,))
"""For `measure --smoke`."""

COMMAND = (sys.executable, "-c", "from jaxdrl.cli.main import main; main()")
WAYS = {
    "1 process x 2 devices": (),
    "2 processes x 1 device": ("launch", "--processes", "2", "--"),
}
"""What precedes the command that trains; the first is compared with."""


@dataclass(frozen=True)
class Measure:
    """Speed of two processes with a device each beside one process with both, on the same cores."""

    case: Literal["cartpole-256", "cartpole-2048", "breakout-64"] = "cartpole-256"
    """What is trained."""
    updates: int = 60
    """Updates of a run."""
    repetitions: int = 5
    """Rounds."""
    output: Flags = field(default_factory=Output)


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
    """Steps per second of the median update of a run, which a short disturbance does not change.

    Raises:
      WorkerError: if it fails.
    """
    command = [*COMMAND, *WAYS[way], *train_flags(case, updates, run_dir)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
        raise WorkerError(f"{way} ended with {done.returncode}:\n{last}")
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return statistics.median(json.loads(line)["steps_per_second"] for line in lines)


def environment() -> dict[str, str]:
    """Variables without those of a launcher that this process may have been started by."""
    ours = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    return {name: value for name, value in os.environ.items() if name not in ours}


def measure(config: Measure, directory: Path, report: Callable[[str], Any]) -> dict[str, Any]:
    """Both ways in turn, after a round of each that compiles; the ratios are taken round by round.

    Args:
      config: what is measured.
      directory: where the runs go.
      report: is told what is being done.
    """
    case = SMALL if config.output.smoke else CASES[config.case]
    speeds: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(config.repetitions + 1):
        for i, way in enumerate(WAYS):
            report(f"round {number} of {config.repetitions}: {way}")
            updates = config.updates if number else 2
            speed = train(way, case, updates, directory / f"{number}-{i}")
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
