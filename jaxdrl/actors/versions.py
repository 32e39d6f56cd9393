"""The policies that actors act with: which of them acts in which trajectory.

Trajectory `n`, counted from 1, is what update `n` learns from. In deterministic mode it is acted by
the policy of version `max(0, n - 1 - K)`, which has seen so many updates, whatever the timing. In
free mode it is any version of at least that, the newest that is there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.algorithms.acting import acting_part
from jaxdrl.core.types import LearnerState

WAIT_SECONDS = 0.1
"""How long a thread waits before it looks whether it is to end."""


@jax.jit
def published(learner: LearnerState) -> LearnerState:
    """A copy of what acting reads of a learner, which survives the donation of the learner."""
    return jax.tree.map(jnp.copy, acting_part(learner))


class Versions:
    """The policies by the number of updates that they have seen; used by several threads.

    Args:
      bound: `K`, how many updates old a trajectory may be.
      is_free: whether it may be newer.
    """

    def __init__(self, bound: int, *, is_free: bool = False) -> None:
        self.bound, self.is_free = bound, is_free
        self.known: dict[int, LearnerState] = {}
        self.changed = threading.Condition()

    def oldest_for(self, trajectory: int) -> int:
        """The oldest version that may act in a trajectory."""
        return max(0, trajectory - 1 - self.bound)

    def publish(self, policies: Mapping[int, LearnerState], trajectory: int) -> None:
        """Adds policies, and drops those too old for a trajectory, the next to be learned from."""
        with self.changed:
            oldest = self.oldest_for(trajectory)
            kept = {**self.known, **policies}
            self.known = {version: kept[version] for version in kept if version >= oldest}
            self.changed.notify_all()

    def wait(self, trajectory: int, alive: Callable[[], None]) -> tuple[int, LearnerState]:
        """`(version, policy)` that acts in a trajectory, once there is one.

        Args:
          trajectory: its number.
          alive: is called while it waits, and raises where it is to end.
        """
        with self.changed:
            while (version := self._choose(trajectory)) is None:
                alive()
                self.changed.wait(WAIT_SECONDS)
            return version, self.known[version]

    def _choose(self, trajectory: int) -> int | None:
        oldest = self.oldest_for(trajectory)
        if not self.is_free:
            return oldest if oldest in self.known else None
        fresh = [version for version in self.known if version >= oldest]
        computed = [version for version in fresh if _is_computed(self.known[version])]
        return max(computed) if computed else min(fresh, default=None)


def _is_computed(learner: LearnerState) -> bool:
    """Whether the update that made a policy is done, so that acting need not wait for it."""
    leaves: list[Any] = [leaf for leaf in jax.tree.leaves(learner) if isinstance(leaf, jax.Array)]
    return all(leaf.is_ready() for leaf in leaves)
