"""SAC: an actor that keeps its entropy, and two critics (Haarnoja et al. 2018, arXiv:1812.05905).

environment -> rollout -> replay -> soft targets and loss -> all-reduced gradient -> params, targets
"""

from __future__ import annotations

import math
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
from jaxdrl.checks import checked, require
from jaxdrl.config.sac import SACConfig
from jaxdrl.core import losses
from jaxdrl.core.action_values import clipped_double_q, temperature_loss
from jaxdrl.core.distributions import TanhNormal
from jaxdrl.core.types import Algorithm, LearnerState, Network, Reduction
from jaxdrl.envs.protocol import Environment

METRICS: dict[str, Reduction] = {
    **dict.fromkeys(("policy_loss", "value_loss", "value", "entropy"), "mean"),
    "temperature": "each",
}
"""Metrics beside those of `replay_learner.METRICS`, means over the gradient steps: the losses of
actor and critics, what the lower critic expects of the actor, the entropy of the policy and its
weight."""


HELD_LOG_STD = -10.0
"""Log of the deviation at each step where the noise is that of a whole rollout."""


@checked
def sac(
    env: Environment,
    config: SACConfig,
    *,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    mesh: Mesh | None = None,
) -> Algorithm:
    """SAC as pure functions, on one device or sharded over those of a mesh.

    Args:
      env: from `jaxdrl.make`, or an `Environment` of your own; its actions have finite bounds.
      config: the settings; counts in it are global.
      network: must be None: actor and critics are those of `config.network`.
      optimizer: must be None: each part has an Adam of its own.
      mesh: from `jaxdrl.make_mesh`; None computes on one device.

    Returns:
      An `Algorithm`. Its metrics are those of `jaxdrl.algorithms.update_metrics.METRICS`, of
      `jaxdrl.algorithms.replay_learner.METRICS` and of `METRICS`.

    Raises:
      ConfigError: if the mesh does not divide the shards, or the environment has other actions.
    """
    rates = {"actor": config.learning_rate, "critic": config.critic_learning_rate}
    scalars = {}
    if config.learn_temperature:
        rates["log_temperature"] = config.temperature_learning_rate
        scalars["log_temperature"] = jnp.log(config.initial_temperature)
    made = twin_critics.make(
        env,
        config,
        mesh=mesh,
        given={"network": network, "optimizer": optimizer},
        outputs_of=lambda outputs: outputs,
        has_std=True,
        scalars=scalars,
    )
    if config.hold_noise:
        works = "must be False for an environment of the host, whose rollouts have no common noise"
        require(env.host is None, "hold_noise", True, works)
        made = made._replace(agent=made.agent._replace(explore=_hold_noise))
    learning = Learning(
        agent=made.agent,
        config=config,
        optimizer=twin_critics.make_optimizer(config, rates),
        loss=partial(loss, made),
        targets_of=lambda params: {"critic": params["critic"]},
        target_rate=lambda number: config.target_update_rate,
    )
    return replay_learner.as_algorithm(learning, METRICS)


# The functions below run on every device, each over its own environments or rows.


def _hold_noise(distribution: TanhNormal, learner: LearnerState, env_ids: jax.Array) -> TanhNormal:
    """`Agent.explore` with the same noise at every step of a rollout."""
    works = "must be False where actors act, whose policies have no key for the noise of a rollout"
    require(not isinstance(learner.key, tuple), "hold_noise", True, works)
    key = jax.random.fold_in(learner.key, learner.num_updates)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, env_ids)
    shape = distribution.mean.shape[1:]
    noise = jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys)
    mean = distribution.mean + jnp.exp(distribution.log_std) * noise
    return replace(distribution, mean=mean, log_std=jnp.full_like(mean, HELD_LOG_STD))


def loss(
    made: ActorCritics, learner: LearnerState, params: Any, batch: Minibatch
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The losses of critics, actor and temperature in one, none of which moves another's part.

        sum_i (Q_i(s, a) - y)^2 / 2,   y = R + discount (min_i Q'_i(s', a') - temperature log pi')
        temperature log pi(a~|s) - min_i Q_i(s, a~),                       a~ drawn from pi
        -temperature (log pi(a~|s) + target_entropy)

    Haarnoja et al. 2018, arXiv:1812.05905, equations 5, 7 and 18, with n-step returns R. Log
    probabilities are those of actions in half-widths of their bounds.

    Args:
      made: agent, settings and networks.
      learner: has the target critics.
      params: those of actor, critics and the logarithm of the temperature.
      batch: a minibatch, `[rows, ...]`.

    Returns:
      `(loss, metrics)`.
    """
    config, critics = made.config, made.parts.critics
    obs, next_obs = replay_learner.prepared(made.agent, learner, batch)
    noise, next_noise = twin_critics.noise_of(made, batch, 2)
    frozen = jax.lax.stop_gradient(params)
    temperature = _temperature(config, frozen)
    returns, discount = twin_critics.returns_of(made, batch)
    with precision_of(made.agent):
        next_action, next_log_prob = _draw(made, frozen["actor"], next_obs, next_noise)
        next_q = critics(learner.target_params["critic"], next_obs, next_action)
        soft = next_q - temperature * next_log_prob[None]
        target = jax.lax.stop_gradient(clipped_double_q(returns, discount, soft))
        q_values = critics(params["critic"], obs, jnp.tanh(batch.action))
        action, log_prob = _draw(made, params["actor"], obs, noise)
        value = critics(frozen["critic"], obs, action).min(axis=0)
    errors = losses.squared_value(q_values, jnp.broadcast_to(target, q_values.shape))
    value_loss = (batch.weight * errors.sum(axis=0)).mean()
    policy_loss = (temperature * log_prob - value).mean()
    metrics = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "value": value.mean(),
        "entropy": -log_prob.mean(),
        "temperature": temperature,
    }
    total = value_loss + policy_loss
    if config.learn_temperature:
        size = math.prod(made.agent.env.action_space.shape)
        constant = jax.lax.stop_gradient(log_prob)
        of_rows = temperature_loss(
            params["log_temperature"], constant, config.target_entropy * size
        )
        total += of_rows.mean()
    return total, metrics


def _temperature(config: SACConfig, params: Any) -> jax.Array:
    if config.learn_temperature:
        return jnp.exp(params["log_temperature"])
    return jnp.asarray(config.initial_temperature, jnp.float32)


def _draw(
    made: ActorCritics, actor: Any, obs: Any, noise: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """`(action [N, *shape], log_prob [N])` that the policy draws with standard normal noise."""
    policy: Any = made.agent.head.distribution(made.parts.actor(actor, obs))
    before_tanh = policy.mean + jnp.exp(policy.log_std) * noise
    return jnp.tanh(before_tanh), policy.log_prob(before_tanh)
