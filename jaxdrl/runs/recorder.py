"""What a run records with while it trains, and what it says of errors that end it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax

from jaxdrl.algorithms.training import Hook
from jaxdrl.config.experiment import Experiment
from jaxdrl.errors import ActorError
from jaxdrl.runs import memory, report
from jaxdrl.runs import run_dir as files
from jaxdrl.runs.assemble import Setup
from jaxdrl.runs.checkpoint_manager import Saver
from jaxdrl.runs.exports import Exports
from jaxdrl.runs.memory import MemoryBudget
from jaxdrl.runs.metrics_log import MetricsLog
from jaxdrl.runs.pbt_log import Lineage
from jaxdrl.runs.profiling.tracer import Tracer, tracer_of
from jaxdrl.runs.progress import ProgressReport
from jaxdrl.runs.run_dir_keeper import Keeper
from jaxdrl.runs.session import Session
from jaxdrl.runs.stopping import NonFiniteError, OutOfMemoryError, RunInterruptedError
from jaxdrl.runs.stopwatch import Stopwatch


@dataclass(frozen=True)
class Recorder:
    """What a run records with while it trains.

    Attributes:
      log: writes `metrics.jsonl`.
      saver: writes checkpoints.
      progress: shows how far the run is.
      tracer: traces some updates, None where that is not wanted.
      hooks: what else looks at every update, such as the log of a population.
      stopwatch: counts the seconds of training.
      memory: gives the peak use of memory in bytes.
    """

    log: MetricsLog
    saver: Saver
    progress: ProgressReport
    tracer: Tracer | None
    hooks: Sequence[Hook]
    stopwatch: Stopwatch
    memory: Callable[[], int]


@contextlib.contextmanager
def recording(
    setup: Setup,
    step: Any,
    budget: MemoryBudget,
    session: Session,
    on_line: Callable[[dict[str, Any]], Any],
) -> Iterator[Recorder]:
    """Records a run within the block, and adds to the errors of training what to do about them.

    Args:
      setup: of the run.
      step: compiled, for its trace.
      budget: what the run needs, by the compiler's count.
      session: that the run is in.
      on_line: takes each line of the metrics.

    Raises:
      NonFiniteError: as the block does, naming the last good checkpoint.
      OutOfMemoryError: where the block ran out of memory, with what would fit.
      RunInterruptedError: as the block does, with how to resume.
    """
    recorder = _make(setup, step, budget, session, on_line)
    with recorder.saver as saver, recorder.progress:
        try:
            yield recorder
        except NonFiniteError as error:
            words = report.last_good(saver, setup.run_dir)
            raise NonFiniteError(f"{error}. {words}") from error
        except RunInterruptedError as error:
            words = report.resume_words(saver, setup)
            code = error.exit_code if saver.last_update is None else 0
            raise RunInterruptedError(f"{error}. {words}", code) from error
        except ActorError as error:
            raise ActorError(f"{error}. {report.resume_words(saver, setup)}") from error
        except jax.errors.JaxRuntimeError as error:
            if not memory.is_out_of_memory(error):
                raise
            words = report.out_of_memory_words(setup.experiment, budget, error)
            raise OutOfMemoryError(words) from error
        finally:
            recorder.log.finish()


def _make(
    setup: Setup,
    step: Any,
    budget: MemoryBudget,
    session: Session,
    on_line: Callable[[dict[str, Any]], Any],
) -> Recorder:
    experiment, run_dir, warn = setup.experiment, setup.run_dir, session.warn
    assert setup.mesh is not None
    is_writer = session.hosts.is_first
    stopwatch, hooks = Stopwatch(setup.start.train_seconds), _hooks(setup, warn, is_writer)
    peak = partial(memory.peak, setup.mesh.local_devices[0])
    log = MetricsLog(
        run_dir / files.METRICS_FILE if is_writer else None,
        stopwatch,
        env_steps_per_update=experiment.algorithm.env_steps_per_update,
        log_every=experiment.log_every,
        num_members=1 if experiment.sweep is None else experiment.sweep.num_members,
        warn=warn,
        on_line=on_line,
        memory=peak,
        beside=[hook.file for hook in hooks],
    )
    config = report.describe(setup, budget)
    saver = Saver(
        run_dir / files.CHECKPOINTS,
        config,
        every=experiment.checkpoint_every,
        minutes=experiment.checkpoint_minutes,
        keep=experiment.keep_checkpoints,
        warn=warn,
        keeper=None if setup.claim is None else Keeper(run_dir, config, setup.claim, warn),
        hosts=session.hosts,
        exports=_exports(setup, session),
    )
    tracer = tracer_of(setup, session, step, stopwatch) if is_writer else None
    progress = _progress(experiment, session, setup.start.update)
    return Recorder(log, saver, progress, tracer, hooks, stopwatch, peak)


def _progress(experiment: Experiment, session: Session, done: int) -> ProgressReport:
    per_update = experiment.algorithm.env_steps_per_update
    return ProgressReport(session.console, experiment.num_updates * per_update, done * per_update)


def _exports(setup: Setup, session: Session) -> Exports | None:
    """What writes the policy file of the run, None where that is not wanted."""
    every, export = setup.experiment.export_every, session.export
    if every is None or export is None:
        return None
    has_members = setup.experiment.sweep is not None
    return Exports(setup.run_dir, every, export, has_members, session.warn)


def _hooks(setup: Setup, warn: Callable[[str], Any], is_writer: bool) -> list[Lineage]:
    """What else looks at every update of this kind of run."""
    sweep = setup.experiment.sweep
    if sweep is None or not sweep.pbt or not is_writer:
        return []
    return [Lineage(setup.run_dir, sweep.ranges, sweep.pbt_every, warn)]
