"""What `resume` may change about a run, and what that does to its learning rate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from jaxdrl.checks import require_count, require_divisor
from jaxdrl.config.algorithms import kind_of
from jaxdrl.config.experiment import (
    Experiment,
    anneals_over,
    follows_length,
    idle_from,
    resolve,
    unresolve,
)
from jaxdrl.config.settings import flat_settings
from jaxdrl.distributed.hosts import first_difference
from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import read_object
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.run_dir import PUT_BACK, RESULT_FILE

FREE = (
    *("devices", "run_dir", "total_env_steps", "stuck_after"),
    *("actor_devices", "actor_timeout", "actor_retries"),
)
"""Settings in which the call that goes on with a run may differ from the one that started it."""


class Changes(NamedTuple):
    """What `jaxdrl.resume` may change about a run: its arguments of the same names.

    Attributes:
      is_elastic: whether it takes any number of devices where `devices` is None.
    """

    devices: int | None = None
    total_env_steps: int | None = None
    keep_schedule: bool = False
    checkpoint: int | str | None = None
    is_elastic: bool = False


def changes_of(stored: Experiment, given: Experiment, run_dir: Path) -> Changes | None:
    """What the call that started a run, when it is repeated, changes about it; None if it is done.

    Args:
      stored: the experiment of the run.
      given: that of the call.
      run_dir: directory of the run.

    Raises:
      ConfigError: if they differ in anything else than `FREE`, naming the first setting.
    """
    sweep = stored.sweep
    if sweep is not None and given.sweep is not None and given.sweep.wave_size is None:
        stored = replace(stored, sweep=replace(sweep, wave_size=None))  # as memory allowed
    before, now = (described(unresolve(each)) for each in (stored, given))
    for name in FREE:
        del before[name], now[name]
    if (found := first_difference(before, now)) is not None:
        field, there, here = found
        raise ConfigError(
            f"run_dir = {str(run_dir)!r}: holds a run with {field} = {there!r}, and not {here!r}; "
            f"give {field} as it was, or name another directory"
        )
    length = given.total_env_steps if given.total_env_steps != stored.total_env_steps else None
    path = run_dir / RESULT_FILE
    if length is None and path.exists() and not read_object(path, PUT_BACK).get("stopped_early"):
        return None
    return Changes(given.devices, length, not follows_length(given), is_elastic=True)


def extend(experiment: Experiment, changes: Changes, done: int) -> Experiment:
    """The experiment with what `resume` changes after `done` updates.

    A learning rate that is annealed over the length of the run is annealed over the new length,
    unless `keep_schedule`.

    Raises:
      ConfigError: if the run is at its end already, or for a value that does not fit.
    """
    if changes.devices is not None:
        require_count("devices", changes.devices)
        num_shards = experiment.algorithm.execution.num_shards
        require_divisor("devices", changes.devices, num_shards)
        experiment = replace(experiment, devices=changes.devices)
    elif changes.is_elastic:
        experiment = replace(experiment, devices=None)
    if changes.total_env_steps is not None:
        open_ended = experiment if changes.keep_schedule else unresolve(experiment)
        experiment = resolve(replace(open_ended, total_env_steps=changes.total_env_steps))
    is_finished = (experiment.run_dir / RESULT_FILE).exists()  # type: ignore[operator]
    steps = done * experiment.algorithm.env_steps_per_update
    if done > experiment.num_updates or (done == experiment.num_updates and is_finished):
        field = f"total_env_steps = {experiment.total_env_steps}"
        works = f"--total-env-steps M with M above {steps} extends it"
        raise ConfigError(
            f"run_dir = {str(experiment.run_dir)!r}: {field} has been reached; {works}"
        )
    return experiment


def described(experiment: Experiment) -> dict[str, Any]:
    """The settings of an experiment by their names as JSON, to be compared with those of another.

    What JSON does not have is in words.
    """
    settings = {"algorithm": kind_of(experiment.algorithm), **flat_settings(experiment)}
    plain = str | int | float | bool | None
    return {name: x if isinstance(x, plain) else str(x) for name, x in settings.items()}


def schedule_words(before: Experiment, after: Experiment, overrides: Overrides) -> str | None:
    """What `resume` does to the learning rate, None where it follows its old schedule."""
    was, over = anneals_over(before), anneals_over(after)
    if overrides.optimizer is not None or over is None:
        return None  # it has its own
    if was is not None and over != was:
        return (
            f"learning rate: annealed over {over:,.0f} steps, the new length, and no longer over "
            f"{was:,.0f}; --keep-schedule (keep_schedule=True) keeps that"
        )
    return idle_words(after, overrides)


def idle_words(experiment: Experiment, overrides: Overrides) -> str | None:
    """A warning that the last part of a run learns nothing, if its learning rate is 0 there."""
    idle = idle_from(experiment)
    if overrides.optimizer is not None or idle is None:
        return None
    return (
        f"learning rate: 0 from step {idle:,.0f} (anneal_env_steps) to the end at "
        f"{experiment.total_env_steps:,}, where nothing is learned"
    )
