"""What a run shares with its process and its caller: console, signals, trackers and a hook."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxdrl.distributed.connect import connected
from jaxdrl.distributed.hosts import Hosts
from jaxdrl.io.advice import resume_call
from jaxdrl.io.console import make_console, warner
from jaxdrl.runs import checkpoint as checkpoints
from jaxdrl.runs import run_dir as files
from jaxdrl.runs.exports import Export
from jaxdrl.runs.stopping import RunInterruptedError, Signals
from jaxdrl.runs.trackers import Tracker

OnUpdate = Callable[[int, dict[str, Any]], Any]
"""`(number of updates done, metrics as plain numbers)`; a true result ends the run early."""


@dataclass
class Session:
    """What a run, or all parts of a sweep, share.

    Attributes:
      run_dir: of the run, None until it is known.
      console: on which it reports its progress.
      warn: prints a warning, even where the console is quiet.
      signals: that have arrived.
      hosts: the processes of the run.
      trackers: that the caller gave.
      on_update: what the caller wants called after each update.
      export: writes the policy file of a run from a checkpoint.
    """

    run_dir: Path | None
    console: Console
    warn: Callable[[str], None]
    signals: Signals
    hosts: Hosts
    trackers: Sequence[Tracker] = ()
    on_update: OnUpdate | None = None
    export: Export | None = None


@contextlib.contextmanager
def open_session(
    run_dir: Path | None,
    overrides: list[str],
    *,
    trackers: Sequence[Tracker] = (),
    on_update: OnUpdate | None = None,
    quiet: bool = False,
    export: Export | None = None,
) -> Iterator[Session]:
    """Opens the session of a run, and says what is left where a signal ends it.

    Args:
      run_dir: of the run, None where it gets a new one.
      overrides: names of the objects that were given in Python.
      trackers: see `Session`.
      on_update: likewise.
      quiet: whether to print nothing but warnings.
      export: see `Session`.

    Raises:
      RunInterruptedError: if a signal came while no update was running, or Ctrl-C came twice.
    """
    console = make_console(quiet=quiet)
    with Signals() as signals, connected(partial(console.print, soft_wrap=True)) as hosts:
        if not hosts.is_first:  # process 0 speaks for all
            console, trackers, on_update, export = make_console(quiet=True), (), None, None
        warn = warner(console if not hosts.is_first else make_console())
        session = Session(run_dir, console, warn, signals, hosts, trackers, on_update, export)
        try:
            yield session
        except KeyboardInterrupt:
            if signals.name is None:  # not from a signal that was noted
                raise
            words, code = _last_words(session, overrides), 128 + signal.Signals[signals.name]
            is_agreed = not signals.is_impatient
            raise RunInterruptedError(words, code, is_agreed=is_agreed) from None


def _last_words(session: Session, overrides: list[str]) -> str:
    """The message for a run that a signal ended at once, by what is in its directory."""
    signals, run_dir = session.signals, session.run_dir
    what = f"{signals.name}: stopped before training could start or continue"
    if signals.is_impatient:
        what = f"{signals.name}, and Ctrl-C after it: stopped at once, without another checkpoint"
    if run_dir is None or not (run_dir / files.CONFIG_FILE).exists():
        return f"{what}. Nothing was written: start it again"
    updates = checkpoints.updates_in(run_dir / files.CHECKPOINTS)
    last = f"The last checkpoint is that of update {updates[-1]}; r" if updates else "R"
    return f"{what}. {last}esume with: {resume_call(run_dir, overrides)}"
