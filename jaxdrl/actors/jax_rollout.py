"""Collects trajectories in environments that run in JAX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import jax

from jaxdrl.actors.collector import Collected, Collector
from jaxdrl.core.programs import program
from jaxdrl.core.types import ActorState, Algorithm, LearnerState


@dataclass
class _Place:
    """The state between two trajectories; None before the first one, and after an error."""

    actor: ActorState | None = None


def jax_collector(algorithm: Algorithm, device: jax.Device) -> Collector:
    """A collector that runs the part of an algorithm that acts on one device.

    Environment and inference are one program here; its time is that of "inference".

    Args:
      algorithm: made without a mesh.
      device: where it runs.
    """
    place = _Place()
    run = program(algorithm.collect or algorithm.rollout, ())
    return Collector(
        begin=partial(_begin, place, device),
        collect=partial(_collect, place, run, device),
        close=lambda: None,
    )


def _begin(place: _Place, device: jax.Device, actor: ActorState, *, anew: bool = False) -> int:
    """The `begin` of a `Collector`; the state is all there is, so that no episode is lost."""
    del anew
    place.actor = jax.device_put(actor, device, may_alias=False)
    return 0


def _collect(
    place: _Place,
    run: Callable,
    device: jax.Device,
    learner: LearnerState,
    alive: Callable[[], None],
) -> Collected:
    """The `collect` of a `Collector`."""
    begun = perf_counter()
    actor, place.actor = place.actor, None
    if actor is None:
        raise RuntimeError("the environments have to begin first")
    alive()
    learner = jax.device_put(learner, device)
    moved = perf_counter()
    actor, trajectory = jax.block_until_ready(run(learner, actor))
    place.actor = actor
    seconds = {"environment": 0.0, "inference": perf_counter() - moved, "transfer": moved - begun}
    return Collected(trajectory=trajectory, actor=actor, seconds=seconds)
