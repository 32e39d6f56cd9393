"""What PPO minimises, with terms of a user's own beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.algorithms import agent
from jaxdrl.algorithms.agent import Parts
from jaxdrl.algorithms.minibatch_sgd import Batch
from jaxdrl.checks import require
from jaxdrl.core import losses
from jaxdrl.core.distributions import Distribution
from jaxdrl.core.keys import abstract_key
from jaxdrl.core.preprocessing import prepared, zeros
from jaxdrl.errors import ConfigError

ExtraLoss = Callable[[Any, Batch, Distribution, jax.Array], dict[str, jax.Array]]
"""`(params, batch, distribution, value) -> {name: term}`, as in `jaxdrl.ppo`."""

METRICS = (
    *("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction"),
    *("explained_variance", "grad_norm", "learning_rate"),
    *("episode_return_sum", "episode_length_sum", "num_episodes", "skipped_steps"),
    *("nonfinite_values", "nonfinite_observations", "nonfinite_rewards", "nonfinite_params"),
    "states_without_action",
)
"""Names that a term cannot have."""


def loss(
    parts: Parts, statistics: Any, params: Any, batch: Batch
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Clipped surrogate + value_coef * value loss - entropy_coef * entropy + terms, and its parts.

    Args:
      parts: the agent's.
      statistics: of the observations, or None.
      params: network parameters.
      batch: `[rows, L, ...]`.
    """
    config = parts.config
    evaluate: Any = partial(agent.evaluate_sequences, parts)
    if config.execution.remat:
        evaluate = jax.checkpoint(evaluate)
    carry = batch.carry
    batch = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), replace(batch, carry=()))
    distribution, value = evaluate(params, statistics, carry, batch.obs, batch.episode_start)
    batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
    log_prob = distribution.log_prob(batch.action)
    epsilon = config.clip_epsilon
    policy_loss = losses.clipped_surrogate(
        log_prob, batch.log_prob, batch.advantage, clip_epsilon=epsilon
    ).mean()
    if config.value_clip_epsilon is None:
        value_loss = losses.squared_value(value, batch.target).mean()
    else:
        value_loss = losses.clipped_value(
            value, batch.value, batch.target, clip_epsilon=config.value_clip_epsilon
        ).mean()
    entropy = distribution.entropy().mean()
    total = policy_loss + config.value_coef * value_loss - config.entropy_coef * entropy
    metrics = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approx_kl": losses.approx_kl(log_prob, batch.log_prob).mean(),
        "clip_fraction": losses.clip_fraction(
            log_prob, batch.log_prob, clip_epsilon=epsilon
        ).mean(),
    }
    if parts.extra_loss is None:
        return total, metrics
    terms = parts.extra_loss(params, batch, distribution, value)
    means = {name: jnp.mean(term) for name, term in terms.items()}
    return total + sum(means.values()), metrics | means


def check_extra_loss(parts: Parts, num: int = 7) -> None:
    """Refuses terms that are not a number for each of `num` samples, or have the name of a metric.

    Only traces them. What they raise themselves comes through.

    Raises:
      ConfigError: naming the term, and what it has to be.
    """
    extra_loss, env = parts.extra_loss, parts.env
    if extra_loss is None:
        return

    def found(key: jax.Array) -> dict[str, jax.Array]:
        params_key, reset_key, action_key = jax.random.split(key, 3)
        params = parts.network.init(params_key, zeros(prepared(env.observation_space, num)))
        reset = jax.vmap(env.reset, in_axes=(0, None))
        obs, _ = reset(jax.random.split(reset_key, num), env.default_params)
        start = jnp.ones((1, num), jnp.bool)
        sequence = jax.tree.map(lambda x: x[None], obs)
        carry = parts.network.initial_carry(num)
        seen = agent.evaluate_sequences(parts, params, None, carry, sequence, start)
        distribution, value = seen
        keys = jax.random.split(action_key, num)
        action = jax.vmap(lambda row, key: row.sample(key))(distribution, keys)
        log_prob = distribution.log_prob(action)
        batch = Batch(obs, action, log_prob, value, value, value, start[0], ())
        return extra_loss(params, batch, distribution, value)

    terms = jax.eval_shape(found, abstract_key())
    if not isinstance(terms, dict) or not all(isinstance(name, str) for name in terms):
        raise ConfigError(f"extra_loss: gives {terms}; must give a dictionary of terms by name")
    for name, term in terms.items():
        require(name not in METRICS, "extra_loss", name, "is a metric already; take another name")
        right = isinstance(term, jax.ShapeDtypeStruct) and term.shape in ((), (num,))
        if not right or str(term.dtype) != "float32":
            given = f"{term.dtype} of shape {term.shape}" if hasattr(term, "shape") else repr(term)
            raise ConfigError(
                f"extra_loss[{name!r}]: is {given} for {num} samples; must be float32 of shape "
                f"({num},), a number for each sample, or () if it depends on params alone"
            )
