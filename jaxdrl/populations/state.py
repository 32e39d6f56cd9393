"""The state of a population, and of one of its members."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
from flax import struct

from jaxdrl.checks import checked, require
from jaxdrl.core.types import ActorState, LearnerState, TrainState
from jaxdrl.populations.pbt import ExchangeState


@struct.dataclass
class PopulationState:
    """The state of a population: that of `P` members, with a leading axis, and what they share.

    Attributes:
      learner: learners of the members, `[P, ...]`.
      actor: actors of the members, `[P, N, ...]`.
      hyperparams: hyperparameters by name, float32 `[P]`.
      exchange: what the next exchange depends on, None for independent members.
    """

    learner: LearnerState
    actor: ActorState
    hyperparams: dict[str, jax.Array]
    exchange: ExchangeState | None


@struct.dataclass
class PopulationLearner:
    """The learner that `rollout` and `learn` of a population take.

    Attributes:
      members: learners of the members, `[P, ...]`.
      hyperparams: as in `PopulationState`.
      exchange: as in `PopulationState`.
    """

    members: LearnerState
    hyperparams: dict[str, jax.Array]
    exchange: ExchangeState | None


@checked
def member(state: PopulationState, index: int) -> TrainState:
    """The state of one member as it would be alone, with its hyperparameters in the learner.

    Args:
      state: the state of the population.
      index: index of the member, from 0.

    Raises:
      ConfigError: if there is no such member.
    """
    num_members = state.learner.num_updates.shape[0]
    works = f"must be from 0 to {num_members - 1}: there are {num_members} members"
    require(0 <= index < num_members, "member", index, works)
    one = TrainState(learner=learners(state), actor=state.actor)
    return jax.tree.map(lambda x: x[index], one)


def learners(state: PopulationState) -> LearnerState:
    """The learners of all members, `[P, ...]`, each with its own hyperparameters."""
    return replace(state.learner, hyperparams=state.hyperparams)


def learner_of(state: Any) -> Any:
    """The learner that `rollout` and `learn` take, from a state of one agent or a population."""
    if not isinstance(state, PopulationState):
        return state.learner
    return PopulationLearner(
        members=state.learner, hyperparams=state.hyperparams, exchange=state.exchange
    )


def state_of(learner: PopulationLearner, actor: ActorState) -> PopulationState:
    """The state of a population, from its learner and its actors."""
    return PopulationState(
        learner=learner.members,
        actor=actor,
        hyperparams=learner.hyperparams,
        exchange=learner.exchange,
    )
