"""What an actor does: it collects trajectories in its part of the environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from jaxdrl.core.types import ActorState, LearnerState, Transition


class Collected(NamedTuple):
    """A trajectory, and where the environments are after it.

    Attributes:
      trajectory: `[T, n, ...]`, arrays on the device of the actor, which nobody writes to again.
      actor: the state after it, arrays `[n, ...]`, likewise.
      seconds: time spent, by part: "environment", "inference" and "transfer".
    """

    trajectory: Transition
    actor: ActorState
    seconds: Mapping[str, float]


class Collector(NamedTuple):
    """Acts in `n` environments; used by one thread at a time.

    Attributes:
      begin: `(actor, *, anew=False) -> num_lost`: makes the environments, and puts them where
        `actor [n, ...]` says: running episodes are played again from their seeds and actions. Those
        that cannot be, or all with `anew`, begin another episode, and are counted.
      collect: `(learner, alive) -> Collected`: one trajectory, acted with what `acting_part` leaves
        of a learner, on the device of the actor. It calls `alive()` before each step, which raises
        where it is to end.
      close: ends the environments, also from another thread while a call is under way.
    """

    begin: Callable[..., int]
    collect: Callable[[LearnerState, Callable[[], None]], Collected]
    close: Callable[[], None]
