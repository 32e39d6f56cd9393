"""Runs of an experiment: from its config, or on from its last checkpoint, to its result."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
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
from jaxdrl.checks import Count, checked
from jaxdrl.console import make_console, warner
from jaxdrl.debugging import find_operation, watched
from jaxdrl.envs import Environment
from jaxdrl.evaluation import Evaluation
from jaxdrl.experiment import Experiment, default_run_dir, resolve
from jaxdrl.json_files import write_json
from jaxdrl.lineage import Lineage
from jaxdrl.locking import claim
from jaxdrl.loop import TrainingLoop
from jaxdrl.mesh import make_mesh
from jaxdrl.metrics import MetricsLog
from jaxdrl.profiling import current_names
from jaxdrl.progress import ProgressReport
from jaxdrl.saving import Saver, choose, copy, drop_what_came_after
from jaxdrl.setup import (
    Given,
    Setup,
    assemble,
    idle_words,
    init_state,
    lengthen,
    load_learnt,
    load_state,
    put,
    read_stored,
    schedule_words,
)
from jaxdrl.stops import BadNumbersError, OutOfMemoryError, RunInterruptedError, Signals
from jaxdrl.sweep_parts import folder_of
from jaxdrl.tracing import tracer_of
from jaxdrl.tracking import Tracker, Tracking, require_installed
from jaxdrl.training import Hook, compile
from jaxdrl.types import Algorithm, Network, TrainState


@dataclass(frozen=True)
class Run:
    """What `jaxdrl.run` and `jaxdrl.resume` give back, for a notebook.

    Of a sweep in waves or trials it is the best member, as `jaxdrl.restore` gives it.

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


@checked
def run(
    experiment: Experiment,
    *,
    env: Environment | None = None,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    trackers: Sequence[Tracker] = (),
) -> Run:
    """Trains, evaluates, and writes a run directory with checkpoints on the way.

    Args:
      experiment: what to do.
      env: an environment of your own in place of the one that `experiment.env` names.
      network: as in `jaxdrl.ppo`.
      optimizer: as in `jaxdrl.ppo`.
      trackers: what takes the lines of `metrics.jsonl` beside the trackers that `experiment.track`
        names, see `jaxdrl.tracking.Tracker`; none can stop the run.

    Raises:
      ConfigError: for input that cannot work, before anything is compiled or written.
      RunInterruptedError: after SIGTERM or SIGINT, with a checkpoint saved.
      BadNumbersError: if nothing finite was left to learn from.
      OutOfMemoryError: if the devices had no room for it while it trained.
    """
    console = make_console()
    experiment = resolve(experiment)
    if experiment.run_dir is not None:
        files.require_free(experiment.run_dir)
    require_installed(experiment.track)
    setup = assemble_on_devices(experiment, Given(env, network, optimizer), console)
    learnt = _load_learnt(setup)
    setup = replace(setup, experiment=memory.in_waves(setup))
    if words := idle_words(setup.experiment, setup.given):
        console.print(words, soft_wrap=True)
    if folder_of(setup.experiment.sweep) is not None:
        from jaxdrl import sweep_runs  # which trains each part by the functions of this module

        return sweep_runs.run(setup, console, trackers)
    room = memory.plan(setup, console)
    with claimed(setup) as setup:
        return _train(setup, None, room, console, trackers, lambda: init_state(setup, learnt))


@contextlib.contextmanager
def claimed(setup: Setup) -> Iterator[Setup]:
    """The setup with a directory that holds no run and that this process alone writes to.

    Raises:
      ConfigError: if that which is named is not free, or cannot be written.
    """
    run_dir = setup.experiment.run_dir
    if run_dir is None:
        run_dir = files.make_new(default_run_dir(setup.experiment))
    with claim(run_dir):
        files.require_free(run_dir)
        yield replace(setup, experiment=replace(setup.experiment, run_dir=run_dir))


@checked
def resume(
    run_dir: Path | str,
    *,
    devices: Count | None = None,
    total_env_steps: Count | None = None,
    keep_schedule: bool = False,
    checkpoint: int | str | None = None,
    env: Environment | None = None,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    trackers: Sequence[Tracker] = (),
) -> Run:
    """Goes on with a run as if nothing had happened, from its last sound checkpoint.

    Args:
      run_dir: directory of the run.
      devices: another number of devices than before; None keeps it.
      total_env_steps: to go further than the run was meant to; None keeps its length. A learning
        rate that is annealed over the length of the run is annealed over the new one then.
      keep_schedule: anneal it over the length from before instead.
      checkpoint: the update of an earlier checkpoint, or "best"; what came after it is dropped.
      env: as in `jaxdrl.run`, for a run that was given one.
      network: likewise.
      optimizer: likewise.
      trackers: as in `jaxdrl.run`; those that the config names go on by themselves.

    Raises:
      ConfigError: if there is nothing to go on with or it does not fit, naming what and what to do.
      RunInterruptedError: as in `jaxdrl.run`.
      BadNumbersError: likewise.
      OutOfMemoryError: likewise.
    """
    console = make_console()
    run_dir, given = Path(run_dir), Given(env, network, optimizer)
    stored = read_stored(run_dir, given, "resume")
    require_installed(stored.experiment.track)
    if folder_of(stored.experiment.sweep) is not None:
        from jaxdrl import sweep_runs

        changes = {
            "devices": devices,
            "total_env_steps": total_env_steps,
            "keep_schedule": keep_schedule,
        }
        return sweep_runs.resume(run_dir, stored, given, changes, checkpoint, console, trackers)
    with claim(run_dir):
        path, manifest = _choose(run_dir, checkpoint, console)
        done = 0 if manifest is None else manifest["update"]
        before = replace(stored.experiment, run_dir=run_dir)
        experiment = lengthen(before, devices, total_env_steps, done, keep_schedule)
        setup = assemble_on_devices(experiment, given, console, stored)
        room = memory.plan(setup, console)
        loaded = load_state(setup, path, stored) if path else None
        learnt = None if path else _load_learnt(setup)
        console.print(f"going on from update {done}", f"({path})" if path else "", soft_wrap=True)
        if words := schedule_words(before, experiment, given):
            console.print(words, soft_wrap=True)
        drop_what_came_after(run_dir, done)

        def make_state() -> TrainState:
            return init_state(setup, learnt) if loaded is None else put(loaded, setup.mesh)

        return _train(setup, manifest, room, console, trackers, make_state)


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
    is_finished = (run_dir / files.RESULT_FILE).exists()
    if wanted is None and not checkpoints.updates_in(directory) and not is_finished:
        return None, None
    files.read_metrics(run_dir)  # refused, where they are damaged, before anything is changed
    return choose(directory, wanted, warner(console))


def _load_learnt(setup: Setup) -> dict[str, Any] | None:
    from_run = setup.experiment.from_run
    return None if from_run is None else load_learnt(setup, from_run)


def assemble_on_devices(
    experiment: Experiment, given: Given, console: Console, stored: files.StoredRun | None = None
) -> Setup:
    """`assemble`, with a mesh over the devices that the experiment asks for."""
    # Before gymnax is imported, which starts the backend.
    mesh, words = backend.start(experiment.devices, experiment.ppo.num_shards)
    console.print(words, soft_wrap=True)
    if given.env is None:
        console.print(f"loading {experiment.env}")
    num_devices = int(mesh.devices.size)
    if experiment.sweep is not None:
        along = math.gcd(num_devices, experiment.sweep.num_members)
        mesh = make_mesh(num_devices, population=along)
    experiment = replace(experiment, devices=num_devices)
    return assemble(experiment, given, mesh, stored)


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
    trackers: Sequence[Tracker],
    make_state: Callable[[], TrainState],
) -> Run:
    """Trains to the end and writes `result.json`; `manifest` is that of the state's checkpoint."""
    run_dir = setup.experiment.run_dir
    assert run_dir is not None
    write_json(run_dir / files.CONFIG_FILE, reports.describe(setup, room[0]))
    warn = warner(console)
    # The trackers open while the step is compiled.
    with Tracking(setup.experiment.track, trackers, run_dir, warn) as tracking:
        state, step, room, compile_seconds = _compile(setup, room, console, make_state)
        compiled = state, step, room
        state, evaluation, seconds = _go_on(setup, manifest, compiled, console, tracking.log)
        result = reports.summarise(setup, state, evaluation, compile_seconds, seconds)
        result |= reports.rank_members(console, setup.experiment, state, result)
        write_json(run_dir / files.RESULT_FILE, result)
    reports.print_result(console, run_dir, result)
    return Run(run_dir, setup.env, setup.algorithm, state, evaluation, result)


def _go_on(
    setup: Setup,
    manifest: dict[str, Any] | None,
    compiled: tuple[TrainState, Any, memory.Room],
    console: Console,
    on_line: Callable[[dict[str, Any]], Any],
) -> tuple[TrainState, Evaluation, float]:
    """`(last state, last evaluation, seconds of training)` of a run that is compiled."""
    experiment, (state, step, room) = setup.experiment, compiled
    run_dir = experiment.run_dir
    assert run_dir is not None and setup.mesh is not None
    warn = warner(console)
    config = reports.describe(setup, room[0])  # with the memory that the compiler has counted
    write_json(run_dir / files.CONFIG_FILE, config)
    log = MetricsLog(
        run_dir / files.METRICS_FILE,
        env_steps_per_update=experiment.ppo.env_steps_per_update,
        log_every=experiment.log_every,
        num_members=1 if experiment.sweep is None else experiment.sweep.num_members,
        warn=warn,
        on_line=on_line,
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
        hooks = _hooks(setup, done, warn)
        loop = TrainingLoop(setup, log, saver, signals, progress, tracer, hooks)
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
    return state, evaluation, loop.seconds


def _hooks(setup: Setup, done: int, warn: Callable[[str], Any]) -> list[Hook]:
    """What looks at every update of this kind of run."""
    sweep, run_dir = setup.experiment.sweep, setup.experiment.run_dir
    if sweep is None or not sweep.pbt:
        return []
    assert run_dir is not None
    return [Lineage(run_dir, sweep.ranges, sweep.pbt_every, done, warn)]
