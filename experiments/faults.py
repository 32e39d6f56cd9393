"""Kills runs at random moments, resumes them, and compares them with an undisturbed run."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.progress import track

from jaxdrl.checkpoint import UNFINISHED
from jaxdrl.run_dir import CHECKPOINTS, CONFIG_FILE, METRICS_FILE, RESULT_FILE

COMMAND = (sys.executable, "-c", "from jaxdrl.cli import main; main()")


@dataclass(frozen=True)
class Faults:
    """What is done to how many runs."""

    num_runs: int = 50
    """Runs that are killed once each, with SIGKILL."""
    seed: int = 0
    """Seed of the moments."""
    env: str = "CartPole-v1"
    """Environment."""
    updates: int = 150
    """Updates of a run; every one is followed by a checkpoint, where the one before is written."""
    devices: int = 2
    """Devices of a run."""


def flags(faults: Faults, run_dir: Path) -> list[str]:
    """The command line of a run."""
    words = f"""train {faults.env} --run-dir {run_dir} --devices {faults.devices}
        --total-env-steps {faults.updates * 1024} --checkpoint-every 1 --evaluate-every 50
        --num-eval-episodes 32 --ppo.num-envs 64 --ppo.num-steps 16"""
    return words.split()


def start(args: list[str], cache: Path) -> subprocess.Popen:
    """A process that works on a run; programs are compiled once for all of them."""
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*COMMAND, *args], env=os.environ | settings, stdout=pipe, stderr=subprocess.STDOUT
    )


def finish(args: list[str], cache: Path) -> None:
    """Runs a process to its end, and ends with what it printed where that was not a success."""
    process = start(args, cache)
    output, _ = process.communicate()
    if process.returncode != 0:
        sys.exit(f"{' '.join(args)} ended with {process.returncode}:\n{output.decode()}")


def kill(process: subprocess.Popen, run_dir: Path, rng: random.Random, seconds: float) -> bool:
    """Kills a run: one in five anywhere, the others while it trains, half of them in a save.

    Returns:
      Whether a save was under way.
    """
    moment = rng.random()
    if moment < 0.2:
        wait(process, lambda: False, seconds * rng.random())
    else:
        wait(process, lambda: (run_dir / CHECKPOINTS).exists(), 600)
        wait(process, lambda: False, 2.0 * rng.random())
        if moment < 0.6:
            wait(process, lambda: any((run_dir / CHECKPOINTS).glob(f"{UNFINISHED}*")), 5)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return any((run_dir / CHECKPOINTS).glob(f"{UNFINISHED}*"))


def wait(process: subprocess.Popen, until: Any, seconds: float) -> None:
    """Waits `seconds`, less where `until` is true or the process has ended."""
    end = time.monotonic() + seconds
    while process.poll() is None and not until() and time.monotonic() < end:
        time.sleep(0.0005)


def outcome(run_dir: Path) -> tuple[str, list[dict[str, Any]]]:
    """The digest of the last state, and the lines of the metrics but what is measured."""
    digest = json.loads((run_dir / RESULT_FILE).read_text())["state_sha256"]
    lines = [json.loads(line) for line in (run_dir / METRICS_FILE).read_text().splitlines()]
    for line in lines:
        del line["steps_per_second"], line["memory_bytes"]
    return digest, lines


def disturbed(faults: Faults, directory: Path, seconds: float) -> Iterator[tuple[Path, bool]]:
    """Directories of the runs that were killed and resumed, and whether it was in a save."""
    rng = random.Random(faults.seed)
    for number in itertools.count():
        run_dir = directory / f"run-{number}"
        process = start(flags(faults, run_dir), directory / "cache")
        in_save = kill(process, run_dir, rng, seconds)
        began = (run_dir / CONFIG_FILE).exists()
        again = ["resume", str(run_dir)] if began else flags(faults, run_dir)
        if not (run_dir / RESULT_FILE).exists():
            finish(again, directory / "cache")
        yield run_dir, in_save


def check(faults: Faults, directory: Path) -> tuple[int, int]:
    """`(runs that ended like the undisturbed one, runs that were killed in a save)`."""
    straight, started = directory / "straight", time.monotonic()
    finish(flags(faults, straight), directory / "cache")
    compiling = json.loads((straight / RESULT_FILE).read_text())["compile_seconds"]
    seconds = time.monotonic() - started - compiling  # which the others find in the cache
    expected = outcome(straight)
    same = in_saves = 0
    runs = itertools.islice(disturbed(faults, directory, seconds), faults.num_runs)
    for run_dir, in_save in track(runs, "killing and resuming", total=faults.num_runs):
        same += outcome(run_dir) == expected
        in_saves += in_save
    return same, in_saves


def main(faults: Faults) -> None:
    """Kills runs at random moments, resumes them, and compares them with an undisturbed run."""
    with tempfile.TemporaryDirectory() as directory:
        same, in_saves = check(faults, Path(directory))
    Console(highlight=False).print(
        f"{same} of {faults.num_runs} ended with the same state and the same metrics as the "
        f"undisturbed run; {in_saves} were killed inside a save"
    )
    sys.exit(0 if same == faults.num_runs else 1)


if __name__ == "__main__":
    main(tyro.cli(Faults, description=__doc__))
