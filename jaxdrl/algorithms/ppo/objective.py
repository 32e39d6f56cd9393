"""The loss of PPO, with optional terms of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdrl.algorithms import rollout_learner, update_metrics
from jaxdrl.algorithms.acting import evaluate_sequences
from jaxdrl.algorithms.agent import Agent
from jaxdrl.algorithms.batch import Batch
from jaxdrl.algorithms.optimizers import Optimizer
from jaxdrl.algorithms.rollout_learner import evaluate_rows, total_loss
from jaxdrl.checks import require
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.core import losses
from jaxdrl.core.distributions import Distribution
from jaxdrl.core.keys import abstract_key
from jaxdrl.core.losses import weighted_mean
from jaxdrl.core.preprocessing import prepared_shapes, zeros
from jaxdrl.core.types import Reduction
from jaxdrl.envs.agents import to_rows
from jaxdrl.errors import ConfigError

ExtraLoss = Callable[[Any, Batch, Distribution, jax.Array], dict[str, jax.Array]]
"""The user's own terms of the loss: `(params, batch, distribution, value) -> {name: term}`.

Its arguments are the network's parameters, a `Batch` of single samples `[n, ...]`, and the policy
and V `[n]` that the network now has for them. A term is either one number for each sample, float32
`[n]`, or a number that depends on the parameters alone, float32 `[]`. Its mean over all samples is
added to the loss and becomes a metric of that name. Terms cannot be reduced in any other way,
because which samples are seen together depends on the machine.
"""

METRICS: dict[str, Reduction] = rollout_learner.METRICS | {"clip_fraction": "mean"}
"""PPO's own metrics, as `rollout_learner.METRICS`."""


class PPO(NamedTuple):
    """What the functions of PPO work with.

    Attributes:
      agent: the agent that acts.
      config: the settings.
      optimizer: the optimiser of the parameters.
      extra_loss: the user's own terms of the loss, as in `jaxdrl.ppo`.
    """

    agent: Agent
    config: PPOConfig
    optimizer: Optimizer
    extra_loss: ExtraLoss | None = None


def loss(
    ppo: PPO, statistics: Any, params: Any, batch: Batch
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Clipped surrogate + value_coef * value loss - entropy_coef * entropy + extra terms.

    Args:
      ppo: the settings, the agent and the extra terms.
      statistics: running statistics of the observations, or None.
      params: network parameters.
      batch: a minibatch, `[rows, L, ...]`.

    Returns:
      `(loss, metrics)`.
    """
    config = ppo.config
    distribution, value, batch = evaluate_rows(
        ppo.agent, params, statistics, batch, remat=config.execution.remat
    )
    log_prob = distribution.log_prob(batch.action)
    epsilon = config.clip_epsilon
    policy_loss = weighted_mean(
        losses.clipped_surrogate(log_prob, batch.log_prob, batch.advantage, clip_epsilon=epsilon),
        batch.weight,
    )
    if config.value_clip_epsilon is None:
        value_loss = losses.squared_value(value, batch.target).mean()
    else:
        value_loss = losses.clipped_value(
            value, batch.value, batch.target, clip_epsilon=config.value_clip_epsilon
        ).mean()
    total, metrics = total_loss(config, distribution, policy_loss, value_loss, batch.weight)
    kl = losses.approx_kl(log_prob, batch.log_prob)
    clipped = losses.clip_fraction(log_prob, batch.log_prob, clip_epsilon=epsilon)
    metrics |= {
        "approx_kl": weighted_mean(kl, batch.weight),
        "clip_fraction": weighted_mean(clipped, batch.weight),
    }
    if ppo.extra_loss is None:
        return total, metrics
    terms = ppo.extra_loss(params, batch, distribution, value)
    means = {name: jnp.mean(term) for name, term in terms.items()}
    return total + sum(means.values()), metrics | means


def check_extra_loss(extra_loss: ExtraLoss, agent: Agent, num: int = 7) -> None:
    """Refuses terms that are not one number for each of `num` samples, or are named as a metric.

    They are only traced. Errors that they raise themselves are passed on.

    Raises:
      ConfigError: naming the term and what it must be.
    """
    env = agent.env

    def found(key: jax.Array) -> dict[str, jax.Array]:
        params_key, reset_key, action_key = jax.random.split(key, 3)
        params = agent.network.init(params_key, zeros(prepared_shapes(env.observation_space, num)))
        reset = jax.vmap(env.reset, in_axes=(0, None))
        obs, _ = reset(jax.random.split(reset_key, num), env.default_params)
        obs = jax.tree.map(lambda x: x[:num], to_rows(env.num_agents, obs))
        start = jnp.ones((1, num), jnp.bool)
        sequence = jax.tree.map(lambda x: x[None], obs)
        carry = agent.network.initial_carry(num)
        seen = evaluate_sequences(agent, params, None, carry, sequence, start)
        distribution, value = seen
        keys = jax.random.split(action_key, num)
        action = jax.vmap(lambda row, key: row.sample(key))(distribution, keys)
        log_prob = distribution.log_prob(action)
        batch = Batch(obs, action, log_prob, value, value, value, start[0], ())
        return extra_loss(params, batch, distribution, value)

    terms = jax.eval_shape(found, abstract_key())
    if not isinstance(terms, dict) or not all(isinstance(name, str) for name in terms):
        raise ConfigError(f"extra_loss: gives {terms}; must give a dictionary of terms by name")
    taken = METRICS | update_metrics.METRICS
    for name, term in terms.items():
        require(name not in taken, "extra_loss", name, "is a metric already; take another name")
        right = isinstance(term, jax.ShapeDtypeStruct) and term.shape in ((), (num,))
        if not right or str(term.dtype) != "float32":
            given = f"{term.dtype} of shape {term.shape}" if hasattr(term, "shape") else repr(term)
            raise ConfigError(
                f"extra_loss[{name!r}]: is {given} for {num} samples; must be float32 of shape "
                f"({num},), a number for each sample, or () if it depends on params alone"
            )
