"""A network in an environment: what it sees, how it acts, what it is worth."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import jax
import optax

from jaxdrl.algorithms import rollout
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.core import running_statistics
from jaxdrl.core.distributions import ActionHead, Distribution, mask_logits
from jaxdrl.core.preprocessing import prepare_observation
from jaxdrl.core.types import LearnerState, Network
from jaxdrl.distributed.sharding import Layout
from jaxdrl.envs.protocol import Environment
from jaxdrl.networks import actor_critic


class Parts(NamedTuple):
    """What the functions of one agent are made of.

    Attributes:
      env: the environment.
      config: settings.
      network: policy and value.
      optimizer: of the parameters.
      head: how the policy acts.
      layout: of the logical shards on the devices.
      sequence_length: steps in a row that the network learns from, 1 without memory.
      extra_loss: the user's terms of the loss, as in `jaxdrl.ppo`.
      optimizer_takes: what the optimiser's update is given beside the gradient.
    """

    env: Environment
    config: PPOConfig
    network: Network
    optimizer: optax.GradientTransformationExtraArgs
    head: ActionHead
    layout: Layout
    sequence_length: int
    extra_loss: Any = None
    optimizer_takes: tuple[str, ...] = ("learning_rate",)


def evaluate_step(
    parts: Parts, learner: LearnerState, carry: Any, obs: Any, episode_start: jax.Array
) -> tuple[Distribution, jax.Array, Any]:
    """`(distribution of actions, value [N], carry)` for observations of the environment."""
    x = _prepare(parts, learner.obs_statistics, obs)
    with _precision(parts):
        outputs, value, carry = parts.network.apply(learner.params, carry, x, episode_start)
    return _distribution(parts, outputs, obs), value, carry


def evaluate_sequences(
    parts: Parts, params: Any, statistics: Any, carry: Any, obs: Any, episode_start: jax.Array
) -> tuple[Distribution, jax.Array]:
    """The same for sequences as they were acted in, all of whose steps are known.

    Args:
      parts: the agent's.
      params: network parameters.
      statistics: of the observations, or None.
      carry: before the first step, `[N, ...]`.
      obs: `[T, N, ...]`.
      episode_start: bool `[T, N]`.

    Returns:
      `(distribution, value)`, each with one axis of `T * N` steps.
    """

    def merge(x: jax.Array) -> jax.Array:
        return x.reshape(-1, *x.shape[2:])

    flat = jax.tree.map(merge, obs)
    x = _prepare(parts, statistics, flat)
    x = jax.tree.map(lambda x: x.reshape(*episode_start.shape, *x.shape[1:]), x)
    with _precision(parts):
        outputs, value = actor_critic.unroll(parts.network, params, carry, x, episode_start)
    outputs, value = jax.tree.map(merge, (outputs, value))
    return _distribution(parts, outputs, flat), value


def decide(
    parts: Parts, learner: LearnerState, carry: Any, obs: Any, episode_start: Any, keys: jax.Array
) -> rollout.Decision:
    """Samples an action for each of `N` environments with a key of its own, `keys [N]`."""
    distribution, value, carry = evaluate_step(parts, learner, carry, obs, episode_start)
    action = jax.vmap(lambda row, key: row.sample(key))(distribution, keys)
    log_prob = distribution.log_prob(action)
    return rollout.Decision(action, parts.head.to_env(action), log_prob, value, carry)


def act(
    parts: Parts,
    learner: LearnerState,
    carry: Any,
    obs: Any,
    episode_start: Any,
    key: jax.Array,
    *,
    deterministic: bool = False,
) -> tuple[Any, Any]:
    """The `act` of a `jaxdrl.core.types.Policy`."""
    if not deterministic:
        keys = jax.random.split(key, episode_start.shape[0])
        decision = decide(parts, learner, carry, obs, episode_start, keys)
        return decision.env_action, decision.carry
    distribution, _, carry = evaluate_step(parts, learner, carry, obs, episode_start)
    return parts.head.to_env(distribution.mode()), carry


def value_of(
    parts: Parts, learner: LearnerState, carry: Any, obs: Any, episode_start: Any
) -> jax.Array:
    """V(obs), float32 `[N]`."""
    return evaluate_step(parts, learner, carry, obs, episode_start)[1]


def _prepare(parts: Parts, statistics: Any, obs: Any) -> Any:
    """Observations `[N, ...]` as the network takes them."""
    x = prepare_observation(parts.env.observation_space, obs)
    if statistics is None:
        return x
    return running_statistics.normalize(x, statistics, parts.config.observation_clip)


def _distribution(parts: Parts, outputs: Any, obs: Any) -> Distribution:
    """The distribution of outputs `[N, ...]`, over the actions that the environment allows."""
    if parts.env.action_mask is not None:
        allowed = jax.vmap(parts.env.action_mask)(obs)
        outputs = mask_logits(outputs, allowed, parts.env.action_space)
    return parts.head.distribution(outputs)


def _precision(parts: Parts) -> AbstractContextManager:
    precision = parts.config.execution.matmul_precision
    return nullcontext() if precision == "default" else jax.default_matmul_precision(precision)
