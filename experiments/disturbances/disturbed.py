"""The `jaxdrl` command, one process of which is disturbed as the variable DISTURBED says."""

import errno
import functools
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PLACES = {
    "meeting": ("jaxdrl.distributed.connect:_meet", 1, True),
    "starting": ("jaxdrl.sweeps.driver:check", 1, False),
    "compiling": ("jaxdrl.runs.train_run:compile_step", 1, False),
    "updating": ("jaxdrl.runs.loop:TrainingLoop._look", 5, False),
    "saving": ("jaxdrl.runs.joint_save:_write_rows", 2, True),
    "evaluating": ("jaxdrl.runs.assemble:Setup.evaluate", 2, False),
    "ending": ("jaxdrl.distributed.connect:_end", 1, False),
    "leaving": ("jaxdrl.distributed.connect:_end", 1, True),
    "acting": ("jaxdrl.actors.actor_thread:ActorThread._step", 60, False),
    "learning": ("jaxdrl.actors.step:join", 5, False),
    "writing": ("jaxdrl.runs.checkpoint_manager:Saver._write_files", 2, False),
}
"""By phase: what is called in it, at which call it is disturbed, and whether after that call."""

STUCK_SECONDS = 30


def fail() -> None:
    """An exception of the kind that nobody expects."""
    raise RuntimeError("disturbed on purpose")


def send(number: signal.Signals) -> None:
    """Sends this process a signal."""
    os.kill(os.getpid(), number)


def fill_disk() -> None:
    """What a write raises where no space is left."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


ACTIONS: dict[str, Callable[[], Any]] = {
    "SIGKILL": functools.partial(send, signal.SIGKILL),
    "SIGSTOP": functools.partial(send, signal.SIGSTOP),
    "exception": fail,
    "os._exit": functools.partial(os._exit, 3),
    "SIGTERM": functools.partial(send, signal.SIGTERM),
    "SIGINT": functools.partial(send, signal.SIGINT),
    "SIGHUP": functools.partial(send, signal.SIGHUP),
    "stuck": functools.partial(time.sleep, STUCK_SECONDS),
    "full disk": fill_disk,
    "none": lambda: None,
}


def disturb(phase: str, action: str, marker: Path) -> None:
    """Arranges that this process does an action in a phase, and writes the time to a file."""
    place, number, is_after = PLACES[phase]
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner: Any = functools.reduce(getattr, owners, importlib.import_module(module))
    original, calls = getattr(owner, name), iter(range(1, sys.maxsize))

    def disturbed(*args: Any, **kwargs: Any) -> Any:
        is_now = next(calls) == number
        if is_now and not is_after:
            act()
        result = original(*args, **kwargs)
        if is_now and is_after:
            act()
        return result

    def act() -> None:
        part = marker.with_suffix(".part")
        part.write_text(str(time.time()))
        part.rename(marker)
        ACTIONS[action]()

    setattr(owner, name, disturbed)


def pretend_version() -> None:
    """Another version of jaxdrl than the other processes have."""
    together: Any = importlib.import_module("jaxdrl.runs.together")
    found = together.versions
    together.versions = lambda: found() | {"jaxdrl": "0.0.1"}


def keep_programs() -> None:
    """Lets each process keep its programs: JAX writes those of process 0 alone.

    The others have keys of their own on a CPU, and would compile anew in each of many runs.
    """
    compiler: Any = importlib.import_module("jax._src.compiler")
    original, first = compiler._cache_write, SimpleNamespace(process_id=0)

    def write(*args: Any) -> None:
        actual, compiler.distributed = compiler.distributed, SimpleNamespace(global_state=first)
        try:
            original(*args)
        finally:
            compiler.distributed = actual

    compiler._cache_write = write


def main() -> None:
    """Disturbs this process if it is the one that is meant, and does what the command says."""
    plan = json.loads(os.environ.get("DISTURBED", "{}"))
    if plan.get("process") == int(os.environ.get("JAX_PROCESS_ID", 0)):
        disturb(plan["phase"], plan["action"], Path(plan["marker"]))
    if os.environ.get("DISTURBED_VERSION"):
        pretend_version()
    keep_programs()
    from jaxdrl.cli.main import main

    main()


if __name__ == "__main__":
    main()
