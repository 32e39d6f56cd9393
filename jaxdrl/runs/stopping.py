"""What stops a run before its end: a signal, NaN or infinity, or a lack of memory."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from jaxdrl.core.magnitude import UNUSABLE


class RunInterruptedError(Exception):
    """A run was stopped by a signal; the message says what is saved and how to resume.

    Attributes:
      exit_code: of a command that ends so: 0 where the state is saved, else that of the signal.
      is_agreed: whether all processes of the run stop at the same place.
    """

    def __init__(self, message: str, exit_code: int = 0, *, is_agreed: bool = True) -> None:
        super().__init__(message)
        self.exit_code, self.is_agreed = exit_code, is_agreed


class NonFiniteError(Exception):
    """A run stopped because no finite gradient, or no allowed action, was left to learn from.

    Attributes:
      is_agreed: True, since all processes of the run see the same metrics.
    """

    is_agreed = True


class OutOfMemoryError(Exception):
    """A device ran out of memory in a run; the message says what would fit."""


class Signals:
    """Lets SIGINT, SIGTERM and SIGHUP end a run in good order; a context manager over the run.

    Within `held` a signal is only noted, and the code there checks `name`; elsewhere it raises
    `KeyboardInterrupt`, as Ctrl-C does. A second Ctrl-C always raises it, while a second SIGTERM or
    SIGHUP changes nothing. Signals that the process ignores, as under `nohup`, stay ignored.
    Outside the main thread, where Python delivers no signals, nothing is noted.

    Attributes:
      name: of the first signal that arrived, None before.
      is_impatient: whether Ctrl-C came after it.
    """

    NAMES = ("SIGINT", "SIGTERM", "SIGHUP")

    def __init__(self) -> None:
        self.name: str | None = None
        self.is_impatient = self.is_held = False
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in (getattr(signal, name) for name in self.NAMES if hasattr(signal, name)):
            handler = signal.getsignal(number)
            if handler not in (
                signal.SIG_IGN,
                None,
            ):  # None: not set by Python, and cannot be put back
                self.previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: Any) -> None:
        for handler in self.previous.values():
            outer = getattr(handler, "__self__", None)
            if isinstance(outer, Signals):
                outer.name = (
                    outer.name or self.name
                )  # or it would take the next signal for the first
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def end(self) -> None:
        """Ignores all signals from here on, in a process that is about to end."""
        for number in self.previous:
            signal.signal(number, signal.SIG_IGN)
        self.previous.clear()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within the block, the first signal is only noted.

        Raises:
          KeyboardInterrupt: if one has already been noted.
        """
        self.require_none()
        self.is_held = True
        try:
            yield
        finally:
            self.is_held = False

    def require_none(self) -> None:
        """Raises `KeyboardInterrupt` if a signal has been noted."""
        if self.name is not None:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        is_first = self.name is None
        if is_first:
            self.name = signal.Signals(number).name
        elif number == signal.SIGINT:
            self.is_impatient = True
        if (number == signal.SIGINT and not is_first) or (is_first and not self.is_held):
            raise KeyboardInterrupt


RESULTS = "parameters or optimiser state, of finite gradients"
GRADIENTS = "gradients"


class NonFiniteWatch:
    """Counts consecutive updates whose gradient steps were all skipped; a hook of the host loop.

    Raises:
      NonFiniteError: after `patience` of them (None: never), saying what was not finite first and
        since when; and immediately if the environment allowed no action.
    """

    QUANTITIES = (
        ("nonfinite_observations", f"observations ({UNUSABLE})"),
        ("nonfinite_rewards", f"rewards ({UNUSABLE})"),
        ("nonfinite_params", RESULTS),
        ("skipped_steps", GRADIENTS),
    )

    def __init__(self, patience: int | None) -> None:
        self.patience = patience
        self.num_skipped = 0
        self.since: dict[str, int] = {}

    def __call__(self, update: int, metrics: dict[str, Any]) -> None:
        """Takes the metrics of an update."""
        if num_stuck := int(metrics.get("states_without_action", 0)):
            raise NonFiniteError(
                f"stopped: in {num_stuck} states of update {update} the environment's action_mask "
                "allowed no action; where nothing can be done an episode has to end, and its last "
                "observation may allow any action"
            )
        if self.patience is None:
            return
        counts = {words: float(metrics.get(name, 0)) for name, words in self.QUANTITIES}
        counts[GRADIENTS] -= counts[RESULTS]
        if metrics["skipped_steps"] == 0:
            self.since = {words: since for words, since in self.since.items() if counts[words] > 0}
        # Noted even if no step was skipped: a large number may have its effect later.
        for words, count in counts.items():
            if count > 0:
                self.since.setdefault(words, update)
        # The mean over no gradient step is 0.
        took_none = metrics["skipped_steps"] > 0 and metrics["grad_norm"] == 0.0
        self.num_skipped = self.num_skipped + 1 if took_none else 0
        if self.num_skipped >= self.patience:
            raise self.error()

    def error(self) -> NonFiniteError:
        """The error that says what went wrong, and what went wrong first."""
        first = min(self.since, key=lambda words: self.since[words])
        others = [f"{w} since update {u}" for w, u in self.since.items() if w != first]
        updates = "update" if self.num_skipped == 1 else f"{self.num_skipped} updates"
        return NonFiniteError(
            f"stopped: no gradient step of the last {updates} was finite. "
            f"First went wrong: {first}, since update {self.since[first]}"
            + (f" (then {', '.join(others)})" if others else "")
        )
