"""Running statistics and metrics of an update, over the environments of all devices."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.algorithms import opponents
from jaxdrl.algorithms.agent import Agent
from jaxdrl.algorithms.seating import Seating
from jaxdrl.core import running_statistics
from jaxdrl.core.distributions import has_action
from jaxdrl.core.finiteness import count_unusable, is_usable
from jaxdrl.core.magnitude import MAX_MAGNITUDE
from jaxdrl.core.preprocessing import prepare_observation
from jaxdrl.core.running_statistics import update_statistics
from jaxdrl.core.trees import merge_leading_axes
from jaxdrl.core.types import REQUIRED_METRICS, LearnerState, Reduction, Transition
from jaxdrl.distributed.collectives import moments, sum_groups
from jaxdrl.distributed.groups import map_groups
from jaxdrl.distributed.layout import Layout
from jaxdrl.envs.protocol import Environment

METRICS: dict[str, Reduction] = {
    **REQUIRED_METRICS,
    "nonfinite_values": "mean",
    "nonfinite_observations": "mean",
    "nonfinite_rewards": "mean",
    "states_without_action": "sum",
}
"""Metrics that algorithms share, and how each is reduced over members, as in `Algorithm`.

`nonfinite_values` is the sum of `nonfinite_observations` and `nonfinite_rewards`, which count the
numbers that are NaN, infinite or beyond 1e15: running statistics and returns leave them out.
`states_without_action` exists only where the environment has an `action_mask`. With several agents,
`episode_return_sum` adds up the means of their returns, and there is a sum for each of them as well
(`of_agents`).
"""


def of_agents(env: Environment, seating: Seating | None = None) -> dict[str, Reduction]:
    """The metrics that an environment of several agents has in addition, as `METRICS`."""
    found: dict[str, Reduction] = {
        f"agent_{i}_return_sum": "sum" for i in range(env.num_agents or 0)
    }
    return found if seating is None else found | opponents.METRICS


@jax.named_scope("metrics")
def update_obs_statistics(agent: Agent, learner: LearnerState, trajectory: Transition) -> Any:
    """Adds the observations of a trajectory, grouped `[G, T, n, ...]`, to the running moments."""
    if learner.obs_statistics is None:
        return None
    old = learner.obs_statistics.mean

    def usable(x: jax.Array, mean: jax.Array) -> jax.Array:
        return jnp.where(is_usable(x), x, running_statistics.expand(mean, x))

    def flat(obs: Any) -> Any:
        obs = merge_leading_axes(obs)
        return jax.tree.map(usable, prepare_observation(agent.env.observation_space, obs), old)

    obs = map_groups(agent.layout, flat, trajectory.obs)
    mean, variance = moments(agent.layout, obs, axis=0)
    count = agent.layout.num_devices * trajectory.reward.size
    return update_statistics(learner.obs_statistics, count, mean, variance)


@jax.named_scope("metrics")
def update_return_statistics(layout: Layout, learner: LearnerState, trajectory: Transition) -> Any:
    """Adds its discounted returns to the running moments."""
    if learner.return_statistics is None:
        return None
    # In two steps, as for observations: where XLA sums over time and environments at once, the
    # order depends on how the shards lie on the devices.
    returns = map_groups(layout, lambda x: x.reshape(-1), trajectory.discounted_return)
    mean, variance = moments(layout, returns, axis=0)
    count = layout.num_devices * trajectory.reward.size
    return update_statistics(learner.return_statistics, count, mean, variance)


def episode_metrics(
    agent: Agent, trajectory: Transition, *, normalizes_rewards: bool = False
) -> dict[str, jax.Array]:
    """The metrics of `METRICS` that depend on a trajectory, over all devices.

    Args:
      agent: the agent.
      trajectory: the trajectory, grouped `[G, T, n, ...]`.
      normalizes_rewards: whether to count discounted returns that were cut at `MAX_MAGNITUDE` among
        the non-finite rewards, too.
    """
    sums = partial(_sums, agent, normalizes_rewards)
    return sum_groups(agent.layout, map_groups(agent.layout, sums, trajectory))


@jax.named_scope("metrics")
def _sums(agent: Agent, normalizes_rewards: bool, trajectory: Transition) -> dict[str, jax.Array]:
    env = agent.env
    bad_obs = jnp.stack([count_unusable(x) for x in jax.tree.leaves(trajectory.obs)]).sum()
    is_bad = ~is_usable(trajectory.reward)
    if normalizes_rewards:
        is_bad |= jnp.abs(trajectory.discounted_return) >= MAX_MAGNITUDE
    bad_rewards = is_bad.sum(dtype=jnp.float32)
    found = _sums_of_episodes(agent, trajectory) | {
        "nonfinite_observations": bad_obs,
        "nonfinite_rewards": bad_rewards,
        "nonfinite_values": bad_obs + bad_rewards,
    }
    if env.action_mask is not None:
        allowed = jax.vmap(jax.vmap(env.action_mask))(trajectory.obs)
        stuck = ~has_action(allowed, env.action_space)
        found["states_without_action"] = stuck.reshape(-1).sum(dtype=jnp.float32)
    return found


def _sums_of_episodes(agent: Agent, trajectory: Transition) -> dict[str, jax.Array]:
    env, seating = agent.env, agent.seating
    ended = (trajectory.terminated | trajectory.truncated).astype(jnp.float32)
    returns, lengths = trajectory.episode_return, trajectory.episode_length
    against_pool = {}
    if seating is not None:
        own, against = seating.split_learner_rows(agent.layout.shards_per_group)
        sums = (returns[:, against] * ended[:, against]).sum(), ended[:, against].sum()
        against_pool = dict(zip(opponents.METRICS, sums, strict=True))
        ended, returns, lengths = ended[:, own], returns[:, own], lengths[:, own]
    found = {
        "episode_return_sum": (returns * ended).sum(),
        "episode_length_sum": (lengths.astype(jnp.float32) * ended).sum(),
        "num_episodes": ended.sum(),
    }
    if env.num_agents is not None:
        found = {name: x / env.num_agents for name, x in found.items()}
        of_each = (returns * ended).reshape(-1, env.num_agents).sum(axis=0)
        found |= {name: of_each[i] for i, name in enumerate(of_agents(env))}
    return found | against_pool


@jax.named_scope("metrics")
def explained_variance(layout: Layout, batch: Any) -> jax.Array:
    """1 - Var(target - value) / Var(target) of a batch; 0 where undefined or not finite."""
    _, (target, error) = moments(layout, (batch.target, batch.target - batch.value))
    varies = (target > 0) & jnp.isfinite(target) & jnp.isfinite(error)
    share = jnp.where(varies, error, 1.0) / jnp.where(varies, target, 1.0)
    return jnp.where(varies, 1.0 - share, 0.0)
