"""Work in environments of the host that a signal, an error or a hang can end: an evaluation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import jax

from jaxdrl.actors.actor_thread import StoppedError
from jaxdrl.actors.supervisor import START_SECONDS, STOP_SECONDS, Supervision
from jaxdrl.actors.versions import WAIT_SECONDS
from jaxdrl.config.acting import THREAD
from jaxdrl.errors import ActorError

Result = TypeVar("Result")


class InterruptedWorkError(Exception):
    """A signal came before the work was done."""


class _Work:
    """A thread that does some work, and what has come of it."""

    def __init__(self, work: Callable[[Callable[[], None]], Result]) -> None:
        self.work, self.result = work, []  # type: ignore[var-annotated]
        self.error: BaseException | None = None
        self.is_stopped, self.last_sign, self.has_stepped = False, time.monotonic(), False
        self.thread = threading.Thread(target=self._run, name=f"{THREAD}evaluation", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.result.append(self.work(self._step))
        except BaseException as error:  # the main thread decides what follows from it
            self.error = error

    def _step(self) -> None:
        if self.is_stopped:
            raise StoppedError
        self.last_sign, self.has_stepped = time.monotonic(), True


def watch_over(
    work: Callable[[Callable[[], None]], Result], supervision: Supervision, what: str
) -> Result:
    """The result of some work, which is done in another thread.

    Args:
      work: `(alive) -> result`; calls `alive()` before each step of environments.
      supervision: how long a step may take, and whether the run is to end.
      what: the work in words, for messages.

    Raises:
      InterruptedWorkError: if the run is to end.
      ActorError: if the environments fail or hang.
    """
    done = _Work(work)
    while done.thread.is_alive():
        done.thread.join(WAIT_SECONDS)
        patience = supervision.timeout
        patience = patience if done.has_stepped else max(patience, START_SECONDS)
        if supervision.interrupted():
            _stop(done)
            raise InterruptedWorkError
        if time.monotonic() - done.last_sign > patience:
            _stop(done)
            words = f"no step was done within {patience:g} s"
            raise ActorError(f"{supervision.name}: hangs in {what} ({words})")
    if done.error is None:
        return done.result[0]
    if isinstance(done.error, jax.errors.JaxRuntimeError):  # such as out of memory
        raise done.error
    words = f"{type(done.error).__name__}: {done.error}"
    raise ActorError(f"{supervision.name}: failed in {what} ({words})") from done.error


def _stop(done: _Work) -> None:
    done.is_stopped = True
    done.thread.join(STOP_SECONDS)
