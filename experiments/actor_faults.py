"""Disturbs runs with actors in every way, and looks at how they end and whether they go on."""

import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro
from disturbances import of_actors
from disturbances.of_actors import ENVS, FAULTS
from rich.console import Console
from rich.progress import track


@dataclass(frozen=True)
class Settings:
    """Which faults."""

    env: str = ENVS[0]
    """Environment of the runs that are disturbed in a phase."""
    every: int = 1
    """Takes every so manieth of these faults."""
    kills: int = 20
    """How often a run of each environment is killed at a random moment, and goes on."""
    envs: tuple[str, ...] = ENVS
    """The environments whose runs are killed."""
    seed: int = 0
    """Seed of the moments."""


def main(settings: Settings) -> None:
    """Tries the faults and the kills, and says which of them fall short."""
    console, found = Console(highlight=False), []
    rng = random.Random(settings.seed)
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        chosen = FAULTS[:: settings.every]
        expected = of_actors.undisturbed(settings.env, directory)
        for phase, action in track(chosen, "disturbing runs"):
            found.append(of_actors.disturb(settings.env, phase, action, directory, expected))
        for env in settings.envs if settings.kills else ():
            expected = of_actors.undisturbed(env, directory, of_actors.MANY_UPDATES)
            for number in track(range(settings.kills), f"killing {env}"):
                found.append(of_actors.kill(env, number, rng, directory, expected))
    console.print(of_actors.words(found), markup=False)
    sys.exit(any(one.trouble for one in found))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
