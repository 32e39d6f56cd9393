"""Runs of an experiment: from its config, or on from its last checkpoint, to its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import optax
from flax import linen as nn
from rich.console import Console

from jaxdrl import backend, memory, reports
from jaxdrl import checkpoint as checkpoints
from jaxdrl import run_dir as files
from jaxdrl.config import ConfigError, require_count, require_divisor
from jaxdrl.debugging import find_operation, watched
from jaxdrl.envs import Environment
from jaxdrl.evaluation import Evaluation
from jaxdrl.experiment import Experiment, default_run_dir, resolve
from jaxdrl.loop import TrainingLoop
from jaxdrl.metrics import MetricsLog
from jaxdrl.profiling import current_names
from jaxdrl.progress import ProgressReport
from jaxdrl.saving import Saver, choose, copy
from jaxdrl.setup import (
    Given,
    Setup,
    assemble,
    init_state,
    load_learnt,
    load_state,
    read_stored,
)
from jaxdrl.sharding import place
from jaxdrl.stops import BadNumbersError, OutOfMemoryError, RunInterruptedError, Signals
from jaxdrl.tracing import tracer_of
from jaxdrl.training import compile
from jaxdrl.types import Algorithm, Network, TrainState


@dataclass(frozen=True)
class Run:
    """What `jaxdrl.run` and `jaxdrl.resume` give back, for a notebook.

    Attributes:
      run_dir: where the files are.
      env: the environment.
      algorithm: the trained algorithm.
      state: its last state.
      evaluation: the last evaluation.
      result: content of `result.json`.
    """

    run_dir: Path
    env: Environment
    algorithm: Algorithm
    state: TrainState
    evaluation: Evaluation
    result: dict[str, Any]


def run(
    experiment: Experiment,
    *,
    env: Environment | None = None,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
) -> Run:
    """Trains, evaluates, and writes a run directory with checkpoints on the way.

    Args:
      experiment: what to do.
      env: an environment of your own in place of the one that `experiment.env` names.
      network: as in `jaxdrl.ppo`.
      optimizer: as in `jaxdrl.ppo`.

    Raises:
      ConfigError: for input that cannot work, before anything is compiled or written.
      RunInterruptedError: after SIGTERM or SIGINT, with a checkpoint saved.
      BadNumbersError: if nothing finite was left to learn from.
      OutOfMemoryError: if the devices had no room for it while it trained.
    """
    console = Console(highlight=False)
    run_dir = Path(experiment.run_dir or default_run_dir(experiment))
    experiment = replace(resolve(experiment), run_dir=run_dir)
    files.require_free(run_dir)
    setup = _assemble(experiment, Given(env, network, optimizer), console)
    learnt = _load_learnt(setup)
    room = memory.plan(setup, console)
    with files.claim(run_dir):
        files.require_free(run_dir)
        files.write_json(run_dir / files.CONFIG_FILE, reports.describe(setup, room[0]))
        return _train(setup, None, room, console, lambda: init_state(setup, learnt))


def resume(
    run_dir: Path | str,
    *,
    devices: int | None = None,
    total_env_steps: int | None = None,
    checkpoint: int | str | None = None,
    env: Environment | None = None,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
) -> Run:
    """Goes on with a run as if nothing had happened, from its last sound checkpoint.

    Args:
      run_dir: directory of the run.
      devices: another number of devices than before; None keeps it.
      total_env_steps: to go further than the run was meant to; None keeps its length.
      checkpoint: the update of an earlier checkpoint, or "best"; what came after it is dropped.
      env: as in `jaxdrl.run`, for a run that was given one.
      network: likewise.
      optimizer: likewise.

    Raises:
      ConfigError: if there is nothing to go on with or it does not fit, naming what and what to do.
      RunInterruptedError: as in `jaxdrl.run`.
      BadNumbersError: likewise.
      OutOfMemoryError: likewise.
    """
    console = Console(highlight=False)
    run_dir, given = Path(run_dir), Given(env, network, optimizer)
    stored = read_stored(run_dir, given, "resume")
    with files.claim(run_dir):
        path, manifest = _choose(run_dir, checkpoint, console)
        done = 0 if manifest is None else manifest["update"]
        experiment = replace(stored.experiment, run_dir=run_dir)
        experiment = _lengthen(experiment, devices, total_env_steps, done)
        setup = _assemble(experiment, given, console, stored)
        room = memory.plan(setup, console)
        loaded = load_state(setup, path, stored) if path else None
        learnt = None if path else _load_learnt(setup)
        console.print(f"going on from update {done}", f"({path})" if path else "", soft_wrap=True)
        _drop_what_came_after(run_dir, done)
        files.write_json(run_dir / files.CONFIG_FILE, reports.describe(setup, room[0]))

        def make_state() -> TrainState:
            return init_state(setup, learnt) if loaded is None else place(loaded, setup.mesh)

        return _train(setup, manifest, room, console, make_state)


def compile_step(setup: Setup, state: TrainState) -> Any:
    """The compiled training step: nothing is compiled after this but the evaluation."""
    copy(state)  # compiles it too, or the first checkpoint would wait for that
    if setup.experiment.debug_nans:  # the state before the update is wanted afterwards
        return jax.jit(setup.algorithm.train_step).lower(state).compile()
    return compile(setup.algorithm).lower(state).compile()


def _choose(
    run_dir: Path, wanted: int | str | None, console: Console
) -> tuple[Path | None, dict[str, Any] | None]:
    """The checkpoint to go on with; nothing where the run was killed before its first one."""
    directory = run_dir / files.CHECKPOINTS
    if wanted is None and not checkpoints.updates_in(directory):
        return None, None
    return choose(directory, wanted, lambda message: _warn(console, message))


def _load_learnt(setup: Setup) -> dict[str, Any] | None:
    from_run = setup.experiment.from_run
    return None if from_run is None else load_learnt(setup, from_run)


def _assemble(
    experiment: Experiment, given: Given, console: Console, stored: files.StoredRun | None = None
) -> Setup:
    # Before gymnax is imported, which starts the backend.
    mesh, words = backend.start(experiment.devices, experiment.ppo.num_shards)
    console.print(words, soft_wrap=True)
    if given.env is None:
        console.print(f"loading {experiment.env}")
    experiment = replace(experiment, devices=int(mesh.devices.size))
    return assemble(experiment, given, mesh, stored)


def _lengthen(
    experiment: Experiment, devices: int | None, total_env_steps: int | None, done: int
) -> Experiment:
    """The experiment with what `resume` changes, unless it is at its end already."""
    if devices is not None:
        require_count("devices", devices)
        require_divisor("devices", devices, experiment.ppo.num_shards)
        experiment = replace(experiment, devices=devices)
    if total_env_steps is not None:
        experiment = replace(experiment, total_env_steps=total_env_steps)
    is_finished = (experiment.run_dir / files.RESULT_FILE).exists()  # type: ignore[operator]
    steps = done * experiment.ppo.env_steps_per_update
    if done > experiment.num_updates or (done == experiment.num_updates and is_finished):
        field = f"total_env_steps = {experiment.total_env_steps}"
        works = f"--total-env-steps M with M above {steps} goes further"
        raise ConfigError(f"run_dir = {str(experiment.run_dir)!r}: {field} is done; {works}")
    return experiment


def _drop_what_came_after(run_dir: Path, update: int) -> None:
    """Removes the result and later checkpoints: they will come again, or are damaged."""
    directory = run_dir / files.CHECKPOINTS
    checkpoints.remove_unfinished(directory)
    for later in checkpoints.updates_in(directory):
        if later > update:
            checkpoints.remove(directory, later)
    (run_dir / files.RESULT_FILE).unlink(missing_ok=True)
    if update == 0:
        (run_dir / files.METRICS_FILE).unlink(missing_ok=True)


def _compile(
    setup: Setup, room: memory.Room, console: Console, make_state: Callable[[], TrainState]
) -> tuple[TrainState, Any, memory.Room, float]:
    """`(state, step, room by the compiler's count, seconds)`."""
    started = time.perf_counter()
    with console.status("compiling"), current_names(setup.experiment.profile):
        state = make_state()
        step = compile_step(setup, state)
    seconds = time.perf_counter() - started
    console.print(f"compiled in {seconds:.1f} s")
    needs, free = memory.count(room[0], step), room[1]
    memory.check(setup, needs, free)
    return state, step, (needs, free), seconds


def _train(
    setup: Setup,
    manifest: dict[str, Any] | None,
    room: memory.Room,
    console: Console,
    make_state: Callable[[], TrainState],
) -> Run:
    """Trains to the end and writes `result.json`; `manifest` is that of the state's checkpoint."""
    experiment = setup.experiment
    run_dir = experiment.run_dir
    assert run_dir is not None and setup.mesh is not None
    state, step, room, compile_seconds = _compile(setup, room, console, make_state)
    config = reports.describe(setup, room[0])
    files.write_json(run_dir / files.CONFIG_FILE, config)

    def warn(message: str) -> None:
        _warn(console, message)

    log = MetricsLog(
        run_dir / files.METRICS_FILE,
        env_steps_per_update=experiment.ppo.env_steps_per_update,
        log_every=experiment.log_every,
        warn=warn,
        memory=partial(memory.peak, setup.mesh.devices.flat[0]),
    )
    total_env_steps = experiment.num_updates * experiment.ppo.env_steps_per_update
    saver = Saver(
        run_dir / files.CHECKPOINTS,
        config,
        every=experiment.checkpoint_every,
        minutes=experiment.checkpoint_minutes,
        keep=experiment.keep_checkpoints,
        warn=warn,
    )
    done = 0 if manifest is None else manifest["update"]
    tracer = tracer_of(experiment, console, step, done)
    if experiment.debug_nans:
        step = watched(step, partial(find_operation, setup.on_one_device()))
    progress = ProgressReport(console, total_env_steps, done * experiment.ppo.env_steps_per_update)
    with Signals() as signals, saver, progress:
        loop = TrainingLoop(setup, log, saver, signals, progress, tracer)
        try:
            state, evaluation = loop.run(state, step, manifest)
        except BadNumbersError as error:
            raise BadNumbersError(f"{error}. {reports.last_good(saver, run_dir)}") from error
        except jax.errors.JaxRuntimeError as error:
            if not memory.is_out_of_memory(error):
                raise
            raise OutOfMemoryError(reports.no_room(setup, *room, error)) from error
    if signals.name is not None and evaluation is None:
        raise RunInterruptedError(
            f"{signals.name}: stopped after update {loop.done} of {experiment.num_updates}. "
            f"{reports.how_to_go_on(saver, setup)}"
        )
    result = reports.summarise(setup, state, evaluation, compile_seconds, loop.seconds)
    files.write_json(run_dir / files.RESULT_FILE, result)
    reports.print_result(console, run_dir, result)
    return Run(run_dir, setup.env, setup.algorithm, state, evaluation, result)


def _warn(console: Console, message: str) -> None:
    console.print(f"[yellow]warning:[/yellow] {message}", soft_wrap=True)
