"""The `jaxdrl` command, and the command line of the experiment scripts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import tyro

from jaxdrl.config import ConfigError
from jaxdrl.experiment import Experiment

Flags = Annotated[Experiment, tyro.conf.arg(name="")]


def main(args: Sequence[str] | None = None) -> None:
    """Distributed reinforcement learning in JAX: train on every device of this host."""
    app = tyro.extras.SubcommandApp()
    app.command(train)
    config = (tyro.conf.PositionalRequiredArgs,)
    _answer(lambda: app.cli(prog="jaxdrl", description=main.__doc__, args=args, config=config))


def train(experiment: Flags) -> None:
    """Train on an environment, evaluate, and write a run directory."""
    from jaxdrl.experiment import run

    run(experiment)


def run_script(experiment: Experiment, description: str | None) -> None:
    """Runs `experiment` with the flags of the command line laid over it.

    Args:
      experiment: the config literal of the script.
      description: what `--help` says of it.
    """
    _answer(lambda: train(tyro.cli(Experiment, default=experiment, description=description)))


def _answer(action: Callable[[], Any]) -> None:
    """Runs `action`; input that is refused ends with one message and exit code 2."""
    try:
        action()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
