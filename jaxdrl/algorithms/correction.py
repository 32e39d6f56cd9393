"""V-trace for experience that an older policy gathered, with the learner's own policy and values.

Behaviour is the policy that acted: `log_prob` of its actions, and `next_value`, are from it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.algorithms.agent import Agent
from jaxdrl.algorithms.rollout_learner import evaluate_rows, in_rows, in_time
from jaxdrl.core.returns import VTrace, vtrace
from jaxdrl.core.trees import merge_leading_axes
from jaxdrl.core.types import LearnerState, Transition
from jaxdrl.distributed.microbatches import num_parts


def correct(
    data: Any,
    reward: jax.Array,
    log_prob: jax.Array,
    value: jax.Array,
    *,
    gamma: Any,
    lambda_: Any,
    rho_clip: Any,
    c_clip: Any,
    active: Any = (),
) -> VTrace:
    """V-trace of experience `[T, N]`.

    `V(s_{t+1})` is the learner's value of the next step, but for two kinds of steps it is the
    behaviour's, because the successor is not among the observations: where an episode was truncated
    and at the last step.

    Args:
      data: with `log_prob` and `next_value` of the behaviour, `terminated` and `truncated`.
      reward: the reward that counts, which may be a normalised one.
      log_prob: the learner's log-probability of the actions.
      value: the learner's values of the observations.
      gamma: as in `vtrace`.
      lambda_: likewise.
      rho_clip: `clip_rho` and `clip_pg_rho` of `vtrace`.
      c_clip: its `clip_c`.
      active: 0 where an action had no effect, whose ratio of probabilities is then 1; `()` where
        all have.
    """
    log_ratio = log_prob - data.log_prob
    if not isinstance(active, tuple):
        log_ratio = jnp.where(active > 0, log_ratio, 0.0)
    following = jnp.concatenate([value[1:], data.next_value[-1:]])
    return vtrace(
        reward,
        value,
        jnp.where(data.truncated, data.next_value, following),
        data.terminated,
        data.truncated,
        log_ratio,
        gamma=gamma,
        lambda_=lambda_,
        clip_rho=rho_clip,
        clip_c=c_clip,
        clip_pg_rho=rho_clip,
    )


def evaluate_again(
    agent: Agent, learner: LearnerState, trajectory: Transition, config: Any
) -> tuple[jax.Array, jax.Array]:
    """The learner's log-probability and value of each step of a group, float32 `[T, n]`.

    The rows are those of the minibatches, and as many are evaluated at a time as in a gradient
    step, so that this takes no more memory than a gradient step does.

    Args:
      agent: the agent.
      learner: has the parameters and the statistics of the observations.
      trajectory: `[T, n, ...]`.
      config: with `num_minibatches` and `execution`.
    """
    seen = replace(trajectory, carry=())
    rows = replace(in_rows(seen, agent.sequence_length), carry=merge_leading_axes(trajectory.carry))
    num_rows, length = rows.log_prob.shape
    num_rows //= config.num_minibatches
    given = config.execution.num_accumulation_steps
    num = config.num_minibatches * num_parts(agent.layout, num_rows, given, length)

    def of_part(part: Transition) -> tuple[jax.Array, jax.Array]:
        params, statistics = learner.params, learner.obs_statistics
        distribution, value, flat = evaluate_rows(agent, params, statistics, part, remat=False)
        found = (distribution.log_prob(flat.action), value)
        return jax.tree.map(lambda x: x.reshape(length, -1).T, found)

    parts = jax.tree.map(lambda x: x.reshape(num, -1, *x.shape[1:]), rows)
    found = merge_leading_axes(jax.lax.map(of_part, parts))
    return in_time(found, trajectory.reward.shape[1])
