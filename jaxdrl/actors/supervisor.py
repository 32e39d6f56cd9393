"""Supervises the actors: hands out their trajectories, and replaces those that fail or hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax

from jaxdrl.actors.actor_thread import ActorThread, Delivered
from jaxdrl.actors.collector import Collector
from jaxdrl.actors.versions import WAIT_SECONDS, Versions
from jaxdrl.algorithms.training import NoStepError
from jaxdrl.core.types import ActorState
from jaxdrl.errors import ActorError

START_SECONDS = 300.0
"""How long an actor may take, at least, until its first step: it makes environments, and plays
episodes again."""

STOP_SECONDS = 4.0
"""How long an actor that is told to end may take."""


class InterruptedWaitError(NoStepError):
    """The run is to end, and no trajectory was there yet."""


@dataclass(frozen=True)
class Supervision:
    """How actors are supervised.

    Attributes:
      name: of the environment, for messages.
      timeout: seconds after which a step of the environments counts as hung.
      retries: failures in a row after which the run ends.
      interrupted: whether the run is to end.
      warn: prints a warning.
    """

    name: str
    timeout: float
    retries: int
    interrupted: Callable[[], bool]
    warn: Callable[[str], None]


class Supervisor:
    """The actors of a run, each with an equal part of the environments.

    Attributes:
      num_restarts: actors that were replaced.
      num_discarded: environment steps of trajectories that they had not finished.
      num_lost: episodes that were cut off and began anew.
    """

    def __init__(
        self,
        makers: Sequence[Callable[[], Collector]],
        devices: Sequence[jax.Device],
        versions: Versions,
        supervision: Supervision,
    ) -> None:
        self.makers, self.devices, self.versions = makers, devices, versions
        self.supervision = supervision
        self.changed = threading.Condition()
        self.failures = [0] * len(makers)
        self.num_restarts = self.num_discarded = self.num_lost = 0
        self.actors: list[ActorThread] = []
        self.left_behind: list[ActorThread] = []

    def start(self, parts: Sequence[ActorState], trajectory: int) -> None:
        """Starts all actors, the first of whose trajectories has this number."""
        self.actors = [self._make(index) for index in range(len(parts))]
        for actor, part in zip(self.actors, parts, strict=True):
            actor.start(part, trajectory)

    def take(self, trajectory: int) -> list[Delivered]:
        """The trajectory of every actor with this number, once all are there.

        Raises:
          NoStepError: where the run is to end before that, or an actor has failed too often; its
            cause is the `ActorError` then.
        """
        with self.changed:
            while not all(trajectory in actor.delivered for actor in self.actors):
                if self.supervision.interrupted():
                    raise InterruptedWaitError
                self._look_after(trajectory)
                self.changed.wait(WAIT_SECONDS)
            self.failures = [0] * len(self.actors)
            self._tell_lost()
            return [actor.delivered.pop(trajectory) for actor in self.actors]

    def depth(self) -> int:
        """How many whole trajectories are there to learn from."""
        with self.changed:
            return min((len(actor.delivered) for actor in self.actors), default=0)

    def close(self) -> list[str]:
        """Ends all actors and their environments; the names of threads that did not end."""
        everyone = [*self.actors, *self.left_behind]
        for actor in everyone:
            actor.is_stopped = True
        deadline = time.monotonic() + STOP_SECONDS
        late = [a for a in everyone if not a.stop(max(0.5, deadline - time.monotonic()))]
        return [actor.thread.name for actor in late]

    def _tell_lost(self) -> None:
        """Says once how many episodes could not be continued where actors have begun."""
        num_lost = sum(actor.num_lost for actor in self.actors)
        for actor in self.actors:
            actor.num_lost = 0
        if num_lost:
            self.num_lost += num_lost
            self.supervision.warn(
                f"{self.supervision.name}: {num_lost} episodes were cut off and began anew, since "
                "they could not be played again"
            )

    def _make(self, index: int) -> ActorThread:
        device = self.devices[index % len(self.devices)]
        return ActorThread(index, self.makers[index], device, self.versions, self.changed)

    def _look_after(self, trajectory: int) -> None:
        """Replaces actors that have failed, or whose environments hang."""
        for index, actor in enumerate(self.actors):
            if actor.error is not None:
                words = f"{type(actor.error).__name__}: {actor.error}"
                self._replace(index, words, actor.error)
            elif actor.idle_seconds() > self._patience(actor):
                words = f"no step was done within {self._patience(actor):g} s"
                self._replace(index, words, TimeoutError(words))

    def _patience(self, actor: ActorThread) -> float:
        timeout = self.supervision.timeout
        return timeout if actor.has_stepped else max(timeout, START_SECONDS)

    def _replace(self, index: int, words: str, error: BaseException) -> None:
        """Starts another actor before the trajectory that the old one did not finish.

        Raises:
          NoStepError: if that has failed too often.
        """
        old, name = self.actors[index], self.supervision.name
        self.failures[index] += 1
        what = f"{name}: the environments of actor {index} failed ({words})"
        if self.failures[index] > self.supervision.retries:
            raise NoStepError from ActorError(
                f"{what}; {self.failures[index]} times in a row, so the run stops"
            )
        num_envs = old.before.key.shape[0]
        discarded = old.num_steps * num_envs
        self.num_restarts, self.num_discarded = (
            self.num_restarts + 1,
            self.num_discarded + discarded,
        )
        self.supervision.warn(f"{what}; {discarded} steps are discarded, and they are made anew")
        old.is_stopped = True
        if old.thread.is_alive():
            self.left_behind.append(old)
            threading.Thread(target=old.stop, args=(STOP_SECONDS,), daemon=True).start()
        new = self.actors[index] = self._make(index)
        new.delivered = old.delivered
        # The same actions may lead to the same failure: after the first, other episodes begin.
        new.start(old.before, old.trajectory, anew=self.failures[index] > 1)
