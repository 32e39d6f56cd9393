"""What a process of several tells the others about its training: updates done, and its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from jaxdrl.distributed.status import Status

WEIGHT = 0.1
"""Of the last update in the mean."""


class Pace:
    """Keeps the `Status` of a process up to date while it trains.

    The time that a process spends outside waiting for the devices is the time from the metrics of
    an update until the next update is handed over. A process with much of it makes all others wait.
    """

    def __init__(self, status: Status, memory: Callable[[], int]) -> None:
        self.status, self.memory = status, memory
        self.since: float | None = None

    def begin(self, update: int) -> None:
        """Updates follow after `update`; an evaluation before them is not their time."""
        self.since, self.status.phase = None, "updating"
        self.status.dispatched = self.status.completed = update

    def seen(self, update: int, metrics: dict[str, Any]) -> None:
        """The first hook of an update: its metrics are there."""
        self.since = time.perf_counter()
        self.status.completed = update
        self.status.memory_bytes = self.memory()

    def timed(self, step: Any) -> Any:
        """`step`, which notes when it is called."""

        def timed_step(state: Any) -> Any:
            if self.since is not None:
                seconds = time.perf_counter() - self.since
                mean = self.status.own_seconds
                self.status.own_seconds += (seconds - mean) * (WEIGHT if mean else 1.0)
            self.since = None
            self.status.dispatched += 1
            return step(state)

        return timed_step
