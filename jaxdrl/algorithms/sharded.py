"""From functions that each device runs over its own environments to an `Algorithm` on a mesh."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax

from jaxdrl.algorithms import update_metrics
from jaxdrl.core.keys import pinned, require_reproducible
from jaxdrl.core.types import Algorithm, Policy, Reduction, TrainState
from jaxdrl.distributed.layout import ALONG_ENVS, ALONG_ENVS_IN_TIME, REPLICATED, Layout, shard

STATE_SPECS = TrainState(learner=REPLICATED, actor=ALONG_ENVS)  # type: ignore[arg-type]
"""The learner on every device, the actor split along its environments."""

STAGES = (
    *("rollout", "rollout/policy", "rollout/environment", "advantages", "shuffle"),
    *("gradients", "optimizer", "all-reduce", "metrics"),
)
"""Scopes of the parts that algorithms share; a profile leaves out those that a step has not."""


def shard_algorithm(
    layout: Layout,
    *,
    init: Callable[[jax.Array], TrainState],
    rollout: Callable[[Any, Any], tuple[Any, Any]],
    learn: Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]],
    policy: Policy,
    metrics: Mapping[str, Reduction] | None = None,
    stages: tuple[str, ...] = STAGES,
) -> Algorithm:
    """An algorithm on the devices of `layout`, from what each of them does.

    Args:
      layout: of the logical shards on the devices.
      init: `(key) -> state`: the same learner on every device, and the actor of the environments on
        this one, `[N, ...]`, by `agent.init_actor`.
      rollout: `(learner, actor) -> (actor, trajectory [T, N, ...])`, over the environments of this
        device and without collectives.
      learn: `(learner, trajectory) -> (learner, metrics)`. What it returns has to be the same on
        every device: sums and gradients over all environments come from `collectives` and
        `gradient` of `jaxdrl.distributed`. JAX refuses to trace it otherwise.
      policy: how the learner acts.
      metrics: as in `Algorithm`, those beside `update_metrics.METRICS`.
      stages: as in `Algorithm`.
    """
    begin = pinned()(partial(_init, layout, init))
    act = pinned()(jax.named_scope("rollout")(rollout))
    acted, learnt = (ALONG_ENVS, ALONG_ENVS_IN_TIME), (REPLICATED, REPLICATED)
    init = shard(layout, begin, REPLICATED, STATE_SPECS, check_vma=False)
    rollout = shard(layout, act, (REPLICATED, ALONG_ENVS), acted, check_vma=False)
    learn = shard(layout, learn, (REPLICATED, ALONG_ENVS_IN_TIME), learnt)

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
    )


def _init(layout: Layout, init: Callable[[jax.Array], TrainState], key: jax.Array) -> TrainState:
    if layout.reproducible:
        require_reproducible(key)
    return init(key)
