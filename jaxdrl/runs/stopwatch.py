"""The stopwatch of a run, which runs while it does updates and is paused for everything else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Counts the seconds of training; evaluations and the work of a trace are left out.

    Args:
      seconds: that earlier processes have counted.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._counted = seconds
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds until now."""
        now = time.perf_counter()
        return self._counted + (0.0 if self._started is None else now - self._started)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """It runs within the block."""
        self._started = time.perf_counter()
        try:
            yield
        finally:
            self._counted, self._started = self.seconds, None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """It does not run within the block, and runs on afterwards if it ran before."""
        was_running = self._started is not None
        self._counted, self._started = self.seconds, None
        try:
            yield
        finally:
            self._started = time.perf_counter() if was_running else None
