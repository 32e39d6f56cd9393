"""The training of a run that is compiled, with its log, checkpoints, trace and progress."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from jaxdrl.core.types import TrainState
from jaxdrl.evaluation.episodes import Evaluation
from jaxdrl.io.json_files import write_sealed
from jaxdrl.runs import memory, report
from jaxdrl.runs import run_dir as files
from jaxdrl.runs.assemble import Setup
from jaxdrl.runs.checkpoint_manager import Saver
from jaxdrl.runs.locking import Claim
from jaxdrl.runs.loop import TrainingLoop
from jaxdrl.runs.metrics_log import MetricsLog
from jaxdrl.runs.nan_finder import find_operation, watched
from jaxdrl.runs.pbt_log import Lineage
from jaxdrl.runs.profiling.tracing import tracer_of
from jaxdrl.runs.progress import ProgressReport
from jaxdrl.runs.run_dir_keeper import Keeper
from jaxdrl.runs.session import Session
from jaxdrl.runs.stopping import NonFiniteError, OutOfMemoryError, RunInterruptedError


def train(
    setup: Setup,
    manifest: dict[str, Any] | None,
    compiled: tuple[TrainState, Any, memory.Room],
    session: Session,
    on_line: Callable[[dict[str, Any]], Any],
    claimed: Claim,
) -> tuple[TrainState, Evaluation, float]:
    """`(last state, last evaluation, seconds of training)` of a run that is compiled.

    Args:
      setup: of the run.
      manifest: of the checkpoint that the state is from, None at the start.
      compiled: the state, the compiled step and what it needs.
      session: whose signals are held back.
      on_line: takes each line of the metrics.
      claimed: of the run directory.
    """
    experiment, (state, step, room) = setup.experiment, compiled
    run_dir = experiment.run_dir
    assert run_dir is not None and setup.mesh is not None
    warn = session.warn
    config = report.describe(setup, room[0])  # with the memory that the compiler has counted
    try:
        write_sealed(run_dir / files.CONFIG_FILE, config)
    except OSError as error:
        warn(f"{error.filename}: could not be written ({error.strerror}); it stays as it was")
    hooks = _hooks(setup, warn)
    log = MetricsLog(
        run_dir / files.METRICS_FILE,
        env_steps_per_update=experiment.algorithm.env_steps_per_update,
        log_every=experiment.log_every,
        num_members=1 if experiment.sweep is None else experiment.sweep.num_members,
        warn=warn,
        on_line=on_line,
        memory=partial(memory.peak, setup.mesh.devices.flat[0]),
        beside=[hook.file for hook in hooks],
    )
    total_env_steps = experiment.num_updates * experiment.algorithm.env_steps_per_update
    saver = Saver(
        run_dir / files.CHECKPOINTS,
        config,
        every=experiment.checkpoint_every,
        minutes=experiment.checkpoint_minutes,
        keep=experiment.keep_checkpoints,
        warn=warn,
        keeper=Keeper(run_dir, config, claimed, warn),
    )
    done = 0 if manifest is None else manifest["update"]
    tracer = tracer_of(experiment, setup.algorithm.stages, session, step, done)
    if experiment.debug_nans:
        step = watched(step, partial(find_operation, setup.on_one_device()))
    first = done * experiment.algorithm.env_steps_per_update
    progress = ProgressReport(session.console, total_env_steps, first)
    with saver, progress:
        loop = TrainingLoop(setup, log, saver, session, progress, tracer, hooks)
        try:
            state, evaluation = loop.run(state, step, manifest)
        except NonFiniteError as error:
            raise NonFiniteError(f"{error}. {report.last_good(saver, run_dir)}") from error
        except jax.errors.JaxRuntimeError as error:
            if not memory.is_out_of_memory(error):
                raise
            raise OutOfMemoryError(report.no_room(setup, *room, error)) from error
        finally:
            log.finish()
    if evaluation is None:
        name = session.signals.name
        assert name is not None
        words = f"{name}: stopped after update {loop.done} of {experiment.num_updates}. "
        code = 0 if saver.last_update is not None else 128 + signal.Signals[name]
        raise RunInterruptedError(words + report.how_to_go_on(saver, setup), code)
    return state, evaluation, loop.seconds


def _hooks(setup: Setup, warn: Callable[[str], Any]) -> list[Lineage]:
    """What looks at every update of this kind of run."""
    sweep, run_dir = setup.experiment.sweep, setup.experiment.run_dir
    if sweep is None or not sweep.pbt:
        return []
    assert run_dir is not None
    return [Lineage(run_dir, sweep.ranges, sweep.pbt_every, warn)]
