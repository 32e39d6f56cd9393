"""Makes an `Algorithm` on a mesh from functions that each device runs over its own environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax

from jaxdrl.algorithms import update_metrics
from jaxdrl.core.keys import pinned, require_reproducible
from jaxdrl.core.types import (
    Acting,
    ActorState,
    Algorithm,
    LearnerState,
    Policy,
    Reduction,
    TrainState,
)
from jaxdrl.distributed.layout import ALONG_ENVS, ALONG_ENVS_IN_TIME, REPLICATED, Layout, shard

STATE_SPECS = TrainState(learner=REPLICATED, actor=ALONG_ENVS)  # type: ignore[arg-type]
"""The learner is on every device, the actor is split along the environments."""

STAGES = (
    *("rollout", "rollout/policy", "rollout/environment", "advantages", "shuffle"),
    *("gradients", "optimizer", "all-reduce", "metrics"),
)
"""Scopes of the parts that algorithms share. A profile leaves out those that a step lacks."""


def shard_algorithm(
    layout: Layout,
    *,
    init: Callable[[jax.Array], TrainState],
    rollout: Callable[[Any, Any], tuple[Any, Any]],
    learn: Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]],
    policy: Policy,
    metrics: Mapping[str, Reduction] | None = None,
    stages: tuple[str, ...] = STAGES,
    acting: Acting | None = None,
    remember: Callable[[Any, Any], tuple[Any, Any]] | None = None,
) -> Algorithm:
    """An algorithm on the devices of `layout`, from the functions that each of them runs.

    Args:
      layout: how the logical shards lie on the devices, `Agent.layout`.
      init: `(key) -> state`. The learner is the same on every device, the actor is that of the
        environments on this device, `[N, ...]`, as `agent.init_actor` makes it.
      rollout: `(learner, actor) -> (actor, trajectory [T, N, ...])` over the environments of this
        device, without collectives. With `remember`, it is `Algorithm.collect`.
      learn: `(learner, trajectory) -> (learner, metrics)`, both results the same on every device,
        or JAX refuses to trace it. Sums and gradients over all environments come from
        `jaxdrl.distributed.collectives` and `jaxdrl.distributed.gradient`.
      policy: how a learner acts.
      metrics: how further metrics than `update_metrics.METRICS` are reduced, as in `Algorithm`.
      stages: as in `Algorithm`.
      acting: likewise.
      remember: likewise, over the replay buffer of this device, without collectives.
    """
    begin = pinned()(partial(_init, layout, init))
    act = pinned()(jax.named_scope("rollout")(rollout))
    acted, updated = (ALONG_ENVS, ALONG_ENVS_IN_TIME), (REPLICATED, REPLICATED)
    init = shard(layout, begin, REPLICATED, STATE_SPECS, check_vma=False)
    rollout = collect = shard(layout, act, (REPLICATED, ALONG_ENVS), acted, check_vma=False)
    if remember is not None:
        specs = (ALONG_ENVS, ALONG_ENVS_IN_TIME)
        remember = shard(layout, pinned()(remember), specs, acted, check_vma=False)
        rollout = partial(_rollout, collect, remember)
    learn = shard(layout, learn, (REPLICATED, ALONG_ENVS_IN_TIME), updated)

    def train_step(state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        actor, trajectory = rollout(state.learner, state.actor)
        learner, metrics = learn(state.learner, trajectory)
        return TrainState(learner=learner, actor=actor), metrics

    return Algorithm(
        init=init,
        rollout=rollout,
        learn=learn,
        train_step=train_step,
        policy=policy,
        state_specs=STATE_SPECS,
        trajectory_specs=ALONG_ENVS_IN_TIME,
        metrics={**update_metrics.METRICS, **(metrics or {})},
        stages=stages,
        acting=acting,
        collect=None if remember is None else collect,
        remember=remember,
    )


def _rollout(
    collect: Callable[[Any, Any], tuple[Any, Any]],
    remember: Callable[[Any, Any], tuple[Any, Any]],
    learner: LearnerState,
    actor: ActorState,
) -> tuple[ActorState, Any]:
    """Acts, and then puts the steps into the replay buffer and draws from it."""
    after, steps = collect(learner, replace(actor, replay=()))
    replay, trajectory = remember(actor.replay, steps)
    return replace(after, replay=replay), trajectory


def _init(layout: Layout, init: Callable[[jax.Array], TrainState], key: jax.Array) -> TrainState:
    if layout.reproducible:
        require_reproducible(key)
    return init(key)
