"""A thread that collects the trajectories of one part of the environments."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from jaxdrl.actors.collector import Collected, Collector
from jaxdrl.actors.versions import Versions
from jaxdrl.config.acting import THREAD
from jaxdrl.core.types import ActorState


class StoppedError(Exception):
    """An actor is to end, since the run does or another one has taken its place."""


@dataclass(frozen=True)
class Delivered:
    """A trajectory of one actor.

    Attributes:
      collected: itself.
      version: of the policy that acted in it.
      waiting: seconds in which the actor waited for that policy.
      acting: seconds in which it acted.
    """

    collected: Collected
    version: int
    waiting: float
    acting: float


class ActorThread:
    """Collects one trajectory after the other until it is told to stop, or fails.

    Attributes:
      before: the environments before the trajectory that it collects now.
      trajectory: the number of that trajectory.
      delivered: trajectories that are done, by number; whoever takes them removes them.
      error: what ended it, None while it runs or where it was told to end.
      num_lost: episodes that could not be continued when it began.
      num_steps: steps of its environments in the trajectory that it collects now.

    Args:
      index: its number among the actors.
      make_collector: makes the collector, in the thread.
      device: on which it computes actions.
      versions: the policies.
      changed: is notified when a trajectory is done, and when it ends.
    """

    def __init__(
        self,
        index: int,
        make_collector: Callable[[], Collector],
        device: jax.Device,
        versions: Versions,
        changed: threading.Condition,
    ) -> None:
        self.index, self.make_collector, self.device = index, make_collector, device
        self.versions, self.changed = versions, changed
        self.delivered: dict[int, Delivered] = {}
        self.error: BaseException | None = None
        self.num_lost = self.num_steps = self.trajectory = 0
        self.is_stopped = self.has_stepped = False
        self.is_waiting = False  # for a policy, which is no fault of its environments
        self.last_sign = time.monotonic()
        self.collector: Collector | None = None
        self.before: Any = None

    def start(self, actor: ActorState, trajectory: int, *, anew: bool = False) -> None:
        """Starts the thread.

        Args:
          actor: the environments before the first trajectory, `[n, ...]`.
          trajectory: the number of that trajectory.
          anew: whether all episodes begin anew.
        """
        self.before, self.trajectory = actor, trajectory
        self.thread = threading.Thread(
            target=self._run, args=(anew,), name=f"{THREAD}{self.index}", daemon=True
        )
        self.thread.start()

    def idle_seconds(self) -> float:
        """Seconds since the environments have last done something."""
        return 0.0 if self.is_waiting else time.monotonic() - self.last_sign

    def stop(self, seconds: float) -> bool:
        """Ends the thread and its environments: whether it has ended within so many seconds."""
        self.is_stopped = True
        self.thread.join(seconds / 2)
        if self.thread.is_alive() and self.collector is not None:
            self.collector.close()  # ends worker processes, for which a step may wait
            self.thread.join(seconds / 2)
        return not self.thread.is_alive()

    def _run(self, anew: bool) -> None:
        try:
            self.collector = self.make_collector()
            self.num_lost = self.collector.begin(self.before, anew=anew)
            while True:
                self._collect()
        except StoppedError:
            pass
        except BaseException as error:  # the learner decides what follows from it
            self.error = error
        finally:
            if self.collector is not None:
                self.collector.close()
            with self.changed:
                self.changed.notify_all()

    def _collect(self) -> None:
        """Collects a trajectory, once the policy for it is there."""
        assert self.collector is not None
        began = time.perf_counter()
        self.is_waiting = True
        version, policy = self.versions.wait(self.trajectory, self._alive)
        # What is left of the update that computes it is no time of the environments.
        policy = jax.block_until_ready(jax.device_put(policy, self.device, may_alias=False))
        self._sign()
        self.is_waiting = False
        acts = time.perf_counter()
        collected = self.collector.collect(policy, self._step)
        ended = time.perf_counter()
        found = Delivered(collected, version, acts - began, ended - acts)
        with self.changed:
            self._alive()  # what comes too late is another one's by now
            self.delivered[self.trajectory] = found
            self.before, self.trajectory = collected.actor, self.trajectory + 1
            self.num_steps = 0
            self.changed.notify_all()

    def _step(self) -> None:
        self._alive()
        self._sign()
        self.num_steps, self.has_stepped = self.num_steps + 1, True

    def _sign(self) -> None:
        self.last_sign = time.monotonic()

    def _alive(self) -> None:
        if self.is_stopped:
            raise StoppedError
