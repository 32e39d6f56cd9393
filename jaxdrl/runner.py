"""Runs of an experiment: from its config, or on from its last checkpoint, to its result."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from flax import linen as nn
from rich.console import Console

from jaxdrl import backend, memory, reports
from jaxdrl import checkpoint as checkpoints
from jaxdrl import run_dir as files
from jaxdrl.binding import require_logs, require_of_run
from jaxdrl.checks import Count, checked
from jaxdrl.envs import Environment
from jaxdrl.evaluation import Evaluation
from jaxdrl.experiment import Experiment, default_run_dir, resolve
from jaxdrl.json_files import sealed, write_sealed
from jaxdrl.keys import pinned
from jaxdrl.locking import Claim, claim
from jaxdrl.mesh import make_mesh
from jaxdrl.profiling import current_names
from jaxdrl.run_loop import train
from jaxdrl.saving import choose, copy, drop_what_came_after
from jaxdrl.session import OnUpdate, Session, open_session
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
from jaxdrl.sweep_parts import folder_of, id_of_whole, require_part
from jaxdrl.tracking import Tracker, Tracking, require_installed
from jaxdrl.training import compile
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
      is_written: whether that file could be written.
    """

    run_dir: Path
    env: Environment
    algorithm: Algorithm
    state: TrainState
    evaluation: Evaluation
    result: dict[str, Any]
    is_written: bool = True


@checked
@pinned()
def run(
    experiment: Experiment,
    *,
    env: Environment | None = None,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    trackers: Sequence[Tracker] = (),
    quiet: bool = False,
    on_update: OnUpdate | None = None,
) -> Run:
    """Trains, evaluates, and writes a run directory with checkpoints on the way.

    Args:
      experiment: what to do.
      env: an environment of your own in place of the one that `experiment.env` names.
      network: as in `jaxdrl.ppo`.
      optimizer: as in `jaxdrl.ppo`.
      trackers: what takes the lines of `metrics.jsonl` beside the trackers that `experiment.track`
        names, see `jaxdrl.tracking.Tracker`; none can stop the run.
      quiet: print nothing but warnings.
      on_update: called after each update with its number and its metrics: those of a line of
        `metrics.jsonl`, of this update alone, without speed and memory; lists for the members of a
        sweep. Where it returns true, the run ends after the update that is being computed, with an
        evaluation, a checkpoint and its result; `resume` goes on to its full length. What it
        raises comes through once the state is saved. In a sweep of parts it ends one part.

    Raises:
      ConfigError: for input that cannot work, before anything is compiled or written.
      RunInterruptedError: after SIGINT, SIGTERM or SIGHUP; with a checkpoint saved, unless it came
        before the first update, or twice.
      BadNumbersError: if nothing finite was left to learn from.
      OutOfMemoryError: if the devices had no room for it while it trained.
    """
    given = Given(env, network, optimizer)
    caller: dict[str, Any] = {"trackers": trackers, "on_update": on_update, "quiet": quiet}
    with open_session(experiment.run_dir, given.names, **caller) as session:
        return start(experiment, given, session)


def start(experiment: Experiment, given: Given, session: Session) -> Run:
    """`run` within a session."""
    console, experiment = session.console, resolve(experiment)
    if experiment.run_dir is not None:
        files.require_free(experiment.run_dir)
    require_installed(experiment.track)
    setup = assemble_on_devices(experiment, given, console)
    learnt = _load_learnt(setup, session)
    setup = replace(setup, experiment=memory.in_waves(setup))
    if words := idle_words(setup.experiment, setup.given):
        console.print(words, soft_wrap=True)
    if folder_of(setup.experiment.sweep) is not None:
        from jaxdrl import sweep_runs  # which trains each part by the functions of this module

        return sweep_runs.run(setup, session)
    room = memory.plan(setup, console)
    with claim_new(setup, session) as (setup, claimed):
        make = partial(init_state, setup, learnt)
        return _train(setup, None, room, session, make, claimed)


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


@checked
@pinned()
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
    quiet: bool = False,
    on_update: OnUpdate | None = None,
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
      quiet: as in `jaxdrl.run`.
      on_update: likewise.

    Raises:
      ConfigError: if there is nothing to go on with or it does not fit, naming what and what to do.
      RunInterruptedError: as in `jaxdrl.run`.
      BadNumbersError: likewise.
      OutOfMemoryError: likewise.
    """
    run_dir, given = Path(run_dir), Given(env, network, optimizer)
    changes = Changes(devices, total_env_steps, keep_schedule, checkpoint)
    caller: dict[str, Any] = {"trackers": trackers, "on_update": on_update, "quiet": quiet}
    with open_session(run_dir, given.names, **caller) as session:
        return go_on(run_dir, given, changes, session)


class Changes(NamedTuple):
    """What `resume` may change about a run; the arguments of that name."""

    devices: int | None = None
    total_env_steps: int | None = None
    keep_schedule: bool = False
    checkpoint: int | str | None = None


def go_on(run_dir: Path, given: Given, changes: Changes, session: Session) -> Run:
    """`resume` within a session."""
    console = session.console
    stored = read_stored(run_dir, given, "resume")
    require_installed(stored.experiment.track)
    if folder_of(stored.experiment.sweep) is not None:
        from jaxdrl import sweep_runs

        return sweep_runs.resume(run_dir, stored, given, changes, session)
    with claim(run_dir, session.warn) as claimed:
        require_part(run_dir, stored)
        path, manifest = _choose(run_dir, stored, changes.checkpoint, session)
        done = 0 if manifest is None else manifest["update"]
        before = replace(stored.experiment, run_dir=run_dir)
        experiment = lengthen(before, *changes[:2], done, changes.keep_schedule)
        setup = assemble_on_devices(experiment, given, console, stored)
        room = memory.plan(setup, console)
        loaded = load_state(setup, path, stored) if path else None
        learnt = None if path else _load_learnt(setup, session)
        console.print(f"going on from update {done}", f"({path})" if path else "", soft_wrap=True)
        if words := schedule_words(before, experiment, given):
            console.print(words, soft_wrap=True)
        for kept in drop_what_came_after(run_dir, done):
            words = "it ended before its first checkpoint and begins again; its lines so far"
            session.warn(f"{words} are kept in {kept}")

        def make_state() -> TrainState:
            return init_state(setup, learnt) if loaded is None else put(loaded, setup.mesh)

        return _train(setup, manifest, room, session, make_state, claimed)


def compile_step(setup: Setup, state: TrainState) -> Any:
    """The compiled training step: nothing is compiled after this but the evaluation."""
    copy(state)  # compiles it too, or the first checkpoint would wait for that
    if setup.experiment.debug_nans:  # the state before the update is wanted afterwards
        return jax.jit(setup.algorithm.train_step).lower(state).compile()
    return compile(setup.algorithm).lower(state).compile()


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
    session: Session,
    make_state: Callable[[], TrainState],
    claimed: Claim,
) -> Run:
    """Trains to the end and writes `result.json`; `manifest` is that of the state's checkpoint."""
    run_dir = setup.experiment.run_dir
    assert run_dir is not None
    with files.refused_unless_written(run_dir):
        write_sealed(run_dir / files.CONFIG_FILE, reports.describe(setup, room[0]))
    # The trackers open while the step is compiled.
    with Tracking(setup.experiment.track, session.trackers, run_dir, session.warn) as tracking:
        state, step, room, compile_seconds = _compile(setup, room, session.console, make_state)
        compiled = state, step, room
        with session.signals.held():
            state, evaluation, seconds = train(
                setup, manifest, compiled, session, tracking.log, claimed
            )
            result = reports.summarise(setup, state, evaluation, compile_seconds, seconds)
            result |= reports.rank_members(session, setup.experiment, state, result)
            result = sealed(result | {"run_id": setup.origin.run_id})
            is_written = reports.write_result(session, run_dir, setup.given.names, result)
    return Run(run_dir, setup.env, setup.algorithm, state, evaluation, result, is_written)
