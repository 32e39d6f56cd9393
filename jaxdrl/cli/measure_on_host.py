"""How fast environments of the host are acted in, and learned from, for `jaxdrl doctor`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxdrl.actors.asynchronous import asynchronous
from jaxdrl.actors.host_rollout import host_collector
from jaxdrl.actors.step import compile_learn
from jaxdrl.algorithms.acting import acting_part
from jaxdrl.algorithms.build import build
from jaxdrl.config.algorithms import AlgorithmConfig
from jaxdrl.core.keys import make_key
from jaxdrl.envs import Environment

SIZES = tuple(16 * 4**i for i in range(4))
"""Numbers of environments that are tried, which the host steps."""


@dataclass(frozen=True)
class Speeds:
    """Environment steps per second of acting and of learning, each by itself."""

    acting: float
    learning: float

    @property
    def at_once(self) -> float:
        """Of both at once, where neither slows the other."""
        return min(self.acting, self.learning)

    def __str__(self) -> str:
        slower = "acting" if self.acting < self.learning else "learning"
        times = max(self.acting, self.learning) / self.at_once
        return (
            f"acting alone makes {self.acting:,.0f} steps/s, and learning {self.learning:,.0f}: "
            f"{slower} is the slower side by {times:.1f}x"
        )


def measure(env: Environment, config: AlgorithmConfig, seconds: float) -> Speeds:
    """Measures one actor and the learner, on one device and without compiling."""
    agent = asynchronous(build(env, config), 0)
    state = jax.jit(agent.init)(make_key(0))
    policy, learn = acting_part(state.learner), compile_learn(agent, state, None)
    assert agent.acting is not None
    with closing(
        host_collector(env, agent.acting, jax.local_devices()[0], config.num_envs)
    ) as collector:
        collector.begin(state.actor.envs)
        steps = collector.collect(policy, _go_on).trajectory
        acting = _median_seconds(lambda: collector.collect(policy, _go_on), seconds)
    kept = jax.block_until_ready(learn(state.learner, state.actor.replay, steps))[:2]

    def learn_again() -> None:
        nonlocal kept
        kept = jax.block_until_ready(learn(*kept, steps))[:2]

    learning = _median_seconds(learn_again, seconds)
    num_steps = config.env_steps_per_update
    return Speeds(acting=num_steps / acting, learning=num_steps / learning)


def _go_on() -> None:
    """Nothing ends a measurement."""


def _median_seconds(call: Callable[[], Any], seconds: float) -> float:
    """The median time of a call, from calls that take so many seconds in all, and three of them."""
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        call()
        times.append(time.perf_counter() - before)
    return float(np.median(times))
