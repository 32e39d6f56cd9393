"""Trains sweeps in parts, one part after the other, and ranks what all of them found."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jaxdrl.checks import require
from jaxdrl.config.experiment import Experiment, follows_length
from jaxdrl.evaluation.episodes import evaluate
from jaxdrl.io.console import say
from jaxdrl.io.json_files import as_written, sealed, write_sealed
from jaxdrl.io.safe_files import remove, require_own
from jaxdrl.populations.sweep_algorithm import hyperparams_of
from jaxdrl.runs import checkpoint as checkpoints
from jaxdrl.runs import memory, report, train_run
from jaxdrl.runs import run_dir as files
from jaxdrl.runs.assemble import Setup, evaluation_key, read_stored
from jaxdrl.runs.changes import Changes, extend, schedule_words
from jaxdrl.runs.locking import claim
from jaxdrl.runs.nested import has_begun, parts_of, read_result, require_part
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.plan import assemble_on_devices, plan, plan_resume
from jaxdrl.runs.restore import restore
from jaxdrl.runs.session import Session
from jaxdrl.runs.train_run import Run
from jaxdrl.sweeps import results, trials, waves


def check(experiment: Experiment) -> None:
    """Refuses a search that cannot work; accepts everything that is not a search.

    Raises:
      ConfigError: as `jaxdrl.sweeps.trials.check`.
    """
    if experiment.sweep is not None and experiment.sweep.is_search:
        trials.check(experiment)


@contextlib.contextmanager
def plan_sweep_resume(
    stored: files.StoredRun,
    run_dir: Path,
    overrides: Overrides,
    changes: Changes,
    session: Session,
) -> Iterator[Setup]:
    """The setup of a sweep in parts that is resumed, each part from its own last checkpoint.

    Args:
      stored: what its `config.json` says.
      run_dir: of the sweep.
      overrides: as in `jaxdrl.resume`.
      changes: likewise, without a checkpoint, which only a part can be taken back to.
      session: which its parts share.

    Raises:
      ConfigError: as in `jaxdrl.resume`.
    """
    checkpoint = changes.checkpoint
    with claim(run_dir, session.warn) as claimed:
        require_part(run_dir, stored)
        parts = parts_of(run_dir)
        works = "is of one part; name its directory, such as "
        works += f"jaxdrl resume {parts[0] if parts else run_dir} --checkpoint {checkpoint}"
        require(checkpoint is None, "checkpoint", checkpoint, works)
        saved = [checkpoints.updates_in(part / files.CHECKPOINTS) for part in parts]
        done = max((update for updates in saved for update in updates), default=0)
        before = replace(stored.experiment, run_dir=run_dir)
        assert before.sweep is not None
        if before.sweep.is_search:
            _require_unfinished(run_dir, changes.total_env_steps)
            trials.check(before)
            done = 0  # trials differ in their number of updates
        experiment = extend(before, changes, done)
        setup = assemble_on_devices(experiment, overrides, session, stored, changes)
        budget = memory.plan(setup.experiment, setup.algorithm, setup.mesh)
        budget = memory.of_wave(setup.experiment, budget)
        if words := schedule_words(before, experiment, overrides):
            say(session.console, words)
        remove(run_dir / files.RESULT_FILE)
        yield replace(setup, memory=budget, claim=claimed)


def _require_unfinished(run_dir: Path, total_env_steps: int | None) -> None:
    """Refuses to change the length of a search, or to resume one that is done."""
    works = "is the same for all trials of a search; name the directory of one, in its trials/"
    require(total_env_steps is None, "total_env_steps", total_env_steps, works)
    is_finished = (run_dir / files.RESULT_FILE).exists()
    works = "all its trials are done; start another sweep for more of them"
    require(not is_finished, "run_dir", str(run_dir), works)


def train(setup: Setup, session: Session) -> Run:
    """Trains those parts of a sweep that are not done, and ranks its settings."""
    experiment, overrides, run_dir = setup.experiment, setup.overrides, setup.run_dir
    sweep = experiment.sweep
    assert sweep is not None and setup.memory is not None
    with files.refused_unless_written(run_dir):
        write_sealed(run_dir / files.CONFIG_FILE, report.describe(setup, setup.memory))
    train_parts = trials.train if sweep.is_search else waves.train
    result = train_parts(experiment, partial(_train_part, overrides, session), session.console)
    with session.signals.held():
        if sweep.is_search:
            results.show_sweep(session, experiment, result["settings"])
        else:
            values, found = hyperparams_of(experiment), result["evaluation"]
            result |= results.write_sweep(session, experiment, values, found)
        result = sealed(result | {"run_id": setup.origin.run_id})
        is_written = report.write_result(session, run_dir, overrides.names, result)
        found = best(experiment, overrides, run_dir, result)
        return replace(found, is_written=is_written)


def best(
    experiment: Experiment, overrides: Overrides, run_dir: Path, result: dict[str, Any]
) -> Run:
    """A run that is done, restored from its directory; of a sweep its best member."""
    env, algorithm, state = restore(run_dir, **vars(overrides))
    evaluation = evaluate(
        env,
        algorithm.policy,
        state.learner,
        evaluation_key(experiment, int(state.learner.num_updates)),
        num_episodes=experiment.num_eval_episodes,
        greedy=experiment.greedy_evaluation,
    )
    return Run(run_dir, env, algorithm, state, evaluation, result)


def _train_part(overrides: Overrides, session: Session, part: Experiment) -> dict[str, Any]:
    """Trains a part to its end, unless it is done, and returns its `result.json`."""
    run_dir = part.run_dir
    assert run_dir is not None
    require_own(run_dir.parent, run_dir)
    session.signals.require_none()  # one that came at the end of the part before
    if not has_begun(run_dir):
        with plan(part, overrides, session) as setup:
            return as_written(train_run.train(setup, session, results.rank_members).result)
    stored = read_stored(run_dir, overrides, "resume")
    require_part(run_dir, stored)
    is_short = stored.experiment.total_env_steps != part.total_env_steps
    if not is_short and (run_dir / files.RESULT_FILE).exists():
        return read_result(run_dir)
    changes = Changes(part.devices, part.total_env_steps, not follows_length(part))
    with plan_resume(stored, run_dir, overrides, changes, session) as setup:
        return as_written(train_run.train(setup, session, results.rank_members).result)
