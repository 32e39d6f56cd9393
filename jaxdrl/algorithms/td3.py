"""TD3: an actor without noise of its own, and two critics (Fujimoto et al. 2018, arXiv:1802.09477).

environment -> rollout -> replay -> smoothed targets and loss -> all-reduced gradient -> params
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh

from jaxdrl.algorithms import replay_learner, twin_critics
from jaxdrl.algorithms.acting import precision_of
from jaxdrl.algorithms.replay import Minibatch
from jaxdrl.algorithms.replay_learner import Learning
from jaxdrl.algorithms.twin_critics import ActorCritics
from jaxdrl.checks import checked
from jaxdrl.config.td3 import TD3Config
from jaxdrl.core import action_values, losses
from jaxdrl.core.distributions import Normal
from jaxdrl.core.types import Algorithm, LearnerState, Network, Reduction
from jaxdrl.envs.protocol import Environment

METRICS: dict[str, Reduction] = dict.fromkeys(("policy_loss", "value_loss", "value"), "mean")
"""Metrics beside those of `replay_learner.METRICS`, means over the gradient steps: the losses of
actor and critics, and what the first critic expects of the actions in the minibatch."""


@checked
def td3(
    env: Environment,
    config: TD3Config,
    *,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    mesh: Mesh | None = None,
) -> Algorithm:
    """TD3 as pure functions, on one device or sharded over those of a mesh.

    Args:
      env: as in `jaxdrl.sac`.
      config: the settings; counts in it are global.
      network: must be None, as in `jaxdrl.sac`.
      optimizer: likewise.
      mesh: from `jaxdrl.make_mesh`; None computes on one device.

    Returns:
      An `Algorithm`, whose metrics are those of `jaxdrl.sac` but for entropy and temperature.

    Raises:
      ConfigError: as in `jaxdrl.sac`.
    """

    def outputs_of(before_tanh: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_std = jnp.log(jnp.asarray(config.min_exploration_noise, jnp.float32))
        return jnp.tanh(before_tanh), jnp.broadcast_to(log_std, before_tanh.shape)

    made = twin_critics.make(
        env,
        config,
        mesh=mesh,
        given={"network": network, "optimizer": optimizer},
        outputs_of=outputs_of,
        has_std=False,
        scalars={},
        num_atoms=config.num_atoms,
    )
    made = made._replace(agent=made.agent._replace(explore=partial(_explore, config)))
    rates = {"actor": config.learning_rate, "critic": config.critic_learning_rate}
    learning = Learning(
        agent=made.agent,
        config=config,
        optimizer=twin_critics.make_optimizer(config, rates, delayed="actor"),
        loss=partial(loss, made),
        targets_of=lambda params: params,
        target_rate=lambda number: jnp.where(
            _due(config, number), config.target_update_rate, jnp.float32(0.0)
        ),
        due=partial(_due, config),
    )
    return replay_learner.as_algorithm(learning, METRICS)


# The functions below run on every device, each over its own environments or rows.


def _due(config: TD3Config, number: jax.Array) -> jax.Array:
    """Whether actor and targets move in the gradient step after `number` others, bool `[]`."""
    return (number + 1) % config.policy_delay == 0


def _explore(
    config: TD3Config, distribution: Normal, learner: LearnerState, env_ids: jax.Array
) -> Normal:
    """`Agent.explore`: noise of each environment, and at first any action.

        sigma_i = min + (max - min) i / (N - 1)

    for environment i of N. Li et al. 2023, arXiv:2307.12983, section 3.1, mixed as in FastTD3.
    """
    share = env_ids.astype(jnp.float32) / max(config.num_envs - 1, 1)
    low, high = config.min_exploration_noise, config.max_exploration_noise
    log_std = jnp.log(low + (high - low) * share)
    log_std = log_std.reshape(-1, *[1] * (distribution.mean.ndim - 1))
    at_first = learner.num_updates * config.env_steps_per_update < config.learning_starts
    return replace(
        distribution,
        mean=jnp.where(at_first, 0.0, distribution.mean),
        log_std=jnp.where(at_first, 0.0, jnp.broadcast_to(log_std, distribution.mean.shape)),
    )


def loss(
    made: ActorCritics, learner: LearnerState, due: jax.Array, params: Any, batch: Minibatch
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The losses of critics and, where it is due, of the actor.

        sum_i (Q_i(s, a) - y)^2 / 2,   y = R + discount min_i Q'_i(s', clip(pi'(s') + noise, -1, 1))
        -Q_1(s, pi(s))

    Fujimoto et al. 2018, algorithm 1, with n-step returns R. Critics with atoms have a cross
    entropy instead of the square, from the distribution of y by that Q'_i whose mean is lower.

    Args:
      made: agent, settings and networks.
      learner: has the target actor and critics.
      due: whether the actor moves in this gradient step, bool `[]`.
      params: those of actor and critics.
      batch: a minibatch, `[rows, ...]`.

    Returns:
      `(loss, metrics)`.
    """
    obs, next_obs = replay_learner.prepared(made.agent, learner, batch)
    with precision_of(made.agent):
        errors, value = _critic_errors(made, learner, params["critic"], obs, next_obs, batch)

        def of_actor(actor: Any) -> jax.Array:
            action = jnp.tanh(made.parts.actor(actor, obs))
            first = jax.tree.map(lambda x: jax.lax.stop_gradient(x[:1]), params["critic"])
            return -_mean(made.config, made.parts.critics(first, obs, action))[0].mean()

        def of_nothing(actor: Any) -> jax.Array:
            return 0.0 * sum(x.reshape(-1)[0] for x in jax.tree.leaves(actor))

        policy_loss = jax.lax.cond(due, of_actor, of_nothing, params["actor"])
    value_loss = (batch.weight * errors).mean()
    # Metrics are means over all gradient steps, of which one in `policy_delay` has this loss.
    seen = policy_loss * made.config.policy_delay
    metrics = {"policy_loss": seen, "value_loss": value_loss, "value": value.mean()}
    return value_loss + policy_loss, metrics


def _critic_errors(
    made: ActorCritics,
    learner: LearnerState,
    params: Any,
    obs: Any,
    next_obs: Any,
    batch: Minibatch,
) -> tuple[jax.Array, jax.Array]:
    """`(error, value)` of each row: both critics' error, and what the first expects; `[rows]`."""
    config, critics, targets = made.config, made.parts.critics, learner.target_params
    (noise,) = twin_critics.noise_of(made, batch, 1)
    clip = config.target_noise_clip
    smoothing = jnp.clip(config.target_noise * noise, -clip, clip)
    next_action = jnp.tanh(made.parts.actor(targets["actor"], next_obs)) + smoothing
    next_q = critics(targets["critic"], next_obs, jnp.clip(next_action, -1.0, 1.0))
    q_values = critics(params, obs, jnp.clip(batch.action, -1.0, 1.0))
    returns, discount = twin_critics.returns_of(made, batch)
    if config.num_atoms is None:
        target = jax.lax.stop_gradient(action_values.clipped_double_q(returns, discount, next_q))
        errors = losses.squared_value(q_values, jnp.broadcast_to(target, q_values.shape))
    else:
        means = _mean(config, next_q)
        is_first = (means[0] <= means[1])[:, None]
        probs = jax.nn.softmax(jnp.where(is_first, next_q[0], next_q[1]))
        bounds = config.v_min, config.v_max
        target = action_values.project(probs, returns, discount, *bounds)
        target = jax.lax.stop_gradient(target)[None]
        errors = action_values.cross_entropy(jnp.broadcast_to(target, q_values.shape), q_values)
    return errors.sum(axis=0), _mean(config, q_values)[0]


def _mean(config: TD3Config, outputs: jax.Array) -> jax.Array:
    """The mean returns `[K, N]` of what critics give."""
    if config.num_atoms is None:
        return outputs
    return action_values.mean_of_atoms(outputs, config.v_min, config.v_max)
