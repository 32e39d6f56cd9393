"""What the parts of the check share: how large they are, trainers in this process, and times."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import jax
from benchmarks.cases import Case
from benchmarks.figures import spread
from benchmarks.tasks import config_of, make_env, make_task
from benchmarks.textbook import make
from benchmarks.worker import repeat

import jaxdrl
from jaxdrl.algorithms.build import build

NUM_SHARDS = 8
T = TypeVar("T")


@dataclass(frozen=True)
class Sizes:
    """How much is done.

    Attributes:
      seconds: of one measurement of a speed.
      rounds: of measurements in turn.
      most_envs: copies of an environment at the most.
      copy_bytes: size of the array whose copy is timed.
      square: size of the matrix product that is timed.
      is_tiny: whether this is to show that everything works: of several cases the first is done,
        and tasks are not trained until they are solved.
    """

    seconds: float = 1.0
    rounds: int = 5
    most_envs: int = 2**18
    copy_bytes: int = 2**30
    square: int = 8192
    is_tiny: bool = False

    def of(self, case: Case) -> Case:
        """The case with so many environments at the most, and steps in proportion."""
        if case.num_envs <= self.most_envs:
            return case
        return replace(case, num_envs=self.most_envs, num_steps=8, num_minibatches=2)

    def some(self, cases: Iterable[T]) -> list[T]:
        """All cases, or the first."""
        return list(cases)[: 1 if self.is_tiny else None]


TINY = Sizes(0.01, 2, 16, 2**20, 64, is_tiny=True)

Part = Callable[[Sizes], dict[str, Any]]


@dataclass(frozen=True)
class Trainer:
    """A trainer that is compiled and warm.

    Attributes:
      run: does so many updates.
      env_steps: of an update.
      compile_seconds: that it took.
    """

    run: Callable[..., Any]
    env_steps: int
    compile_seconds: float

    def speed(self, seconds: float) -> float:
        """Environment steps per second, over about so many seconds."""
        taken, updates = self._time(1), 1
        if taken < seconds:
            updates = max(1, round(seconds / max(taken, 1e-6)))
            taken = self._time(updates)
        return updates * self.env_steps / taken

    def _time(self, updates: int) -> float:
        started = time.perf_counter()
        jax.block_until_ready(self.run(updates))
        return time.perf_counter() - started


def ours(case: Case, **settings: Any) -> Trainer:
    """Jaxdrl on one device."""
    config = jaxdrl.with_settings(config_of(case, NUM_SHARDS), **settings)
    agent = build(make_env(case), config)
    state = jax.jit(agent.init)(jax.random.key(0))
    return _trainer(jaxdrl.jit_step(agent), state, case.env_steps)


def textbook(case: Case) -> Trainer:
    """The textbook on the same work."""
    init, update = make(make_task(case), case)
    state = jax.jit(init)(jax.random.key(0))
    return _trainer(jax.jit(update, donate_argnums=0), state, case.env_steps)


def _trainer(step: Any, state: Any, env_steps: int) -> Trainer:
    started = time.perf_counter()
    compiled = step.lower(state).compile()
    seconds = time.perf_counter() - started
    return Trainer(repeat(compiled, state, 1), env_steps, seconds)


def in_turn(trainers: dict[str, Trainer], sizes: Sizes) -> dict[str, list[float]]:
    """Speeds of several trainers, measured A B A B ..."""
    speeds: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(sizes.rounds):
        for name, trainer in trainers.items():
            speeds[name].append(trainer.speed(sizes.seconds))
    return speeds


def summary(trainer: Trainer, speeds: list[float]) -> dict[str, Any]:
    """A speed and what compiling took, for the results."""
    return {"steps_per_second": spread(speeds), "compile_seconds": trainer.compile_seconds}
