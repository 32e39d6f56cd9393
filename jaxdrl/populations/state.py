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
    """States of `P` members: a `TrainState` with a leading axis, and what it was made with.

    Attributes:
      learner: `[P, ...]`.
      actor: `[P, N, ...]`.
      hyperparams: by name, float32 `[P]`.
      exchange: how members stand for the next exchange, None where there is none.
    """

    learner: LearnerState
    actor: ActorState
    hyperparams: dict[str, jax.Array]
    exchange: ExchangeState | None


@struct.dataclass
class PopulationLearner:
    """What learning changes in a population: the learner that its `rollout` and `learn` take.

    Attributes:
      members: the learners of the members, `[P, ...]`.
      hyperparams: as in `PopulationState`.
      exchange: as in `PopulationState`.
    """

    members: LearnerState
    hyperparams: dict[str, jax.Array]
    exchange: ExchangeState | None


@checked
def member(state: PopulationState, index: int) -> TrainState:
    """The state of one member, as it would be alone, and its hyperparameters in the learner.

    Args:
      state: of the population.
      index: of the member, from 0.

    Raises:
      ConfigError: if there is no such member.
    """
    num_members = state.learner.num_updates.shape[0]
    works = f"must be from 0 to {num_members - 1}: there are {num_members} members"
    require(0 <= index < num_members, "member", index, works)
    one = TrainState(learner=learners(state), actor=state.actor)
    return jax.tree.map(lambda x: x[index], one)


def learners(state: PopulationState) -> LearnerState:
    """The learners of all members, `[P, ...]`, each with its own hyperparameters to act by."""
    return replace(state.learner, hyperparams=state.hyperparams)


def learner_of(state: Any) -> Any:
    """What `rollout` and `learn` take of a state: its learner, of a population that of all."""
    if not isinstance(state, PopulationState):
        return state.learner
    return PopulationLearner(
        members=state.learner, hyperparams=state.hyperparams, exchange=state.exchange
    )


def state_of(learner: PopulationLearner, actor: ActorState) -> PopulationState:
    """A state of a population from its parts; `learner_of` takes the learner out again."""
    return PopulationState(
        learner=learner.members,
        actor=actor,
        hyperparams=learner.hyperparams,
        exchange=learner.exchange,
    )
