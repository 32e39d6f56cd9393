"""The training of a planned run, from its `config.json` to its `result.json`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxdrl.actors.step import compile_learn
from jaxdrl.algorithms.training import jit_step
from jaxdrl.config.experiment import Experiment
from jaxdrl.core.types import Algorithm, TrainState
from jaxdrl.envs import Environment
from jaxdrl.evaluation.episodes import Evaluation
from jaxdrl.io.console import working
from jaxdrl.io.json_files import sealed, write_sealed
from jaxdrl.runs import memory, report
from jaxdrl.runs import run_dir as files
from jaxdrl.runs.actors import acting, compile_acting
from jaxdrl.runs.assemble import Setup, init_state
from jaxdrl.runs.loop import TrainingLoop
from jaxdrl.runs.memory import MemoryBudget
from jaxdrl.runs.nan_finder import find_operation, watched
from jaxdrl.runs.overseer import Overseer
from jaxdrl.runs.profiling.breakdown import current_names
from jaxdrl.runs.recorder import recording
from jaxdrl.runs.session import Session
from jaxdrl.runs.staging import copy, to_copy
from jaxdrl.runs.trackers import Tracking


@dataclass(frozen=True)
class Run:
    """What `jaxdrl.run` and `jaxdrl.resume` return, for a notebook.

    For a sweep in waves or trials it is the best member, as `jaxdrl.restore` gives it.

    Attributes:
      run_dir: where the files are.
      env: the environment.
      algorithm: the trained algorithm.
      state: its last state.
      evaluation: the last evaluation.
      result: content of `result.json`.
      is_written: whether that file could be written.
    """

    run_dir: Path
    env: Environment
    algorithm: Algorithm
    state: TrainState
    evaluation: Evaluation
    result: dict[str, Any]
    is_written: bool = True


Finish = Callable[[Session, Experiment, Any, dict[str, Any]], dict[str, Any]]
"""`(session, experiment, last state, result) -> more of the result`, once a run is done."""


@dataclass(frozen=True)
class Compiled:
    """A compiled training step.

    Attributes:
      step: `(state) -> (state, metrics)`, as JAX compiles it; `learn` where there are actors.
      memory: what the run needs, by the compiler's count.
      seconds: that compiling took.
    """

    step: Any
    memory: MemoryBudget
    seconds: float


def train(setup: Setup, session: Session, finish: Finish) -> Run:
    """Trains a planned run to its end, and writes `result.json`."""
    experiment, run_dir = setup.experiment, setup.run_dir
    assert setup.memory is not None
    # Before compiling, which takes long: a run that is killed meanwhile can be resumed.
    hosts = session.hosts
    with hosts.refusing(), files.refused_unless_written(run_dir):
        if hosts.is_first:
            write_sealed(run_dir / files.CONFIG_FILE, report.describe(setup, setup.memory))
    if hosts.peers is not None and hosts.is_first:
        hosts.peers.on_look = Overseer(hosts, run_dir, experiment.stuck_after).look
    track = experiment.track if hosts.is_first else ()
    # The trackers open while the step is compiled.
    with Tracking(track, session.trackers, run_dir, session.warn) as tracking:
        state, compiled = compile_run(setup, session)
        hosts.gather("compiled", True)  # what one of them refuses is refused here by all
        with session.signals.held():
            with (
                recording(setup, compiled.step, compiled.memory, session, tracking.log) as record,
                stepping(setup, compiled.step, session) as step,
            ):
                state, evaluation = TrainingLoop(setup, record, session).run(state, step)
            seconds = compiled.seconds, record.stopwatch.seconds
            result = report.summarise(setup, state, evaluation, *seconds)
            result |= finish(session, experiment, state, result)
            result = sealed(result | {"run_id": setup.origin.run_id})
            is_written = not hosts.is_first or report.write_result(
                session, run_dir, setup.overrides.names, result
            )
    return Run(run_dir, setup.env, setup.algorithm, state, evaluation, result, is_written)


def compile_run(setup: Setup, session: Session) -> tuple[TrainState, Compiled]:
    """`(first state, compiled step)` of a planned run.

    Raises:
      ConfigError: if it needs more memory than is free, by the compiler's count.
    """
    assert setup.memory is not None
    started, console = time.perf_counter(), session.console
    session.hosts.status.phase = "compiling"
    with working(console, "compiling"), current_names(setup.experiment.profile):
        state = init_state(setup)
        step = compile_step(setup, state)
    seconds = time.perf_counter() - started
    console.print(f"compiled in {seconds:.1f} s")
    counted = memory.count(setup.memory, step)
    memory.check(setup.experiment, counted)
    return state, Compiled(step, counted, seconds)


def compile_step(setup: Setup, state: TrainState) -> Any:
    """The compiled training step: nothing is compiled after this but the evaluation."""
    copy(to_copy(state))  # compiles it too, or the first checkpoint would wait for that
    if setup.actor_devices:
        learn = compile_learn(setup.algorithm, state, setup.mesh)
        compile_acting(setup, state)
        return learn
    if setup.experiment.debug_nans:  # the state before the update is wanted afterwards
        return jax.jit(setup.algorithm.train_step).lower(state).compile()
    return jit_step(setup.algorithm).lower(state).compile()


def stepping(setup: Setup, step: Any, session: Session) -> AbstractContextManager[Any]:
    """The step of the loop: the compiled one, or one that takes what actors collect."""
    if setup.actor_devices:
        return acting(setup, step, session)
    return nullcontext(_watched(setup, step))


def _watched(setup: Setup, step: Any) -> Any:
    """`step`, which finds the operation that made the first NaN where that is wanted."""
    if not setup.experiment.debug_nans:
        return step
    return watched(step, partial(find_operation, setup.on_one_device()))
