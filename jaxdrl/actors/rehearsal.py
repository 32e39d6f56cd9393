"""Compiles what actors and their learner compute, before the run begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxdrl.actors.collector import Collector
from jaxdrl.actors.step import split_envs
from jaxdrl.actors.versions import published
from jaxdrl.core.types import TrainState
from jaxdrl.envs.host.protocol import HostBatch, shapes_of
from jaxdrl.envs.protocol import Environment


def rehearse(
    make_collector: Callable[[jax.Device], Collector],
    devices: Sequence[jax.Device],
    num_actors: int,
    state: TrainState,
    put: Callable[[Sequence[Any]], Any],
) -> None:
    """Collects one trajectory on each device, of which nothing remains but compiled programs.

    Args:
      make_collector: makes the collector of one actor, in `without_steps` of its environment.
      devices: on which actors compute actions.
      num_actors: that share the environments.
      state: that the run begins with, an `ActorsState` for its actor; not donated.
      put: takes the trajectories of all actors to the devices of the learner.
    """
    actor: Any = state.actor
    part = split_envs(actor.envs, num_actors)[0]
    policy = published(state.learner)
    for device in devices[:num_actors]:
        collector = make_collector(device)
        try:
            collector.begin(part, anew=True)
            on_device = jax.device_put(policy, device, may_alias=False)
            collected = collector.collect(on_device, lambda: None)
            put([collected.trajectory] * num_actors)
        finally:
            collector.close()


def without_steps(env: Environment) -> Environment:
    """The environment, with copies on the host that do nothing: all that they say is zero.

    Every step is truncated, so that the values of last observations are computed too.
    """
    if env.host is None:
        return env
    shapes = shapes_of(env.observation_space)

    def make(num_envs: int) -> HostBatch:
        obs = jax.tree.map(lambda x: np.zeros((num_envs, *x.shape), x.dtype), shapes)
        reward, never = np.zeros(num_envs, np.float32), np.zeros(num_envs, np.bool)
        return HostBatch(
            reset=lambda rows, seeds: obs,
            step=lambda action: (obs, reward, never, ~never),
            close=lambda: None,
        )

    return env._replace(host=env.host._replace(make=make))
