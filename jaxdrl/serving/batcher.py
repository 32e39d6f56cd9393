"""Gathers the questions of many clients, so that the policy answers them in one call."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdrl.serving.decisions import Decision, act
from jaxdrl.serving.refusals import RefusedError
from jaxdrl.serving.source import Loaded


class Step(NamedTuple):
    """A question with the rows that it is about.

    Attributes:
      loaded: the policy that it was read for, and that answers it.
      obs: rows as `rows_of` makes them.
      num: rows.
      carry: recurrent state of each row.
      start: bool `[num]`, where an episode begins.
      future: of the decision.
    """

    loaded: Loaded
    obs: Any
    num: int
    carry: Any
    start: np.ndarray
    future: asyncio.Future[Decision]


class Batcher:
    """Answers questions in batches: those that come while the policy acts are the next batch.

    It belongs to the event loop, and the policy acts in a thread of its own: so the loop goes on
    however long that takes. Waiting for further questions was measured to gain nothing.

    Args:
      loop: the event loop.
      max_rows: most rows of a batch with several questions.
      max_waiting: most rows that wait.
      on_batch: is called with the number of rows of each batch.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        max_rows: int,
        max_waiting: int,
        on_batch: Callable[[int], Any],
    ) -> None:
        self._loop, self._max_rows, self._max_waiting = loop, max_rows, max_waiting
        self._on_batch = on_batch
        self._steps: deque[Step] = deque()
        self._num_waiting = 0
        self._is_busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jaxdrl-act")

    def ask(self, loaded: Loaded, obs: Any, num: int, carry: Any, start: np.ndarray) -> Any:
        """An awaitable of what a policy decides.

        Raises:
          RefusedError: if too many rows wait already.
        """
        if self._num_waiting + num > self._max_waiting:
            raise RefusedError(
                503, "the policy is busy; ask again later", None, ((b"retry-after", b"1"),)
            )
        future = self._loop.create_future()
        self._steps.append(Step(loaded, obs, num, carry, start, future))
        self._num_waiting += num
        if not self._is_busy:
            self._is_busy = True
            self._loop.call_soon(self._next)
        return future

    def close(self) -> None:
        """Ends the thread once it has nothing to do."""
        self._thread.shutdown(wait=False)

    def _next(self) -> None:
        if not self._steps:
            self._is_busy = False
            return
        steps = self._take()
        rows = sum(step.num for step in steps)
        self._num_waiting -= rows
        self._on_batch(rows)
        self._thread.submit(self._decide, steps)

    def _take(self) -> list[Step]:
        """The next questions for one policy, the first one of whatever size."""
        steps = [self._steps.popleft()]
        rows = steps[0].num
        while self._steps and self._steps[0].loaded is steps[0].loaded:
            rows += self._steps[0].num
            if rows > self._max_rows:
                break
            steps.append(self._steps.popleft())
        return steps

    def _decide(self, steps: list[Step]) -> None:
        """Asks the policy, in the thread."""
        try:
            found: Any = _act_on_all(steps)
        except Exception as error:
            found = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._deliver, steps, found)

    def _deliver(self, steps: list[Step], found: list[Decision] | Exception) -> None:
        for i, step in enumerate(steps):
            if step.future.done():
                continue  # it was cancelled
            if isinstance(found, Exception):
                step.future.set_exception(found)
            else:
                step.future.set_result(found[i])
        self._next()


def _act_on_all(steps: list[Step]) -> list[Decision]:
    loaded = steps[0].loaded
    if len(steps) == 1:
        return [act(loaded, steps[0].obs, steps[0].carry, steps[0].start)]
    joined = jax.tree.map(
        lambda *parts: np.concatenate(parts), *[(s.obs, s.carry, s.start) for s in steps]
    )
    whole = act(loaded, *joined)
    decisions, first = [], 0
    for step in steps:
        rows = slice(first, first + step.num)
        carry = jax.tree.map(lambda x, rows=rows: x[rows].copy(), whole.carry)
        decisions.append(Decision(whole.action[rows], whole.version, carry))
        first += step.num
    return decisions
