"""Kills runs of several kinds at random moments, resumes them, and compares what comes out."""

import fcntl
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from jaxdrl.runs.checkpoint import UNFINISHED
from jaxdrl.runs.run_dir import CHECKPOINTS, CONFIG_FILE, LOG_FILES, METRICS_FILE, RESULT_FILE
from jaxdrl.runs.tracker_process import tagged
from jaxdrl.sweeps.ranking import BEST_FILE

COMMAND = (sys.executable, "-c", "from jaxdrl.cli.main import main; main()")

KINDS = {
    "plain": "train",
    "recurrent": "train --memory gru --num-minibatches 4",
    "population": "sweep --members 4 --pbt --pbt-every 5 --learning-rate log:1e-4:1e-2",
    "waves": "sweep --members 4 --wave-size 2 --learning-rate log:1e-4:1e-2",
    "tracked": "train --track tensorboard",
}
"""How a run of each kind is begun."""

MOMENTS = ("save", "training", "evaluation", "compiling", "end", "start-up")
"""When runs are killed."""

DIFFERENT = {
    "compile_seconds",
    "train_seconds",
    "steps_per_second",
    "memory_bytes",
    "run_id",
    "sha256",
}
"""Fields in which runs with the same results differ."""


@dataclass(frozen=True)
class Faults:
    """What is done to how many runs."""

    num_runs: int = 50
    """Runs that are killed once each, with SIGKILL; their kinds and moments come in turn."""
    seed: int = 0
    """Seed of the moments."""
    env: str = "CartPole-v1"
    """Environment."""
    updates: int = 100
    """Updates of a run; every one is followed by a checkpoint, where the one before is written."""
    devices: int = 2
    """Devices of a run."""
    keep: Path | None = None
    """New directory in which the runs stay; None: they are removed."""


@dataclass(frozen=True)
class Killed:
    """What became of a run that was killed."""

    name: str
    kind: str
    moment: str
    in_save: bool
    """Whether a save was under way."""
    trouble: str
    """In what it differs from the undisturbed run; empty if in nothing."""


class Moment(NamedTuple):
    """A random time after a run has reached something, and from then on when something is true."""

    reached: Callable[[Path], bool]
    seconds: float
    """The time at most."""
    then: Callable[[Path], bool] = Path.exists


def flags(faults: Faults, kind: str, run_dir: Path) -> list[str]:
    """The command line of a run."""
    verb, *rest = KINDS[kind].split()
    words = f"""{verb} {faults.env} --run-dir {run_dir} --devices {faults.devices}
        --total-env-steps {faults.updates * 1024} --checkpoint-every 1 --evaluate-every 50
        --num-eval-episodes 32 --num-envs 64 --num-steps 16"""
    return words.split() + rest


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


def finish(args: list[str], cache: Path) -> str:
    """Runs a process to its end; what it printed where that was not a success, else nothing."""
    process = start(args, cache)
    output = process.communicate()[0].decode()
    failed = f"{' '.join(args)} ended with {process.returncode}:\n{output}"
    return failed if process.returncode != 0 else ""


def wait(process: subprocess.Popen, until: Callable[[], bool], seconds: float) -> None:
    """Waits `seconds`, less where `until` is true or the process has ended."""
    end = time.monotonic() + seconds
    while process.poll() is None and not until() and time.monotonic() < end:
        time.sleep(0.0005)


def moments(run_dir: Path, part: Path, updates: int) -> dict[str, Moment]:
    """When a run is killed, by name.

    Args:
      run_dir: of a finished run.
      part: directory of its checkpoints: itself, or that of one of its waves.
      updates: of the run.
    """

    def has(name: str) -> Callable[[Path], bool]:
        return lambda part: (part / name).exists()

    def has_line(part: Path) -> bool:
        path = part / METRICS_FILE
        return path.exists() and path.read_bytes().count(b"\n") >= updates - 1

    last = f"{CHECKPOINTS}/{updates:08}"
    trains = json.loads((part / RESULT_FILE).read_text())["train_seconds"]
    ends = (run_dir / RESULT_FILE).stat().st_mtime - (part / last).stat().st_mtime
    return {
        "save": Moment(has(CHECKPOINTS), trains / 2, is_saving),
        "training": Moment(has(CHECKPOINTS), trains),
        "evaluation": Moment(has_line, 0.3),
        "compiling": Moment(has(CONFIG_FILE), 2.0),
        "end": Moment(has(last), ends),
        "start-up": Moment(Path.exists, 2.0),
    }


def is_saving(run_dir: Path) -> bool:
    """Whether a save is under way, or was when the run was killed."""
    return any(run_dir.glob(f"**/{CHECKPOINTS}/{UNFINISHED}*"))


def kill(process: subprocess.Popen, part: Path, moment: Moment, share: float) -> bool:
    """Kills a run, or the wave of it in the directory `part`, after a share of the time at most.

    Returns:
      Whether it had not ended before.
    """
    with process:  # whose tracker may go on for a moment, and is not waited for
        wait(process, partial(moment.reached, part), 600)
        wait(process, lambda: False, moment.seconds * share)
        wait(process, partial(moment.then, part), 5)
        process.send_signal(signal.SIGKILL)
    return process.returncode == -signal.SIGKILL


def points(run_dir: Path) -> list[tuple[str, int, float]]:
    """`(tag, step, value)` of what TensorBoard holds, once its process has ended."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with (run_dir / ".tensorboard.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return [(t, e.step, e.value) for t in events.Tags()["scalars"] for e in events.Scalars(t)]


def strange_points(run_dir: Path) -> list[tuple[str, int, float]]:
    """What TensorBoard holds twice, or otherwise than the metrics of the run."""
    lines = [json.loads(line) for line in (run_dir / METRICS_FILE).read_text().splitlines()]
    left = {
        (t, line["env_steps"]): np.float32(v) for line in lines for t, v in tagged(line).items()
    }
    return [p for p in points(run_dir) if left.pop(p[:2], None) != np.float32(p[2])]


def outcome(run_dir: Path) -> dict[str, Any]:
    """By file what a run came to, but for what is measured."""

    def same(record: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in record.items() if name not in DIFFERENT}

    found: dict[str, Any] = {RESULT_FILE: same(json.loads((run_dir / RESULT_FILE).read_text()))}
    for path in run_dir.glob(BEST_FILE):
        found[BEST_FILE] = json.loads(path.read_text())
    for path in itertools.chain(*(run_dir.rglob(name) for name in LOG_FILES)):
        lines = path.read_text().splitlines()
        found[str(path.relative_to(run_dir))] = [same(json.loads(line)) for line in lines]
    if (run_dir / "tensorboard").exists():
        found["tensorboard"] = strange_points(run_dir)
    return found


def difference(run_dir: Path, expected: dict[str, Any]) -> str:
    """The files in which a run differs from the undisturbed one, nothing if in none."""
    found = outcome(run_dir)
    names = sorted(found.keys() | expected.keys())
    return ", ".join(name for name in names if found.get(name) != expected.get(name))


def disturbed(faults: Faults, directory: Path, kinds: list[str]) -> Iterator[Killed]:
    """Runs that were killed and resumed, of each kind in turn, without end."""
    rng = random.Random(faults.seed)
    cache = directory / "cache"
    expected = {kind: outcome(directory / kind) for kind in kinds}
    for number in itertools.count():
        kind, moment = kinds[number % len(kinds)], MOMENTS[number % len(MOMENTS)]
        straight, run_dir = directory / kind, directory / f"{kind}-{number}"
        part = rng.choice(sorted(path.parent for path in straight.rglob(CHECKPOINTS)))
        when = moments(straight, part, faults.updates)[moment]
        process = start(flags(faults, kind, run_dir), cache)
        was_killed = kill(process, run_dir / part.relative_to(straight), when, rng.random())
        if was_killed and not (run_dir / RESULT_FILE).exists():  # else it was too late
            in_save = is_saving(run_dir)
            has_begun = (run_dir / CONFIG_FILE).exists()
            again = ["resume", str(run_dir)] if has_begun else flags(faults, kind, run_dir)
            trouble = finish(again, cache) or difference(run_dir, expected[kind])
            yield Killed(run_dir.name, kind, moment, in_save, trouble)


def check(faults: Faults, directory: Path) -> list[Killed]:
    """What became of runs that were killed, beside an undisturbed run of each kind."""
    kinds = list(KINDS)[: faults.num_runs]
    for kind in track(kinds, "undisturbed runs"):
        if trouble := finish(flags(faults, kind, directory / kind), directory / "cache"):
            sys.exit(trouble)
        if strange := outcome(directory / kind).get("tensorboard"):
            sys.exit(f"{kind}: TensorBoard holds other than the metrics: {strange[:3]}")
    runs = itertools.islice(disturbed(faults, directory, kinds), faults.num_runs)
    return list(track(runs, "killing and resuming", total=faults.num_runs))


def report(runs: list[Killed], console: Console) -> None:
    """A row for each kind, and a line for each run that differs."""
    table = Table("kind", "runs", "as undisturbed", "killed in a save")
    for kind in dict.fromkeys(run.kind for run in runs):
        mine = [run for run in runs if run.kind == kind]
        same, in_saves = sum(not run.trouble for run in mine), sum(run.in_save for run in mine)
        table.add_row(kind, *map(str, (len(mine), same, in_saves)))
    console.print(table)
    for run in runs:
        if run.trouble:
            console.print(
                f"{run.name}, killed at {run.moment}, differs: {run.trouble}", markup=False
            )
    same, in_saves = sum(not run.trouble for run in runs), sum(run.in_save for run in runs)
    console.print(
        f"{same} of {len(runs)} ended with the same state and the same metrics as the "
        f"undisturbed run of their kind; {in_saves} were killed inside a save"
    )


def main(faults: Faults) -> None:
    """Kills runs of several kinds at random moments, and compares them once they are resumed."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = faults.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=faults.keep is None)
        runs = check(faults, directory)
    report(runs, Console(highlight=False))
    sys.exit(any(run.trouble for run in runs))


if __name__ == "__main__":
    main(tyro.cli(Faults, description=__doc__))
