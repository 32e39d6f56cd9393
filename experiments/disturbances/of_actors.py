"""Runs with actors that are disturbed while they act, learn, evaluate or save."""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disturbances import cases
from disturbances.cases import HANG_SECONDS, START_SECONDS, finish, outcome, tails
from disturbances.processes import Together, tagged, train, until
from jaxdrl.runs.run_dir import CONFIG_FILE

ENVS = (
    *("gymnasium/CartPole-v1", "envpool/CartPole-v1", "gymnasium/HalfCheetah-v5"),
    "CartPole-v1",
)
"""Whose runs are killed; the last one runs in JAX."""
FLAGS = """--num-envs 8 --num-steps 8 --torso mlp --hidden-sizes 8 8 --num-epochs 1
    --num-minibatches 1 --num-eval-episodes 4 --evaluate-every 10 --checkpoint-every 2
    --staleness 1 --reproducible"""
PER_UPDATE = 8 * 8
UPDATES = 20
SECONDS = 10.0
"""Within how long a run is gone."""
PHASES = ("compiling", "acting", "learning", "evaluating", "writing")
GOES_ON = {("acting", "exception"), ("writing", "full disk")}
"""What a run survives: an actor that fails is replaced, and a checkpoint may come later."""
FAULTS = (
    *((phase, "SIGTERM") for phase in PHASES),
    *((phase, "SIGKILL") for phase in PHASES),
    *((("learning", "exception"), ("acting", "exception"), ("writing", "full disk"))),
)


@dataclass(frozen=True)
class Disturbed:
    """What became of a run: its trouble, and the seconds until it was gone."""

    name: str
    seconds: float
    trouble: tuple[str, ...] = ()


def command(env: str, run_dir: Path, updates: int = UPDATES) -> list[str]:
    """The command that starts a run and goes on with it."""
    steps = ["--total-env-steps", str(updates * PER_UPDATE), "--run-dir", str(run_dir)]
    return ["train", env, *FLAGS.split(), *steps, "--resume"]


def undisturbed(env: str, directory: Path, updates: int = UPDATES) -> dict[str, Any]:
    """What a run comes to that nothing disturbs.

    Raises:
      RuntimeError: if it fails.
    """
    run_dir = directory / f"undisturbed-{env.replace('/', '-')}-{updates}"
    if trouble := finish(command(env, run_dir, updates), 1, directory / f"{run_dir.name}-output"):
        raise RuntimeError(trouble)
    return figures(run_dir)


def figures(run_dir: Path) -> dict[str, Any]:
    """The digest of a run, without what depends on timing."""
    return {"state_sha256": outcome(run_dir)["state_sha256"]}


def disturb(env: str, phase: str, action: str, directory: Path, expected: Any) -> Disturbed:
    """Disturbs a run in a phase, looks at how it ends, and goes on with it."""
    name = f"{phase}-{action.replace(' ', '-')}"
    folder, run_dir = directory / f"output-{name}", directory / name
    folder.mkdir(parents=True)
    marker = folder / "marker"
    plan = {"process": 0, "phase": phase, "action": action, "marker": str(marker)}
    with train(command(env, run_dir), 1, folder, plan) as together:
        until(lambda: marker.exists() or bool(together.gone), START_SECONDS)
        began = time.time()
        is_gone = together.wait(HANG_SECONDS)
        seconds = together.gone.get(0, time.time()) - began
        trouble = list(_ended(together, phase, action, seconds, is_gone))
    trouble += list(cases.half_checkpoints(run_dir))
    trouble += _go_on(env, run_dir, directory / f"after-{name}", expected, UPDATES)
    return Disturbed(f"{env} {name}", seconds, tuple(trouble))


def _ended(
    together: Together, phase: str, action: str, seconds: float, is_gone: bool
) -> Iterator[str]:
    """What is wrong with the end of a disturbed run."""
    (code,) = together.codes()
    goes_on = (phase, action) in GOES_ON
    if not is_gone or (seconds > SECONDS and not goes_on):
        yield f"gone after {seconds:.1f} s: {tails(together)}"
    if goes_on and code != 0:
        yield f"ended with {code}: {tails(together)}"
    if action == "SIGTERM" and code not in (0, 143):
        yield f"ended with {code}: {tails(together)}"
    if left := tagged(together.tag):
        yield f"left behind: {left}"


def _go_on(env: str, run_dir: Path, folder: Path, expected: Any, updates: int) -> list[str]:
    """Comes to the end of a run: what is wrong with it."""
    if wrong := finish(command(env, run_dir, updates), 1, folder):
        return [f"went not on: {wrong}"]
    return [] if figures(run_dir) == expected else ["differs from the undisturbed run"]


def kill(env: str, number: int, rng: random.Random, directory: Path, expected: Any) -> Disturbed:
    """Kills a run of many updates at a random moment, and goes on with it."""
    name = f"kill-{env.replace('/', '-')}-{number}"
    run_dir, began = directory / name, time.time()
    config, updates = run_dir / CONFIG_FILE, MANY_UPDATES
    with train(command(env, run_dir, updates), 1, directory / f"output-{name}") as together:
        until(lambda: config.exists() and config.stat().st_mtime > began, START_SECONDS)
        together.wait(rng.random() * MOST_SECONDS)
        has_ended = bool(together.gone)
        cases.kill(together, 0)
        together.wait(HANG_SECONDS)
    if has_ended:
        return Disturbed(f"{env} kill {number}", 0.0, ("had ended before",))
    trouble = _go_on(env, run_dir, directory / f"after-{name}", expected, updates)
    return Disturbed(f"{env} kill {number}", 0.0, tuple(trouble))


MANY_UPDATES = 1000
MOST_SECONDS = 8.0
"""From the start of compiling to a kill, at most."""


def words(found: Sequence[Disturbed]) -> str:
    """How many hold, and what the others fall short in."""
    hold = sum(not one.trouble for one in found)
    short = [f"{one.name}: {'; '.join(one.trouble)}" for one in found if one.trouble]
    slowest = max((one.seconds for one in found), default=0.0)
    return "\n".join([f"{hold} of {len(found)} hold, gone after at most {slowest:.1f} s", *short])
