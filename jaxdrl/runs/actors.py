"""The actors of a run: they start with its loop and end with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax

from jaxdrl.actors.collector import Collector
from jaxdrl.actors.host_rollout import host_collector
from jaxdrl.actors.jax_rollout import jax_collector
from jaxdrl.actors.step import AsynchronousStep
from jaxdrl.actors.supervisor import Supervision, Supervisor
from jaxdrl.actors.versions import Versions
from jaxdrl.runs.assemble import Setup
from jaxdrl.runs.session import Session


@contextlib.contextmanager
def acting(setup: Setup, learn: Any, session: Session) -> Iterator[AsynchronousStep]:
    """The step of a run with actors, who end with the block."""
    config, env = setup.experiment.acting, setup.env
    versions = Versions(config.bound, is_free=config.is_free)
    supervision = Supervision(
        env.name,
        config.actor_timeout,
        config.actor_retries,
        lambda: session.signals.name is not None,
        session.warn,
    )
    makers = [
        partial(_make, setup, setup.actor_devices[index % len(setup.actor_devices)])
        for index in range(config.actors)
    ]
    supervisor = Supervisor(makers, setup.actor_devices, versions, supervision)
    step = AsynchronousStep(setup.algorithm, learn, supervisor, versions, setup.mesh)
    try:
        yield step
    finally:
        for name in step.close():
            session.warn(f"{setup.env.name}: {name} did not end in time, and is left behind")


def _make(setup: Setup, device: jax.Device) -> Collector:
    """A collector of one actor."""
    experiment, env, algorithm = setup.experiment, setup.env, setup.algorithm
    if env.host is None:
        return jax_collector(setup.without_actors(), device)
    num_envs = experiment.algorithm.num_envs // experiment.acting.actors
    assert algorithm.acting is not None
    return host_collector(env, algorithm.acting, device, num_envs)
