"""An algorithm whose rollouts are collected by actors, while it learns from earlier ones."""

from __future__ import annotations

from dataclasses import replace
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
      replay: the replay buffer, which the environments do not have here.
    """

    envs: ActorState
    policies: tuple[LearnerState, ...]
    replay: Any = ()


def asynchronous(algorithm: Algorithm, num_policies: int) -> Algorithm:
    """The algorithm with a state for actors; its `rollout` is for one thread.

    Its `collect` and `remember` are what actors and learner do of it.

    Args:
      algorithm: any that keeps its environments in an `ActorState`.
      num_policies: the age `K` of its data in deterministic mode, 0 in free mode.
    """
    collect = algorithm.collect or algorithm.rollout
    remember = algorithm.remember or _keep_nothing

    def init(key: jax.Array) -> TrainState:
        state = algorithm.init(key)
        policies = (acting_part(state.learner),) * num_policies
        envs, replay = state.actor, ()
        if algorithm.remember is not None:
            envs, replay = replace(envs, replay=()), envs.replay
        actor: Any = ActorsState(envs=envs, policies=policies, replay=replay)
        return TrainState(learner=state.learner, actor=actor)

    def rollout(learner: LearnerState, actor: Any) -> tuple[Any, Any]:
        policies = (*actor.policies, acting_part(learner))
        envs, steps = collect(policies[0], actor.envs)
        replay, trajectory = remember(actor.replay, steps)
        return ActorsState(envs=envs, policies=policies[1:], replay=replay), trajectory

    def train_step(state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        actor, trajectory = rollout(state.learner, state.actor)
        learner, metrics = algorithm.learn(state.learner, trajectory)
        return TrainState(learner=learner, actor=actor), metrics

    specs: Any = algorithm.state_specs
    policies: Any = REPLICATED
    actor_specs: Any = ActorsState(envs=specs.actor, policies=policies, replay=specs.actor)
    return algorithm._replace(
        init=init,
        rollout=rollout,
        train_step=train_step,
        state_specs=TrainState(learner=specs.learner, actor=actor_specs),
        collect=collect,
        remember=remember,
    )


def _keep_nothing(replay: Any, steps: Any) -> tuple[Any, Any]:
    """The `remember` of an algorithm that learns from the steps themselves."""
    return replay, steps
