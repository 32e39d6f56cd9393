"""The `jaxdrl` command, and the command line of the experiment scripts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxdrl.config import ConfigError
from jaxdrl.experiment import Experiment
from jaxdrl.stops import BadNumbersError, OutOfMemoryError, RunInterruptedError

Flags = Annotated[Experiment, tyro.conf.arg(name="")]


def main(args: Sequence[str] | None = None) -> None:
    """Distributed reinforcement learning in JAX: train on every device of this host."""
    app = tyro.extras.SubcommandApp()
    app.command(train)
    app.command(resume)
    app.command(doctor)
    config = (tyro.conf.PositionalRequiredArgs,)
    _answer(lambda: app.cli(prog="jaxdrl", description=main.__doc__, args=args, config=config))


def train(experiment: Flags) -> None:
    """Train on an environment, evaluate, and write a run directory."""
    from jaxdrl.runner import run

    run(experiment)


def resume(
    run_dir: tyro.conf.Positional[Path],
    *,
    devices: int | None = None,
    total_env_steps: int | None = None,
    checkpoint: int | Literal["best"] | None = None,
) -> None:
    """Go on with a run from its last sound checkpoint, as if nothing had happened.

    Args:
      run_dir: Directory of the run.
      devices: Another number of devices than before; None: the same.
      total_env_steps: To go further than the run was meant to, in environment steps; None: as far.
      checkpoint: Update of an earlier checkpoint, or best; None: the last.
    """
    from jaxdrl import runner

    runner.resume(run_dir, devices=devices, total_env_steps=total_env_steps, checkpoint=checkpoint)


def doctor(env: tyro.conf.Positional[str] = "CartPole-v1", *, seconds: float = 1.0) -> None:
    """Tell what machine this is, what is misconfigured, and how it trains fastest.

    Args:
      env: Environment to measure with.
      seconds: Length of each measurement, after the compilation.
    """
    from jaxdrl.doctor import main

    main(env, seconds)


def run_script(experiment: Experiment, description: str | None) -> None:
    """Runs `experiment` with the flags of the command line laid over it.

    Args:
      experiment: the config literal of the script.
      description: what `--help` says of it.
    """
    _answer(lambda: train(tyro.cli(Experiment, default=experiment, description=description)))


def _answer(action: Callable[[], Any]) -> None:
    """Runs `action`, and ends with one message where it does not come to its end.

    Exit code 2 for input that is refused, 1 for a run that bad numbers or want of memory
    stopped, and 0 for one that a signal stopped with its state saved.
    """
    try:
        action()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (BadNumbersError, OutOfMemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except RunInterruptedError as error:
        print(error, file=sys.stderr)
