"""Loses one of four processes of a run in every way, and looks at how the others end."""

import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro
from disturbances import cases, random_kills
from disturbances.cases import Case, Found
from rich.console import Console
from rich.progress import track
from rich.table import Table


@dataclass(frozen=True)
class Settings:
    """Which faults."""

    every: int = 1
    """Takes every so manieth of the 80 cases: 5 phases x 4 faults x 4 processes."""
    kills: int = 20
    """How often processes of runs are killed at random moments, beside the cases."""
    seed: int = 0
    """Seed of the moments."""
    keep: Path | None = None
    """New directory in which the runs stay; None: they are removed."""


def chosen(settings: Settings) -> list[Case]:
    """The cases that are tried; with a prime number they are of all kinds."""
    return cases.all_cases()[:: settings.every]


def table(found: list[Found]) -> Table:
    """A row for each phase and fault."""
    made = Table("while", "fault", "hold", "of", "others gone after")
    for phase in cases.PHASES:
        for action in cases.CAUSES:
            mine = [f for f in found if (f.case.phase, f.case.action) == (phase, action)]
            if mine:
                hold = sum(not f.trouble for f in mine)
                made.add_row(phase, action, str(hold), str(len(mine)), cases.spread(mine))
    return made


def try_all(settings: Settings, directory: Path) -> Iterator[Found]:
    """What becomes of each case."""
    expected = cases.undisturbed(directory)
    for case in chosen(settings):
        yield cases.lose(case, directory, expected)


def main(settings: Settings) -> None:
    """Tries the cases and the kills, and says which of them fall short."""
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as temporary:
        directory = settings.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=settings.keep is None)
        total = len(chosen(settings))
        found = list(track(try_all(settings, directory), "losing processes", total=total))
        rng = random.Random(settings.seed)
        killed = random_kills.check(settings.kills, rng, directory / "killed")
    console.print(table(found))
    for one in found:
        if one.trouble:
            console.print(f"{one.case.name}: {'; '.join(one.trouble)}", markup=False)
    hold = sum(not one.trouble for one in found)
    console.print(f"{hold} of {len(found)} cases hold; kills at random moments: {killed.words}")
    sys.exit(hold < len(found) or killed.same < killed.runs)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
