"""`--profile`: traces some updates of a run, once the first few are done."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from jaxdrl.runs.assemble import Setup
from jaxdrl.runs.profiling.breakdown import (
    BREAKDOWN_FILE,
    DIRECTORY,
    NUM_SKIPPED,
    NUM_TRACED,
    Trace,
    break_down,
    show,
)
from jaxdrl.runs.profiling.trace_reader import stages_in
from jaxdrl.runs.session import Session
from jaxdrl.runs.stopwatch import Stopwatch


class Tracer:
    """Traces some updates of a run after the first few, and prints where their time goes.

    Args:
      session: whose console it prints on.
      stopwatch: of the run, paused while a trace is started or written.
      directory: for the files of the trace.
      text: of the compiled step.
      stages: scopes of the step, as its `Algorithm` has them.
      done: updates before this process.
      num_updates: of the whole run.
      evaluate_every: updates between evaluations, which are not traced; None: only at the end.
    """

    def __init__(
        self,
        session: Session,
        stopwatch: Stopwatch,
        directory: Path,
        text: str,
        stages: Sequence[str],
        *,
        done: int,
        num_updates: int,
        evaluate_every: int | None,
    ) -> None:
        self.console, self.warn, self.stopwatch = session.console, session.warn, stopwatch
        self.directory, self.text, self.stages = directory, text, stages
        self.done, self.num_updates = done, num_updates
        self.wanted = min(NUM_TRACED, evaluate_every or NUM_TRACED)
        self.looks: list[float] = []
        self.trace: Trace | None = None
        self.first, self.started = 0, 0.0
        self.is_over = num_updates - done <= NUM_SKIPPED
        if self.is_over:
            self._warn(
                f"nothing is traced: {num_updates - done} updates are too few, since the first "
                f"{NUM_SKIPPED} are left out; take a larger total_env_steps, or smaller updates"
            )

    def _warn(self, words: str) -> None:
        self.warn(f"profile: {words}")

    def begin(self, update: int, state: Any, last: int) -> None:
        """`look` before the first of several updates without an evaluation between them."""
        self.looks.clear()
        self.look(update, state, last)

    def look(self, update: int, state: Any, last: int) -> None:
        """Starts or stops the trace when it is time.

        Args:
          update: updates done or under way.
          state: after them.
          last: the update before the next evaluation.
        """
        if self.is_over:
            return
        self.looks.append(time.perf_counter())
        if self.trace is not None and update >= min(self.first + self.wanted, last):
            self._stop(update, state)
            return
        is_warm = update - self.done >= NUM_SKIPPED
        enough = last - update >= (1 if last == self.num_updates else self.wanted)
        if self.trace is None and is_warm and enough:
            self._start(update, state)

    def _start(self, update: int, state: Any) -> None:
        jax.block_until_ready(state)
        with self.stopwatch.paused():
            try:
                self.trace = Trace(self.directory)
            except (OSError, RuntimeError) as error:
                self.is_over = True
                self._warn(f"no trace: {error}")
        self.first, self.started = update, time.perf_counter()

    def _stop(self, update: int, state: Any) -> None:
        jax.block_until_ready(state)
        num_updates = update - self.first
        traced = (time.perf_counter() - self.started) / num_updates
        # At the first look the devices have nothing to do, at the second they are at work.
        times = [b - a for a, b in zip(self.looks[2:], self.looks[3:], strict=False)]
        times = times[: -num_updates or None]
        untraced = statistics.median(times) if times else None
        with self.stopwatch.paused():
            try:
                path = self._end()
                found = break_down(path, self.text, self.stages, traced, untraced, num_updates)
                show(self.console, found)
            except (OSError, RuntimeError) as error:
                self._warn(f"the trace could not be written or read: {error}")

    def _end(self) -> Path:
        trace, self.trace, self.is_over = self.trace, None, True
        assert trace is not None
        return trace.stop()

    def close(self) -> None:
        """Ends a trace that a signal or an error left open."""
        if self.trace is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._end()


def tracer_of(setup: Setup, session: Session, step: Any, stopwatch: Stopwatch) -> Tracer | None:
    """The tracer of a run with the compiled `step`; None if not wanted, or already traced."""
    experiment, directory = setup.experiment, setup.run_dir / DIRECTORY
    if not experiment.profile or (directory / BREAKDOWN_FILE).exists():
        return None
    text = step.as_text()
    return Tracer(
        session,
        stopwatch,
        directory,
        text,
        stages_in(text, setup.algorithm.stages),
        done=setup.start.update,
        num_updates=experiment.num_updates,
        evaluate_every=experiment.evaluate_every,
    )
