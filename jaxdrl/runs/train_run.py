"""Runs of an experiment: from its config, or on from its last checkpoint, to its result."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console

from jaxdrl.algorithms.training import jit_step
from jaxdrl.config.experiment import Experiment, default_run_dir, resolve
from jaxdrl.core.types import Algorithm, TrainState
from jaxdrl.distributed.mesh import make_mesh
from jaxdrl.envs import Environment
from jaxdrl.evaluation.episodes import Evaluation
from jaxdrl.io.json_files import sealed, write_sealed
from jaxdrl.runs import backend, memory, report
from jaxdrl.runs import checkpoint as checkpoints
from jaxdrl.runs import run_dir as files
from jaxdrl.runs.assemble import (
    Overrides,
    Setup,
    assemble,
    extend,
    idle_words,
    init_state,
    load_learnt,
    load_state,
    put,
    read_stored,
    schedule_words,
)
from jaxdrl.runs.checkpoint_binding import require_logs, require_of_run
from jaxdrl.runs.checkpoint_manager import choose, copy, drop_what_came_after
from jaxdrl.runs.locking import Claim, claim
from jaxdrl.runs.nested import id_of_whole, require_part
from jaxdrl.runs.profiling.breakdown import current_names
from jaxdrl.runs.run_loop import train
from jaxdrl.runs.session import Session
from jaxdrl.runs.trackers import Tracking, require_installed


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


def start(experiment: Experiment, overrides: Overrides, session: Session, finish: Finish) -> Run:
    """A new run within a session."""
    setup, learnt = prepare(experiment, overrides, session)
    return train_new(setup, learnt, session, finish)


def prepare(
    experiment: Experiment, overrides: Overrides, session: Session
) -> tuple[Setup, dict[str, Any] | None]:
    """What a new run is made of, and what it starts with of another run; nothing is written."""
    console, experiment = session.console, resolve(experiment)
    if experiment.run_dir is not None:
        files.require_free(experiment.run_dir)
    require_installed(experiment.track)
    setup = assemble_on_devices(experiment, overrides, console)
    learnt = _load_learnt(setup, session)
    setup = replace(setup, experiment=memory.in_waves(setup))
    if words := idle_words(setup.experiment, setup.overrides):
        console.print(words, soft_wrap=True)
    return setup, learnt


def train_new(setup: Setup, learnt: dict[str, Any] | None, session: Session, finish: Finish) -> Run:
    """Trains a new run, in a directory of its own, to its end."""
    room = memory.plan(setup, session.console)
    with claim_new(setup, session) as (setup, claimed):
        make = partial(init_state, setup, learnt)
        return _train(setup, None, room, session, make, claimed, finish)


@contextlib.contextmanager
def claim_new(setup: Setup, session: Session) -> Iterator[tuple[Setup, Claim]]:
    """The setup with a directory that holds no run and that this process alone writes to.

    Raises:
      ConfigError: if that which is named is not free, or cannot be written.
    """
    run_dir = setup.experiment.run_dir
    if run_dir is None:
        run_dir = files.make_new(default_run_dir(setup.experiment))
    session.run_dir = session.run_dir or run_dir
    with claim(run_dir, session.warn) as claimed:
        files.require_free(run_dir)
        experiment = replace(setup.experiment, run_dir=run_dir)
        origin = files.new_origin(id_of_whole(run_dir))
        yield replace(setup, experiment=experiment, origin=origin), claimed


class Changes(NamedTuple):
    """What `resume` may change about a run; the arguments of that name."""

    devices: int | None = None
    total_env_steps: int | None = None
    keep_schedule: bool = False
    checkpoint: int | str | None = None


def read(run_dir: Path, overrides: Overrides) -> files.StoredRun:
    """The stored run that is to go on, once everything that it needs is there."""
    stored = read_stored(run_dir, overrides, "resume")
    require_installed(stored.experiment.track)
    return stored


def go_on(
    run_dir: Path,
    stored: files.StoredRun,
    overrides: Overrides,
    changes: Changes,
    session: Session,
    finish: Finish,
) -> Run:
    """Goes on with a run from its last checkpoint, within a session."""
    console = session.console
    with claim(run_dir, session.warn) as claimed:
        require_part(run_dir, stored)
        path, manifest = _choose(run_dir, stored, changes.checkpoint, session)
        done = 0 if manifest is None else manifest["update"]
        before = replace(stored.experiment, run_dir=run_dir)
        experiment = extend(before, *changes[:2], done, changes.keep_schedule)
        setup = assemble_on_devices(experiment, overrides, console, stored)
        room = memory.plan(setup, console)
        loaded = load_state(setup, path, stored) if path else None
        learnt = None if path else _load_learnt(setup, session)
        console.print(f"going on from update {done}", f"({path})" if path else "", soft_wrap=True)
        if words := schedule_words(before, experiment, overrides):
            console.print(words, soft_wrap=True)
        for kept in drop_what_came_after(run_dir, done):
            words = "it ended before its first checkpoint and begins again; its lines so far"
            session.warn(f"{words} are kept in {kept}")

        def make_state() -> TrainState:
            return init_state(setup, learnt) if loaded is None else put(setup, loaded)

        return _train(setup, manifest, room, session, make_state, claimed, finish)


def compile_step(setup: Setup, state: TrainState) -> Any:
    """The compiled training step: nothing is compiled after this but the evaluation."""
    copy(state)  # compiles it too, or the first checkpoint would wait for that
    if setup.experiment.debug_nans:  # the state before the update is wanted afterwards
        return jax.jit(setup.algorithm.train_step).lower(state).compile()
    return jit_step(setup.algorithm).lower(state).compile()


def _choose(
    run_dir: Path, stored: files.StoredRun, wanted: int | str | None, session: Session
) -> tuple[Path | None, dict[str, Any] | None]:
    """The checkpoint to go on with; nothing where the run was killed before its first one."""
    directory = run_dir / files.CHECKPOINTS
    has_saved = (run_dir / files.RESULT_FILE).exists() or stored.origin.has_checkpoints
    if wanted is None and not checkpoints.updates_in(directory) and not has_saved:
        return None, None
    check = partial(require_of_run, stored.content)
    path, manifest = choose(directory, wanted, session.warn, check)
    require_logs(run_dir, path, manifest)  # before anything is changed
    return path, manifest


def _load_learnt(setup: Setup, session: Session) -> dict[str, Any] | None:
    from_run = setup.experiment.from_run
    return None if from_run is None else load_learnt(setup, from_run, session.warn)


def assemble_on_devices(
    experiment: Experiment,
    overrides: Overrides,
    console: Console,
    stored: files.StoredRun | None = None,
) -> Setup:
    """`assemble`, with a mesh over the devices that the experiment asks for."""
    # Before gymnax is imported, which starts the backend.
    mesh, words = backend.start(experiment.devices, experiment.algorithm.execution.num_shards)
    console.print(words, soft_wrap=True)
    if overrides.env is None:
        console.print(f"loading {experiment.env}")
    num_devices = int(mesh.devices.size)
    if experiment.sweep is not None:
        along = math.gcd(num_devices, experiment.sweep.num_members)
        mesh = make_mesh(num_devices, population=along)
    experiment = replace(experiment, devices=num_devices)
    return assemble(experiment, overrides, mesh, stored)


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
    session: Session,
    make_state: Callable[[], TrainState],
    claimed: Claim,
    finish: Finish,
) -> Run:
    """Trains to the end and writes `result.json`; `manifest` is that of the state's checkpoint."""
    run_dir = setup.experiment.run_dir
    assert run_dir is not None
    with files.refused_unless_written(run_dir):
        write_sealed(run_dir / files.CONFIG_FILE, report.describe(setup, room[0]))
    # The trackers open while the step is compiled.
    with Tracking(setup.experiment.track, session.trackers, run_dir, session.warn) as tracking:
        state, step, room, compile_seconds = _compile(setup, room, session.console, make_state)
        compiled = state, step, room
        with session.signals.held():
            state, evaluation, seconds = train(
                setup, manifest, compiled, session, tracking.log, claimed
            )
            result = report.summarise(setup, state, evaluation, compile_seconds, seconds)
            result |= finish(session, setup.experiment, state, result)
            result = sealed(result | {"run_id": setup.origin.run_id})
            is_written = report.write_result(session, run_dir, setup.overrides.names, result)
    return Run(run_dir, setup.env, setup.algorithm, state, evaluation, result, is_written)
