"""An algorithm whose rollouts are collected by actors, while it learns from earlier ones."""

from __future__ import annotations

from typing import Any

import jax
from flax import struct

from jaxdrl.algorithms.acting import acting_part
from jaxdrl.core.types import ActorState, Algorithm, LearnerState, TrainState
from jaxdrl.distributed.layout import REPLICATED


@struct.dataclass
class ActorsState:
    """What actors do next; a checkpoint holds it, so that a run resumes to the same bits.

    Attributes:
      envs: the environments before the next trajectory, `[N, ...]`.
      policies: those that act in the next `K` trajectories, the oldest first, as `acting_part`
        leaves them; empty where the learner itself acts next, and in free mode.
    """

    envs: ActorState
    policies: tuple[LearnerState, ...]


def asynchronous(algorithm: Algorithm, num_policies: int) -> Algorithm:
    """The algorithm with a state for actors; its `rollout` is for the shapes, and for one thread.

    Args:
      algorithm: any that keeps its environments in an `ActorState`.
      num_policies: the age `K` of its data in deterministic mode, 0 in free mode.
    """

    def init(key: jax.Array) -> TrainState:
        state = algorithm.init(key)
        policies = (acting_part(state.learner),) * num_policies
        return TrainState(
            learner=state.learner,
            actor=ActorsState(envs=state.actor, policies=policies),  # type: ignore[arg-type]
        )

    def rollout(learner: LearnerState, actor: Any) -> tuple[Any, Any]:
        policies = (*actor.policies, acting_part(learner))
        envs, trajectory = algorithm.rollout(policies[0], actor.envs)
        return ActorsState(envs=envs, policies=policies[1:]), trajectory

    def train_step(state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        actor, trajectory = rollout(state.learner, state.actor)
        learner, metrics = algorithm.learn(state.learner, trajectory)
        return TrainState(learner=learner, actor=actor), metrics

    specs: Any = algorithm.state_specs
    actor_specs = ActorsState(envs=specs.actor, policies=REPLICATED)  # type: ignore[arg-type]
    return algorithm._replace(
        init=init,
        rollout=rollout,
        train_step=train_step,
        state_specs=TrainState(learner=specs.learner, actor=actor_specs),  # type: ignore[arg-type]
    )
