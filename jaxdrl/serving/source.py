"""The run that a policy in use comes from, and the versions of the policy in its checkpoints."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxdrl.analysis.policy_function import policy_function, space_read
from jaxdrl.core.keys import pinned
from jaxdrl.core.spaces import ObservationSpace
from jaxdrl.envs import Environment
from jaxdrl.errors import ConfigError
from jaxdrl.runs.assemble import Setup, assemble, load_learner, read_stored
from jaxdrl.runs.checkpoint_binding import require_of_run
from jaxdrl.runs.checkpoint_scores import score_of
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.run_dir import CHECKPOINTS, StoredRun
from jaxdrl.runs.sweep_members import Place, choose_member, locate
from jaxdrl.serving.checkpoint_watch import Candidate, CheckpointWatch
from jaxdrl.serving.compiled_policy import CompiledPolicy


@dataclass(frozen=True)
class Choice:
    """Which policies of a run are wanted, and for which batch sizes they are compiled.

    Attributes:
      overrides: objects that were given in Python.
      checkpoint: None for the last valid one, "best" for the best by evaluation, or an update.
      member: number of a member of a sweep.
      setting: likewise of a setting.
      batch_sizes: of the compiled programs.
    """

    overrides: Overrides
    checkpoint: int | str | None
    member: int | None
    setting: int | None
    batch_sizes: tuple[int, ...]


class Version(NamedTuple):
    """A policy in use.

    Attributes:
      update: updates after which its checkpoint was saved.
      env_steps: environment steps of its training.
      run_dir: directory of the run.
      run_id: of the run.
      member: its number in a run with members, None for one agent.
      mean_return: of the evaluation in the checkpoint, None without one.
      taken_at: when it came into use, in seconds since 1970.
    """

    update: int
    env_steps: int
    run_dir: Path
    run_id: str
    member: int | None
    mean_return: float | None
    taken_at: float


@dataclass(frozen=True)
class Source:
    """A run whose policies are used.

    Attributes:
      place: where its checkpoints are.
      stored: what its `config.json` says.
      setup: environment and algorithm.
      watch: of its checkpoints.
      choice: which of its policies are wanted.
    """

    place: Place
    stored: StoredRun
    setup: Setup
    watch: CheckpointWatch
    choice: Choice

    @property
    def env(self) -> Environment:
        """The environment of the run."""
        return self.setup.env


@dataclass(frozen=True)
class Loaded:
    """A policy that is ready to act.

    Attributes:
      source: the run that it comes from.
      candidate: the checkpoint.
      policy: compiled; the same for all versions of a run.
      space: of the observations that it takes.
      part: of the learner that it acts by, on the device.
      version: what callers are told about it.
    """

    source: Source
    candidate: Candidate
    policy: CompiledPolicy
    space: ObservationSpace
    part: list[jax.Array]
    version: Version


@pinned()
def open_source(run_dir: Path, choice: Choice, verb: str) -> Source:
    """Opens a run.

    Args:
      run_dir: its directory.
      choice: which of its policies are wanted.
      verb: the function of jaxdrl that asks for it, for messages.

    Raises:
      ConfigError: if the directory is not a run, or there is no such member.
    """
    place = locate(run_dir, choice.member, choice.setting)
    stored = read_stored(place.run_dir, choice.overrides, verb)
    setup = assemble(stored.experiment, choice.overrides, None, stored)
    check = partial(require_of_run, stored.content)
    watch = CheckpointWatch(place.run_dir / CHECKPOINTS, choice.checkpoint, check)
    return Source(place, stored, setup, watch, choice)


@pinned()
def load(source: Source, candidate: Candidate, before: Loaded | None) -> Loaded | None:
    """The policy in a checkpoint, once it has acted; None if its files have changed meanwhile.

    Args:
      source: the run.
      candidate: the checkpoint.
      before: an earlier version of the same run, whose programs are used again.

    Raises:
      ConfigError: if it does not fit the run, or is not finite.
    """
    sweep = source.stored.experiment.sweep
    member = None
    if sweep is not None:
        member = choose_member(source.place, candidate.path, candidate.manifest, sweep.num_members)
    learner = load_learner(source.setup, candidate.path, source.stored, member)
    if not source.watch.is_unchanged(candidate):
        return None  # what was read may not be what was verified
    if before is not None:
        policy, space = before.policy, before.space
    else:
        function = policy_function(source.env, source.setup.algorithm.policy, learner)
        policy = CompiledPolicy(function, learner, source.choice.batch_sizes)
        space = space_read(source.env, function.unread)
    part = policy.part_of(learner)
    policy.rehearse(part)
    return Loaded(source, candidate, policy, space, part, _describe(source, candidate, member))


def _describe(source: Source, candidate: Candidate, member: int | None) -> Version:
    per_update = source.stored.experiment.algorithm.env_steps_per_update
    return Version(
        update=candidate.update,
        env_steps=candidate.update * per_update,
        run_dir=source.place.run_dir,
        run_id=source.stored.origin.run_id,
        member=None if member is None else source.place.first + member,
        mean_return=score_of(candidate.manifest),
        taken_at=time.time(),
    )


def require_same_spaces(env: Environment, other: Environment, run_dir: Path) -> None:
    """Refuses a run whose observations or actions are not those of the policy in use.

    Raises:
      ConfigError: naming the spaces of both.
    """
    for name in ("observation_space", "action_space"):
        ours, theirs = getattr(env, name), getattr(other, name)
        if ours != theirs:
            raise ConfigError(
                f"run_dir = {str(run_dir)!r}: its {name} is {theirs}, and that of the policy in "
                f"use is {ours}; follow it with another call of jaxdrl.follow"
            )


def identity(path: Path) -> Any:
    """What a directory is, through symbolic links; None where there is none."""
    try:
        return path.resolve(strict=True)
    except (
        OSError,
        RuntimeError,
    ):  # links in a circle, which are a RuntimeError before Python 3.13
        return None
