"""Runs of sweeps in parts: each in turn, from wherever it stands, and what all of them found."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jaxdrl.checks import require
from jaxdrl.config.experiment import Experiment, follows_length
from jaxdrl.evaluation.episodes import evaluate
from jaxdrl.io.json_files import as_written, sealed, write_sealed
from jaxdrl.io.safe_files import remove, require_own
from jaxdrl.populations.sweep_algorithm import hyperparams_of
from jaxdrl.runs import checkpoint as checkpoints
from jaxdrl.runs import memory, report, train_run
from jaxdrl.runs import run_dir as files
from jaxdrl.runs.assemble import Setup, extend, read_stored, schedule_words
from jaxdrl.runs.locking import claim
from jaxdrl.runs.loop import evaluation_key
from jaxdrl.runs.nested import has_begun, parts_of, read_result, require_part
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.restore import restore
from jaxdrl.runs.session import Session
from jaxdrl.runs.train_run import Changes, Run
from jaxdrl.sweeps import results, trials, waves


def run(setup: Setup, session: Session) -> Run:
    """Trains a sweep in parts from its start."""
    assert setup.experiment.sweep is not None
    if setup.experiment.sweep.is_search:
        trials.check(setup.experiment)
    with train_run.claim_new(setup, session) as (setup, _):
        return _train(setup, session)


def resume(
    run_dir: Path,
    stored: files.StoredRun,
    overrides: Overrides,
    changes: Changes,
    session: Session,
) -> Run:
    """Goes on with a sweep in parts: with those that are not done, from their last checkpoints.

    Args:
      run_dir: of the sweep.
      stored: its `config.json`.
      overrides: as in `jaxdrl.resume`.
      changes: as there, but for the checkpoint: a part is taken back by itself.
      session: which its parts share.

    Raises:
      ConfigError: as in `jaxdrl.resume`.
    """
    checkpoint = changes.checkpoint
    with claim(run_dir, session.warn):
        require_part(run_dir, stored)
        parts = parts_of(run_dir)
        works = "is of one part; name its directory, such as "
        works += f"jaxdrl resume {parts[0] if parts else run_dir} --checkpoint {checkpoint}"
        require(checkpoint is None, "checkpoint", checkpoint, works)
        saved = [checkpoints.updates_in(part / files.CHECKPOINTS) for part in parts]
        done = max((update for updates in saved for update in updates), default=0)
        before = experiment = replace(stored.experiment, run_dir=run_dir)
        assert experiment.sweep is not None
        if experiment.sweep.is_search:
            _require_unfinished(run_dir, changes.total_env_steps)
            trials.check(experiment)
            done = 0  # of updates, which the trials differ in
        experiment = extend(experiment, *changes[:2], done, changes.keep_schedule)
        setup = train_run.assemble_on_devices(experiment, overrides, session.console, stored)
        if words := schedule_words(before, experiment, overrides):
            session.console.print(words, soft_wrap=True)
        remove(run_dir / files.RESULT_FILE)
        return _train(setup, session)


def _require_unfinished(run_dir: Path, total_env_steps: int | None) -> None:
    """Refuses what a search cannot do, whose trials are of one length."""
    works = "is the same for all trials of a search; name the directory of one, in its trials/"
    require(total_env_steps is None, "total_env_steps", total_env_steps, works)
    is_finished = (run_dir / files.RESULT_FILE).exists()
    works = "all its trials are done; start another sweep for more of them"
    require(not is_finished, "run_dir", str(run_dir), works)


def _train(setup: Setup, session: Session) -> Run:
    experiment, overrides, console = setup.experiment, setup.overrides, session.console
    run_dir, sweep = experiment.run_dir, experiment.sweep
    assert run_dir is not None and sweep is not None
    needs = memory.estimate(setup)
    if sweep.wave_size is not None:
        needs = memory.of_members(setup, needs, min(sweep.wave_size, sweep.num_members))
    with files.refused_unless_written(run_dir):
        write_sealed(run_dir / files.CONFIG_FILE, report.describe(setup, needs))
    train = trials.train if sweep.is_search else waves.train
    result = train(experiment, partial(_train_part, overrides, session), console)
    with session.signals.held():
        if sweep.is_search:
            results.show_sweep(session, experiment, result["settings"])
        else:
            values, found = hyperparams_of(experiment), result["evaluation"]
            result |= results.write_sweep(session, experiment, values, found)
        result = sealed(result | {"run_id": setup.origin.run_id})
        is_written = report.write_result(session, run_dir, overrides.names, result)
        return replace(_best(experiment, overrides, result), is_written=is_written)


def _best(experiment: Experiment, overrides: Overrides, result: dict[str, Any]) -> Run:
    """The best member of all parts, which no longer are in memory."""
    run_dir = experiment.run_dir
    assert run_dir is not None
    env, algorithm, state = restore(run_dir, **vars(overrides))
    evaluation = evaluate(
        env,
        algorithm.policy,
        state.learner,
        evaluation_key(experiment, int(state.learner.num_updates)),
        num_episodes=experiment.num_eval_episodes,
        deterministic=experiment.greedy_evaluation,
    )
    return Run(run_dir, env, algorithm, state, evaluation, result)


def _train_part(overrides: Overrides, session: Session, part: Experiment) -> dict[str, Any]:
    """Trains a part to its end, unless it is there, and gives back its `result.json`."""
    run_dir = part.run_dir
    assert run_dir is not None
    require_own(run_dir.parent, run_dir)
    session.signals.require_none()  # one that came at the end of the part before
    if not has_begun(run_dir):
        return as_written(train_run.start(part, overrides, session, results.rank_members).result)
    stored = read_stored(run_dir, overrides, "resume")
    require_part(run_dir, stored)
    begun = stored.experiment
    is_short = begun.total_env_steps != part.total_env_steps
    if is_short or not (run_dir / files.RESULT_FILE).exists():
        keep_schedule = not follows_length(part)
        changes = Changes(part.devices, part.total_env_steps, keep_schedule)
        return as_written(
            train_run.go_on(
                run_dir, stored, overrides, changes, session, results.rank_members
            ).result
        )
    return read_result(run_dir)
