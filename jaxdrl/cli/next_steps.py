"""The end of a command that trains: what can come next, and the exit code."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from jaxdrl.cli.exits import FAILED

if TYPE_CHECKING:
    from jaxdrl.runs.train_run import Run


def conclude(run: Run | None) -> None:
    """Prints what can be done with a run that is done, in the process that speaks for all.

    Raises:
      SystemExit: if its result could not be written, as was warned.
    """
    from jaxdrl.distributed.connect import is_first_process
    from jaxdrl.io.console import make_console

    if run is None:
        return
    if not run.is_written:
        sys.exit(FAILED)
    if is_first_process():
        lines = "\n      ".join(next_steps(run))
        make_console().print(f"next: {lines}", soft_wrap=True)


def next_steps(run: Run) -> list[str]:
    """Commands that make sense for a run: look at it, then train on, or with what a sweep found."""
    from jaxdrl.sweeps.ranking import BEST_FILE

    where = shlex.quote(str(run.run_dir))
    # Whether an environment of the host can be drawn here is only known once one is made.
    has_film = run.env.draw is not None and run.env.host is None
    look = f"render {where} --out film.gif" if has_film else f"evaluate {where} --num-episodes 1000"
    verbs = [f"plot {where}", look]
    if not run.result.get("settings"):
        longer = float(f"{2 * run.result['env_steps']:.0e}")  # round, a third more at least
        verbs.append(f"resume {where} --total-env-steps {longer:.0f}")
    elif (best := run.run_dir / BEST_FILE).exists():  # not if no setting had a finite return
        verbs.append(f"train --config {shlex.quote(str(best))}")
    return [f"jaxdrl {verb}" for verb in verbs]
