"""Runs in which one of four processes is lost, and what becomes of the others and of the run."""

import itertools
import json
import os
import re
import signal
import socket
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disturbances.processes import PER_UPDATE, SMALL, Together, tagged, train, until
from jaxdrl.runs import checkpoint
from jaxdrl.runs.checkpoint import UNFINISHED
from jaxdrl.runs.run_dir import CHECKPOINTS, METRICS_FILE, RESULT_FILE

COUNT = 4
"""Processes of a run that is disturbed."""
UPDATES = 20
PHASES = ("compiling", "updating", "saving", "evaluating", "ending")
CAUSES = {
    "SIGKILL": "it was killed, or ended without a word",
    "SIGSTOP": "it has been stopped, as by SIGSTOP",
    "exception": "RuntimeError: disturbed on purpose",
    "os._exit": "it was killed, or ended without a word",
}
"""By what a process does: the words for it that the others print."""
SECONDS = {"SIGKILL": 10.0, "SIGSTOP": 10.0, "exception": 2.0, "os._exit": 10.0}
"""Within how long the others are gone."""
START_SECONDS = 300.0
HANG_SECONDS = 60.0
MEASURED = ("steps_per_second", "memory_bytes")


@dataclass(frozen=True)
class Case:
    """What one process does in which phase, and how many processes go on with the run."""

    process: int
    phase: str
    action: str
    count_after: int

    @property
    def name(self) -> str:
        """A directory for it."""
        return f"{self.phase}-{self.action}-{self.process}-{self.count_after}"


@dataclass(frozen=True)
class Found:
    """What became of a case.

    Attributes:
      case: itself.
      seconds: from the fault until the last of the other processes was gone.
      trouble: in what it falls short; empty if in nothing.
    """

    case: Case
    seconds: float
    trouble: tuple[str, ...]


def all_cases() -> list[Case]:
    """80: each phase, action and process; 1, 2 and 4 processes go on in turn."""
    counts = itertools.cycle((1, 2, 4))
    kinds = itertools.product(PHASES, CAUSES, range(COUNT))
    return [Case(process, phase, action, next(counts)) for phase, action, process in kinds]


def command(run_dir: Path, updates: int = UPDATES, *more: str) -> list[str]:
    """The command that starts a run and goes on with it."""
    steps = ["--total-env-steps", str(updates * PER_UPDATE)]
    return [*SMALL.split(), *steps, "--run-dir", str(run_dir), "--resume", *more]


def outcome(run_dir: Path) -> dict[str, Any]:
    """What a finished run came to, without what is measured."""
    lines = [json.loads(line) for line in (run_dir / METRICS_FILE).read_text().splitlines()]
    metrics = [{n: value for n, value in line.items() if n not in MEASURED} for line in lines]
    digest = json.loads((run_dir / RESULT_FILE).read_text())["state_sha256"]
    return {"state_sha256": digest, "metrics": metrics}


def finish(arguments: Sequence[str], count: int, directory: Path) -> str:
    """Does a command with several processes to its end; what was wrong, or nothing."""
    with train(arguments, count, directory) as together:
        has_ended = together.wait(START_SECONDS)
        if has_ended and not any(together.codes()):
            return ""
        return f"{count} processes ended with {together.codes()}: {tails(together)}"


def undisturbed(directory: Path) -> dict[str, Any]:
    """What a run comes to that nothing disturbs; its programs stay in the cache.

    Raises:
      RuntimeError: if it fails.
    """
    found = []
    for count in (1, 2, COUNT):
        run_dir = directory / f"undisturbed-{count}"
        if trouble := finish(command(run_dir), count, directory / f"output-{count}"):
            raise RuntimeError(trouble)
        found.append(outcome(run_dir))
    if found != found[:1] * len(found):
        raise RuntimeError("runs differ that nothing disturbs")
    return found[0]


def lose(case: Case, directory: Path, expected: dict[str, Any]) -> Found:
    """Disturbs a run, looks at how its processes end, and goes on with it."""
    folder, run_dir = directory / f"output-{case.name}", directory / case.name
    folder.mkdir(parents=True)
    marker = folder / "marker"
    plan = {
        "process": case.process,
        "phase": case.phase,
        "action": case.action,
        "marker": str(marker),
    }
    with train(command(run_dir), COUNT, folder, plan) as together:
        until(lambda: marker.exists() or len(together.gone) == COUNT, START_SECONDS)
        if not marker.exists():
            return Found(case, 0.0, (f"never got there: {together.codes()} {tails(together)}",))
        seconds, trouble = watch(case, float(marker.read_text()), together)
    trouble += list(half_checkpoints(run_dir))
    if wrong := finish(command(run_dir), case.count_after, directory / f"after-{case.name}"):
        trouble.append(f"went not on: {wrong}")
    elif outcome(run_dir) != expected:
        trouble.append("differs from the undisturbed run")
    return Found(case, seconds, tuple(trouble))


def watch(case: Case, began: float, together: Together) -> tuple[float, list[str]]:
    """`(seconds until the others are gone, what they fall short in)`."""
    victim, trouble = case.process, []
    stays = [victim] if case.action == "SIGSTOP" else []
    if not together.wait(HANG_SECONDS, but=stays):
        here = [i for i in range(COUNT) if i not in together.gone and i not in stays]
        return HANG_SECONDS, [f"processes {here} hang: {tails(together)}"]
    seconds = max(time for i, time in together.gone.items() if i != victim) - began
    if seconds > SECONDS[case.action]:
        trouble.append(f"gone after {seconds:.1f} s")
    named = f"process {victim} on host {socket.gethostname()}"
    for index, code in enumerate(together.codes()):
        if index == victim:
            continue
        if code != 75:
            trouble.append(f"process {index} ended with {code}")
        text = together.text(index)
        if not re.search(f"error: .*{re.escape(named)}.*{re.escape(CAUSES[case.action])}", text):
            trouble.append(f"process {index} said: {text[-300:]}")
    left = {pid for pid in tagged(together.tag)} - {together.processes[i].pid for i in stays}
    if left:
        trouble.append(f"left behind: {left}")
    return seconds, trouble


def half_checkpoints(run_dir: Path) -> Iterator[str]:
    """Checkpoints that have their name and are not whole."""
    for update in checkpoint.updates_in(run_dir / CHECKPOINTS):
        path = checkpoint.path_of(run_dir / CHECKPOINTS, update)
        try:
            checkpoint.read_manifest(path)
        except Exception as error:
            yield f"{path}: {error}"


def is_in_save(run_dir: Path) -> bool:
    """Whether a save was under way when a run ended."""
    return any((run_dir / CHECKPOINTS).glob(f"{UNFINISHED}*"))


def kill(together: Together, index: int) -> None:
    """Kills a process from outside."""
    os.kill(together.processes[index].pid, signal.SIGKILL)


def tails(together: Together) -> str:
    """The ends of what all have printed."""
    return " | ".join(together.text(i)[-300:] for i in range(len(together.processes)))


def spread(found: Sequence[Found]) -> str:
    """Median and worst time in words."""
    seconds = [one.seconds for one in found]
    return f"{statistics.median(seconds):.1f} s, at most {max(seconds):.1f} s"
