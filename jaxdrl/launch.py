"""`jaxdrl.run` and `jaxdrl.resume`: one run, or a sweep whose parts are runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optax
from flax import linen as nn

from jaxdrl.algorithms.build import MakeAlgorithm
from jaxdrl.analysis.export import Publisher
from jaxdrl.checks import Count, checked, require
from jaxdrl.config.experiment import Experiment
from jaxdrl.core.keys import pinned
from jaxdrl.core.types import Network
from jaxdrl.envs import Environment
from jaxdrl.io.json_files import read_object
from jaxdrl.runs import train_run
from jaxdrl.runs.assemble import Setup, read_stored
from jaxdrl.runs.changes import Changes, changes_of
from jaxdrl.runs.nested import folder_of, has_begun
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.plan import plan, plan_resume
from jaxdrl.runs.report import print_result
from jaxdrl.runs.run_dir import PUT_BACK, RESULT_FILE, StoredRun
from jaxdrl.runs.session import OnUpdate, Session, open_session
from jaxdrl.runs.together import require_same_run
from jaxdrl.runs.trackers import Tracker, require_installed
from jaxdrl.runs.train_run import Run
from jaxdrl.sweeps import driver
from jaxdrl.sweeps.results import rank_members


@checked
@pinned()
def run(
    experiment: Experiment,
    *,
    env: Environment | None = None,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    make_algorithm: MakeAlgorithm | None = None,
    trackers: Sequence[Tracker] = (),
    quiet: bool = False,
    on_update: OnUpdate | None = None,
    resume: bool = False,
) -> Run:
    """Trains, evaluates, and writes a run directory with checkpoints on the way.

    Args:
      experiment: what to train, and how.
      env: an environment of your own in place of the one that `experiment.env` names.
      network: a flax module or a `jaxdrl.Network` in place of the one that the settings describe.
      optimizer: an optax optimiser in place of the one that the settings describe.
      make_algorithm: makes an algorithm of your own from `experiment.algorithm`, its settings:
        `(env, config: MyConfig, *, mesh=None) -> Algorithm`.
      trackers: further trackers of the lines of `metrics.jsonl`, beside those that
        `experiment.track` names; see `jaxdrl.runs.trackers.Tracker`. None can stop the run.
      quiet: whether to print nothing but warnings.
      on_update: called after each update with its number and its metrics: those of a line of
        `metrics.jsonl`, of this update alone, without speed and memory; lists for the members of a
        sweep. Where it returns true, the run ends after the update that is being computed, with an
        evaluation, a checkpoint and its result; `resume` continues to its full length. What it
        raises is raised again once the state is saved. In a sweep in parts it ends one part.
      resume: whether to go on with the run of these settings that `experiment.run_dir` may hold
        already, on whatever devices and processes there are now: one and the same call starts a
        run, resumes it, or gives its result once it is done. What is longer is extended.

    Raises:
      ConfigError: for settings that cannot work, before anything is compiled or written.
      RunInterruptedError: after SIGINT, SIGTERM or SIGHUP; with a checkpoint saved, unless it came
        before the first update, or twice.
      NonFiniteError: if no finite gradient was left to learn from.
      OutOfMemoryError: if a device ran out of memory during training.
    """
    overrides = Overrides(env, network, optimizer, make_algorithm)
    caller: dict[str, Any] = {"trackers": trackers, "on_update": on_update, "quiet": quiet}
    caller["export"] = Publisher(overrides)
    with open_session(experiment.run_dir, overrides.names, **caller) as session:
        driver.check(experiment)
        if resume and session.hosts.first("begun", partial(_has_begun, experiment)):
            return _go_on(experiment, overrides, session)
        with plan(experiment, overrides, session) as setup:
            return _train(setup, session)


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
    make_algorithm: MakeAlgorithm | None = None,
    trackers: Sequence[Tracker] = (),
    quiet: bool = False,
    on_update: OnUpdate | None = None,
) -> Run:
    """Continues a run from its last valid checkpoint, as if it had never stopped.

    Args:
      run_dir: directory of the run.
      devices: a new number of devices; None keeps the old one.
      total_env_steps: a new length, such as a greater one for a run that is done; None keeps the
        old one. A learning rate that is annealed over the length of the run is then annealed over
        the new one.
      keep_schedule: whether to anneal it over the old length instead.
      checkpoint: the update of an earlier checkpoint, or "best"; what came after it is dropped.
      env: as in `jaxdrl.run`, for a run that was given one.
      network: likewise.
      optimizer: likewise.
      make_algorithm: likewise.
      trackers: as in `jaxdrl.run`; those that the config names continue by themselves.
      quiet: as in `jaxdrl.run`.
      on_update: likewise.

    Raises:
      ConfigError: if there is nothing to resume from, or something does not fit it; the message
        says what, and what to do.
      RunInterruptedError: as in `jaxdrl.run`.
      NonFiniteError: likewise.
      OutOfMemoryError: likewise.
    """
    run_dir, overrides = Path(run_dir), Overrides(env, network, optimizer, make_algorithm)
    changes = Changes(devices, total_env_steps, keep_schedule, checkpoint)
    caller: dict[str, Any] = {"trackers": trackers, "on_update": on_update, "quiet": quiet}
    caller["export"] = Publisher(overrides)
    with open_session(run_dir, overrides.names, **caller) as session:
        stored = read_stored(run_dir, overrides, "resume")
        return _resume(stored, overrides, changes, session)


def _has_begun(experiment: Experiment) -> bool:
    """Whether the directory of an experiment holds a run already."""
    works = "needs the directory of the run: --run-dir (run_dir)"
    require(experiment.run_dir is not None, "resume", True, works)
    assert experiment.run_dir is not None
    return has_begun(experiment.run_dir)


def _go_on(experiment: Experiment, overrides: Overrides, session: Session) -> Run:
    """Resumes the run in the directory of an experiment, or gives its result."""
    run_dir = experiment.run_dir
    assert run_dir is not None
    require_same_run(session.hosts, experiment, overrides.names)
    stored = read_stored(run_dir, overrides, "resume")
    changes = changes_of(stored.experiment, experiment, run_dir)
    if changes is not None:
        return _resume(stored, overrides, changes, session)
    result = read_object(run_dir / RESULT_FILE, PUT_BACK)
    print_result(session.console, run_dir, result)
    return driver.best(stored.experiment, overrides, run_dir, result)


def _resume(stored: StoredRun, overrides: Overrides, changes: Changes, session: Session) -> Run:
    run_dir = session.run_dir
    assert run_dir is not None
    require_installed(stored.experiment.track if session.hosts.is_first else ())
    is_in_parts = folder_of(stored.experiment.sweep) is not None
    plan_rest = driver.plan_sweep_resume if is_in_parts else plan_resume
    with plan_rest(stored, run_dir, overrides, changes, session) as setup:
        return _train(setup, session)


def _train(setup: Setup, session: Session) -> Run:
    """Trains what is planned: a run, or the parts of a sweep."""
    if folder_of(setup.experiment.sweep) is not None:
        return driver.train(setup, session)
    return train_run.train(setup, session, rank_members)
