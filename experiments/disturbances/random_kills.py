"""Kills processes of a run at random moments, which goes on with another number of them."""

import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from disturbances import cases
from disturbances.processes import train, until
from jaxdrl.runs.run_dir import CONFIG_FILE

EACH = 5
"""Kills of a run, before it may come to its end."""
UPDATES = 3000
MOST_SECONDS = 12.0
"""From the start of compiling to a kill, at most."""


@dataclass(frozen=True)
class Killed:
    """What became of runs whose processes were killed.

    Attributes:
      times: kills.
      in_saves: how many of them left an unfinished checkpoint behind.
      runs: runs that were killed.
      same: how many of them ended like the undisturbed run.
      trouble: what was wrong.
    """

    times: int = 0
    in_saves: int = 0
    runs: int = 0
    same: int = 0
    trouble: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """In one line."""
        what = f"{self.same} of {self.runs} runs ended like the undisturbed one"
        return f"{self.times} ({self.in_saves} in a save); {'; '.join((what, *self.trouble))}"


def check(num_kills: int, rng: random.Random, directory: Path) -> Killed:
    """Kills runs so often in all, and lets each come to its end afterwards."""
    if num_kills == 0:
        return Killed()
    straight, counts = directory / "undisturbed", itertools.cycle((4, 2, 4, 1, 4))
    trouble = [cases.finish(cases.command(straight, UPDATES), 1, directory / "output")]
    in_saves = same = 0
    expected = cases.outcome(straight) if not trouble[0] else {}
    for number in range(0, num_kills, EACH):
        run_dir = directory / f"run-{number}"
        arguments = cases.command(run_dir, UPDATES)
        for kill in range(number, min(number + EACH, num_kills)):
            trouble.append(_kill(arguments, run_dir, next(counts), rng, directory / f"out-{kill}"))
            in_saves += cases.is_in_save(run_dir)
        wrong = cases.finish(arguments, next(counts), directory / f"out-{number}-end")
        trouble.append(wrong)
        same += not wrong and cases.outcome(run_dir) == expected
    num_runs = len(range(0, num_kills, EACH))
    return Killed(num_kills, in_saves, num_runs, same, tuple(filter(None, trouble)))


def _kill(
    arguments: Sequence[str], run_dir: Path, count: int, rng: random.Random, folder: Path
) -> str:
    """Goes on with a run, and kills one of its processes; what was wrong, or nothing."""
    config, began = run_dir / CONFIG_FILE, time.time()
    with train(arguments, count, folder) as together:
        until(lambda: config.exists() and config.stat().st_mtime > began, cases.START_SECONDS)
        together.wait(rng.random() * MOST_SECONDS)
        if together.gone:
            return f"{folder.name}: had ended before: {together.codes()} {cases.tails(together)}"
        cases.kill(together, rng.randrange(count))
        killed = time.time()
        together.wait(cases.HANG_SECONDS)
        seconds = time.time() - killed
    return f"{folder.name}: the others were gone after {seconds:.1f} s" if seconds > 10 else ""
