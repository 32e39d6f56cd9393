"""Learning from one rollout, which is then discarded: what PPO, IMPALA and PQN share.

The functions run on every device, each over its own environments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdrl.algorithms import minibatch_sgd, opponents, update_metrics
from jaxdrl.algorithms.acting import acting_of, collect_rollout, evaluate_sequences, policy_of
from jaxdrl.algorithms.agent import Agent, init_actor, init_obs_statistics, init_params
from jaxdrl.algorithms.batch import Batch
from jaxdrl.algorithms.minibatch_sgd import Schedule
from jaxdrl.algorithms.optimizers import Optimizer, learning_rate
from jaxdrl.algorithms.sharded import shard_algorithm
from jaxdrl.core import running_statistics
from jaxdrl.core.distributions import Distribution
from jaxdrl.core.losses import weighted_mean
from jaxdrl.core.returns import lambda_returns
from jaxdrl.core.running_statistics import init_statistics
from jaxdrl.core.trees import merge_leading_axes
from jaxdrl.core.types import Algorithm, LearnerState, Reduction, TrainState, Transition
from jaxdrl.distributed.groups import map_groups, split_groups
from jaxdrl.distributed.layout import varying
from jaxdrl.envs.agents import activity

METRICS: dict[str, Reduction] = {
    "policy_loss": "mean",
    "value_loss": "mean",
    "entropy": "each",
    "approx_kl": "each",
    "explained_variance": "each",
    "learning_rate": "each",
    "nonfinite_params": "mean",
}
"""Metrics that these algorithms share, and how each is reduced over members, as in `Algorithm`.

They are means over the gradient steps that an update took, with three exceptions:
`explained_variance` is that of the values before the update, `learning_rate` is absent where an
optimiser is given, and `nonfinite_params` counts skipped steps whose gradient was finite.
"""


class Learning(NamedTuple):
    """How a learner learns from a rollout.

    Attributes:
      agent: the agent that acts.
      config: the settings.
      optimizer: the optimiser of the parameters.
      schedule: epochs and minibatches.
      make_batch: `(learner, trajectory of a group [T, n, ...]) -> batch [rows, L, ...]`, with the
        fields `log_prob`, `value` and `target`. The learner has the new statistics of the returns.
      loss: `(obs_statistics, params, minibatch) -> (loss, metrics)`, as in `minibatch_sgd.Loss`.
    """

    agent: Agent
    config: Any
    optimizer: Optimizer
    schedule: Schedule
    make_batch: Callable[[LearnerState, Transition], Any]
    loss: Callable[[Any, Any, Any], tuple[jax.Array, dict[str, jax.Array]]]


def as_algorithm(
    agent: Agent,
    config: Any,
    optimizer: Optimizer,
    *,
    learn: Callable[[LearnerState, Transition], tuple[LearnerState, dict[str, jax.Array]]],
    metrics: Mapping[str, Reduction],
) -> Algorithm:
    """The algorithm of an agent that learns from each rollout by `learn`."""
    num_steps, gamma = config.num_steps, config.gamma
    return shard_algorithm(
        agent.layout,
        init=partial(init, agent, config, optimizer),
        rollout=partial(collect_rollout, agent, num_steps=num_steps, gamma=gamma),
        learn=learn,
        policy=policy_of(agent),
        metrics={**metrics, **update_metrics.of_agents(agent.env, agent.seating)},
        acting=acting_of(agent, num_steps, gamma),
    )


def init(agent: Agent, config: Any, optimizer: Optimizer, key: jax.Array) -> TrainState:
    """The state before the first update."""
    params_key, env_key, shuffle_key = jax.random.split(key, 3)
    params = init_params(agent, params_key)
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    obs_statistics = init_obs_statistics(agent) if config.normalize_observations else None
    pool: Any = ()
    if agent.seating is not None:
        pool = opponents.full_pool(agent.seating.num_slots, params, obs_statistics)
    learner = LearnerState(
        params=params,
        opt_state=optimizer.init(params),
        obs_statistics=obs_statistics,
        return_statistics=init_statistics(scalar) if config.normalize_rewards else None,
        key=shuffle_key,
        num_updates=jnp.zeros((), jnp.int32),
        pool=pool,
    )
    return TrainState(learner=learner, actor=init_actor(agent, env_key, config.num_envs))


def learn(
    learning: Learning, learner: LearnerState, trajectory: Transition
) -> tuple[LearnerState, dict[str, jax.Array]]:
    """Takes the gradient steps of one update, `(learner, metrics)`."""
    agent, config, layout = learning.agent, learning.config, learning.agent.layout
    optimizer = learning.optimizer
    trajectory = split_groups(layout, trajectory, axis=1)
    sums = update_metrics.episode_metrics(
        agent, trajectory, normalizes_rewards=config.normalize_rewards
    )
    returns = update_metrics.update_return_statistics(layout, learner, trajectory)
    learner = replace(learner, return_statistics=returns)
    batch = map_groups(layout, partial(learning.make_batch, learner), trajectory)
    epoch_key, next_key = jax.random.split(learner.key)
    rate = learning_rate(config, learner.num_updates)
    explained_variance = update_metrics.explained_variance(layout, batch)
    (params, opt_state), metrics = minibatch_sgd.fit(
        layout,
        partial(learning.loss, varying(layout, learner.obs_statistics)),
        optimizer,
        learning.schedule,
        (learner.params, learner.opt_state),
        merge_leading_axes(batch),
        epoch_key,
        rate,
    )
    metrics |= sums | {"explained_variance": explained_variance}
    if "learning_rate" in optimizer.takes:
        metrics["learning_rate"] = jnp.asarray(rate, jnp.float32)
    learner = replace(
        learner,
        params=params,
        opt_state=opt_state,
        obs_statistics=update_metrics.update_obs_statistics(agent, learner, trajectory),
        key=next_key,
        num_updates=learner.num_updates + 1,
    )
    if agent.seating is not None:
        learner = replace(learner, pool=opponents.renew(agent.seating, learner))
    return learner, metrics


def scaled_reward(config: Any, learner: LearnerState, trajectory: Transition) -> jax.Array:
    """The reward, normalised where the learner has statistics of the returns."""
    if learner.return_statistics is None:
        return trajectory.reward
    return running_statistics.scale(
        trajectory.reward, learner.return_statistics, config.reward_clip
    )


def schedule_of(agent: Agent, config: Any, *, num_epochs: int, **more: Any) -> Schedule:
    """Epochs of minibatches of sequences; `more` are further fields of the schedule."""
    return Schedule(
        rows_per_env=config.num_steps // agent.sequence_length,
        num_epochs=num_epochs,
        num_minibatches=config.num_minibatches,
        num_accumulation_steps=config.execution.num_accumulation_steps,
        **more,
    )


def targets_of(config: Any, trajectory: Transition, reward: jax.Array, lambda_: Any) -> jax.Array:
    """Lambda-returns of a trajectory, with the values of the network that acted."""
    return lambda_returns(
        reward,
        trajectory.next_value,
        trajectory.terminated,
        trajectory.truncated,
        gamma=config.gamma,
        lambda_=lambda_,
    )


def make_rows(
    agent: Agent, trajectory: Transition, value: jax.Array, target: jax.Array, advantage: Any = ()
) -> Batch:
    """A trajectory of one group in rows of `L` steps: `[T / L * N, L, ...]`."""
    batch = Batch(
        obs=trajectory.obs,
        action=trajectory.action,
        log_prob=trajectory.log_prob,
        value=value,
        target=target,
        advantage=advantage,
        episode_start=trajectory.episode_start,
        carry=(),
        weight=() if isinstance(advantage, tuple) else activity(agent.env, trajectory.obs),
    )
    rows = in_rows(batch, agent.sequence_length)
    return replace(rows, carry=merge_leading_axes(trajectory.carry))


def in_rows(tree: Any, length: int) -> Any:
    """Cuts `[T, n, ...]` into rows of `L` steps, `[T / L * n, L, ...]`."""

    def cut(x: jax.Array) -> jax.Array:
        x = x.reshape(-1, length, *x.shape[1:])
        return jnp.moveaxis(x, 1, 2).reshape(-1, length, *x.shape[3:])

    return jax.tree.map(cut, tree)


def in_time(tree: Any, num_envs: int) -> Any:
    """Undoes `in_rows`: rows `[T / L * n, L, ...]` to `[T, n, ...]`."""

    def join(x: jax.Array) -> jax.Array:
        x = x.reshape(-1, num_envs, *x.shape[1:])
        return jnp.moveaxis(x, 2, 1).reshape(-1, num_envs, *x.shape[3:])

    return jax.tree.map(join, tree)


def evaluate_rows(
    agent: Agent, params: Any, statistics: Any, batch: Any, *, remat: bool
) -> tuple[Distribution, jax.Array, Any]:
    """Evaluates the network on rows of steps.

    Args:
      agent: the agent.
      params: network parameters.
      statistics: running statistics of the observations, or None.
      batch: `[rows, L, ...]`, with `obs`, `episode_start` and `carry`.
      remat: whether a gradient computes the activations again.

    Returns:
      `(distribution, value, batch)`, each with one leading axis of `L * rows` steps, all rows of a
      step together.
    """
    evaluate: Any = partial(evaluate_sequences, agent)
    if remat:
        evaluate = jax.checkpoint(evaluate)
    carry = batch.carry
    batch = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), replace(batch, carry=()))
    distribution, value = evaluate(params, statistics, carry, batch.obs, batch.episode_start)
    return distribution, value, merge_leading_axes(batch)


def total_loss(
    config: Any,
    distribution: Distribution,
    policy_loss: jax.Array,
    value_loss: jax.Array,
    weight: Any,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Policy loss + value_coef * value loss - entropy_coef * entropy, and these as metrics."""
    entropy = weighted_mean(distribution.entropy(), weight)
    total = policy_loss + config.value_coef * value_loss - config.entropy_coef * entropy
    return total, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
