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
from jaxdrl.actors.rehearsal import rehearse, without_steps
from jaxdrl.actors.step import AsynchronousStep, join
from jaxdrl.actors.supervisor import Supervision, Supervisor
from jaxdrl.actors.versions import Versions
from jaxdrl.actors.watched import watch_over
from jaxdrl.core.types import TrainState
from jaxdrl.envs.protocol import Environment
from jaxdrl.evaluation.episodes import Evaluation
from jaxdrl.runs.assemble import Setup
from jaxdrl.runs.session import Session


@contextlib.contextmanager
def acting(setup: Setup, learn: Any, session: Session) -> Iterator[AsynchronousStep]:
    """The step of a run with actors, who end with the block."""
    config, env = setup.experiment.acting, setup.env
    versions = Versions(config.bound, is_free=config.is_free)
    supervision = supervision_of(setup, session)
    devices = setup.actor_devices
    makers = [
        partial(_make, setup, env, devices[index % len(devices)], index=index)
        for index in range(config.actors)
    ]
    supervisor = Supervisor(makers, devices, versions, supervision)
    step = AsynchronousStep(setup.algorithm, learn, supervisor, versions, setup.mesh)
    try:
        yield step
    finally:
        for name in step.close():
            session.warn(f"{setup.env.name}: {name} did not end in time, and is left behind")


def supervision_of(setup: Setup, session: Session) -> Supervision:
    """How the environments of a run are supervised."""
    config = setup.experiment.acting
    return Supervision(
        setup.env.name,
        config.actor_timeout,
        config.actor_retries,
        lambda: session.signals.name is not None,
        session.warn,
    )


def evaluate_supervised(
    setup: Setup, state: TrainState, key: jax.Array, session: Session
) -> Evaluation:
    """The evaluation of a run, which a signal or a hang can end where it plays on the host.

    Raises:
      InterruptedWorkError: if a signal came first.
      ActorError: if the environments fail or hang.
    """
    if setup.env.host is None:
        return setup.evaluate(state, key)
    work = partial(setup.evaluate, state, key)
    return watch_over(work, supervision_of(setup, session), "an evaluation")


def compile_acting(setup: Setup, state: TrainState) -> None:
    """Compiles what the actors of a run compute."""
    make = partial(_make, setup, without_steps(setup.env))
    put = partial(join, specs=setup.algorithm.trajectory_specs, mesh=setup.mesh)
    rehearse(make, setup.actor_devices, setup.experiment.acting.actors, state, put)


def _make(setup: Setup, env: Environment, device: jax.Device, *, index: int = 0) -> Collector:
    """A collector of the actor with this number, in copies of an environment."""
    experiment, algorithm = setup.experiment, setup.algorithm
    if env.host is None:
        return jax_collector(setup.without_actors, device)
    num_envs = experiment.algorithm.num_envs // experiment.acting.actors
    assert algorithm.acting is not None
    return host_collector(env, algorithm.acting, device, num_envs, index * num_envs)
