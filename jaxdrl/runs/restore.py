"""Reads back from a run directory an agent to train further, or a policy to play."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from flax import linen as nn
from jax.sharding import Mesh

from jaxdrl.algorithms.build import MakeAlgorithm
from jaxdrl.checks import Index, checked
from jaxdrl.config.settings import with_settings
from jaxdrl.core.keys import pinned
from jaxdrl.core.types import Algorithm, LearnerState, Network, Policy, TrainState
from jaxdrl.distributed.layout import place
from jaxdrl.envs import Environment
from jaxdrl.io.console import make_console, warner
from jaxdrl.populations import state as states
from jaxdrl.runs import checkpoint_manager
from jaxdrl.runs.assemble import assemble, load_learner, load_state, read_stored
from jaxdrl.runs.checkpoint_binding import require_of_run
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.run_dir import CHECKPOINTS, StoredRun, read_run
from jaxdrl.runs.sweep_members import Member, Place, choose_member, describe, locate


class Restored(NamedTuple):
    """What `jaxdrl.restore` returns.

    Attributes:
      env: the environment of the run.
      algorithm: its algorithm, on the given mesh.
      state: the state in the checkpoint, on that mesh.
    """

    env: Environment
    algorithm: Algorithm
    state: TrainState


@checked
@pinned()
def restore(
    run_dir: Path | str,
    *,
    env: Environment | None = None,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    make_algorithm: MakeAlgorithm | None = None,
    checkpoint: int | str | None = None,
    mesh: Mesh | None = None,
    member: Index | None = None,
    setting: Index | None = None,
) -> Restored:
    """Environment, algorithm and state of a run: `env, agent, state = jaxdrl.restore("runs/x")`.

    Args:
      run_dir: directory of the run.
      env: the environment, for a run that was given one in Python instead of a name.
      network: likewise.
      optimizer: likewise.
      make_algorithm: likewise.
      checkpoint: the update of a checkpoint, "best" for the one with the best evaluation, None for
        the last valid one.
      mesh: from `jaxdrl.make_mesh`, over any number of devices that divides the shards.
      member: for a sweep, the number of the member to restore, with its own hyperparameters; None:
        the best by the evaluation in the checkpoint.
      setting: for a sweep, in place of a member the number of a setting in its table: the best
        member of that setting is restored.

    Raises:
      ConfigError: if the directory is not a run, or what it holds does not fit; the message names
        the file or the field, and what to do.
    """
    overrides = Overrides(env, network, optimizer, make_algorithm)
    found = _find(Path(run_dir), overrides, "restore", checkpoint, member, setting)
    stored, sweep = found.stored, found.stored.experiment.sweep
    setup = assemble(stored.experiment, overrides, mesh if sweep is None else None, stored)
    member = None if sweep is None else found.number
    state: Any = load_state(setup, found.path, stored, member)
    if sweep is not None:
        state = states.member(state, found.number)
        values: dict[str, Any] = _floats(state.learner)
        # From here on the config holds them, as in a run of one agent.
        state = replace(state, learner=replace(state.learner, hyperparams=()))
        experiment = with_settings(stored.experiment, sweep=None, **values)
        setup = assemble(experiment, overrides, mesh, stored)
    state = place(state, mesh, setup.algorithm.state_specs)
    return Restored(setup.env, setup.algorithm, state)


class Player(NamedTuple):
    """The policy in a checkpoint, ready to play on one device.

    Attributes:
      env: the environment of the run.
      policy: how it acts; the same for all members of a sweep, which so share one program.
      learner: its parameters and statistics, with the hyperparameters of a member.
      run_dir: the directory, as the caller named it.
      update: of the checkpoint.
      env_steps: environment steps of its training.
      member: which of a sweep it is, None for a run of one agent.
    """

    env: Environment
    policy: Policy
    learner: LearnerState
    run_dir: Path
    update: int
    env_steps: int
    member: Member | None

    @property
    def origin(self) -> dict[str, Any]:
        """Which member of a sweep it is, for JSON; empty for a run of one agent."""
        return {} if self.member is None else self.member.figures


@pinned()
def load_player(
    run_dir: Path | str,
    overrides: Overrides,
    verb: str,
    checkpoint: int | str | None = None,
    member: Index | None = None,
    setting: Index | None = None,
) -> Player:
    """The policy in a checkpoint of a run; arguments and errors as in `restore`.

    Args:
      run_dir: directory of the run.
      overrides: objects that were given in Python.
      verb: the function of jaxdrl that asks for it, for messages.
      checkpoint: as in `restore`.
      member: likewise.
      setting: likewise.
    """
    found = _find(Path(run_dir), overrides, verb, checkpoint, member, setting)
    experiment = found.stored.experiment
    setup = assemble(experiment, overrides, None, found.stored)
    member = None if experiment.sweep is None else found.number
    learner = load_learner(setup, found.path, found.stored, member)
    which = None
    if experiment.sweep is not None:
        values = _floats(learner)
        which = describe(found.place, found.number, experiment.sweep, values, experiment.algorithm)
    learner = jax.device_put(learner, jax.local_devices()[0])
    update = int(learner.num_updates)
    steps = update * experiment.algorithm.env_steps_per_update
    policy = setup.algorithm.policy
    return Player(setup.env, policy, learner, Path(run_dir), update, steps, which)


def require_checkpoint(
    run_dir: Path,
    checkpoint: int | str | None = None,
    member: Index | None = None,
    setting: Index | None = None,
) -> None:
    """Refuses what `load_player` would refuse about the files, before anything starts."""
    place = locate(run_dir, member, setting)
    check = partial(require_of_run, read_run(place.run_dir).content)
    checkpoint_manager.choose(place.run_dir / CHECKPOINTS, checkpoint, lambda warning: None, check)


def player_names(players: list[Player]) -> list[str]:
    """A different name for each: its directory, and what else distinguishes it."""
    names: list[str] = []
    for player in players:
        of_run = [p for p in players if p.run_dir.resolve() == player.run_dir.resolve()]
        words = [str(player.run_dir)]
        if len({p.update for p in of_run}) > 1:
            words.append(f"update {player.update}")
        if len({p.member.number for p in of_run if p.member}) > 1 and player.member:
            words.append(f"member {player.member.number}")
        name = first = ", ".join(words)
        while name in names:
            name = f"{first} ({len(names) + 1})"
        names.append(name)
    return names


class _Found(NamedTuple):
    place: Place
    stored: StoredRun
    path: Path
    number: int


def _find(
    run_dir: Path,
    overrides: Overrides,
    verb: str,
    checkpoint: int | str | None,
    member: int | None,
    setting: int | None,
) -> _Found:
    """The run, the checkpoint, and the number in it of the member that is meant."""
    place = locate(run_dir, member, setting)
    stored = read_stored(place.run_dir, overrides, verb)
    check, warn = partial(require_of_run, stored.content), warner(make_console())
    path, manifest = checkpoint_manager.choose(place.run_dir / CHECKPOINTS, checkpoint, warn, check)
    sweep = stored.experiment.sweep
    number = 0 if sweep is None else choose_member(place, path, manifest, sweep.num_members)
    return _Found(place, stored, path, number)


def _floats(learner: LearnerState) -> dict[str, float]:
    return {name: float(x) for name, x in learner.hyperparams.items()}
