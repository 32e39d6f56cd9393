"""DQN: action values learnt from a replay buffer (Mnih et al. 2015).

environment -> rollout -> replay -> minibatches -> loss -> all-reduced gradient -> params, targets
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh

from jaxdrl.algorithms import optimizers, q_learning, replay_learner
from jaxdrl.algorithms.acting import evaluate_prepared
from jaxdrl.algorithms.agent import Agent
from jaxdrl.algorithms.replay import Minibatch, n_step_return
from jaxdrl.algorithms.replay_learner import Learning
from jaxdrl.checks import checked
from jaxdrl.config.dqn import DQNConfig
from jaxdrl.core import losses
from jaxdrl.core.exploration import EpsilonGreedy
from jaxdrl.core.types import Algorithm, LearnerState, Network, Reduction
from jaxdrl.envs.protocol import Environment
from jaxdrl.networks.build import shapes_of_params

METRICS: dict[str, Reduction] = {"td_loss": "mean", "q_value": "each", "epsilon": "each"}
"""Metrics of DQN beside those of `replay_learner.METRICS`: its loss, the mean value of the actions
in the minibatches, and the probability of a random action in the rollout, a mean over the
environments."""


class DQN(NamedTuple):
    """What the functions of DQN work with.

    Attributes:
      agent: the agent that acts.
      config: the settings.
    """

    agent: Agent
    config: DQNConfig


@checked
def dqn(
    env: Environment,
    config: DQNConfig,
    *,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    mesh: Mesh | None = None,
) -> Algorithm:
    """DQN as pure functions, on one device or sharded over those of a mesh.

    Args:
      env: from `jaxdrl.make`, or an `Environment` of your own, with Discrete actions.
      config: the settings; counts in it are global.
      network: as in `jaxdrl.ppo`, without memory. Its policy outputs are the action values `[N, A]`
        and its value is ignored; with `config.dueling` they are the advantages, and V.
      optimizer: an optax optimiser, as in `jaxdrl.ppo`. None takes Adam.
      mesh: from `jaxdrl.make_mesh`; None computes on one device.

    Returns:
      An `Algorithm`. Its metrics are those of `METRICS`, of `replay_learner.METRICS` and of
      `update_metrics.METRICS`.

    Raises:
      ConfigError: if the mesh does not divide the shards, or if environment, network or optimiser
        break their contracts.
    """
    replay_learner.require_one_agent(env, "DQN")
    agent = q_learning.make_agent(
        env, config, "DQN", mesh=mesh, network=network, action_values=not config.dueling
    )
    replay_learner.require_no_memory(agent, "DQN")
    agent = agent._replace(interpret=partial(_interpret, config), explore=partial(_explore, config))
    if optimizer is None:
        chosen = optimizers.adam(config.max_grad_norm, config.adam_epsilon)
    else:
        chosen = optimizers.of_own(optimizer, shapes_of_params(env, agent.network))
    learning = Learning(
        agent=agent,
        config=config,
        optimizer=chosen,
        loss=partial(loss, DQN(agent, config)),
        targets_of=lambda params: params,
        target_rate=partial(_target_rate, config),
        explored=partial(_explored, config),
    )
    return replay_learner.as_algorithm(learning, METRICS)


def _interpret(
    config: DQNConfig, num_updates: jax.Array, outputs: jax.Array, value: jax.Array
) -> tuple[EpsilonGreedy, jax.Array]:
    """`Agent.interpret` of a network of action values, or of a dueling one."""
    q_values = q_learning.dueling(outputs, value) if config.dueling else outputs
    return q_learning.interpret(config, num_updates, q_values, value)


def _explore(
    config: DQNConfig, distribution: EpsilonGreedy, learner: LearnerState, env_ids: jax.Array
) -> EpsilonGreedy:
    """`Agent.explore`: environment i of N explores with epsilon^(1 + spread i / (N - 1)).

    Horgan et al. 2018, arXiv:1803.00933, section 4.1, with an epsilon that may change.
    """
    del learner
    return replace(distribution, epsilon=_of_envs(config, distribution.epsilon, env_ids))


def _explored(config: DQNConfig, learner: LearnerState) -> dict[str, jax.Array]:
    """`Learning.explored`: the mean epsilon of all environments."""
    epsilon = q_learning.epsilon(config, learner.num_updates)
    env_ids = jnp.arange(config.num_envs, dtype=jnp.int32)
    return {"epsilon": _of_envs(config, epsilon, env_ids).mean()}


def _of_envs(config: DQNConfig, epsilon: jax.Array, env_ids: jax.Array) -> jax.Array:
    """The epsilon of each environment `[N]`, from that of the first."""
    place = env_ids.astype(jnp.float32) / max(config.num_envs - 1, 1)
    return epsilon ** (1.0 + config.epsilon_spread * place)


def _target_rate(config: DQNConfig, number: jax.Array) -> Any:
    """`Learning.target_rate`: 0, but for every `target_update_every`th gradient step."""
    is_time = (number + 1) % config.target_update_every == 0
    return jnp.where(is_time, jnp.float32(config.target_update_rate), 0.0)


def loss(
    dqn: DQN, learner: LearnerState, params: Any, batch: Minibatch
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The mean of h(Q(s, a) - y), with half the square or the Huber loss for h.

        y = R + gamma^m Q'(s', b),   b = argmax_b Q(s', b) if `double_q`, else argmax_b Q'(s', b)

    over the actions that are allowed, with the m-step return R, the target network Q', and no
    gradient through y. Mnih et al. 2015; van Hasselt et al. 2016, arXiv:1509.06461.

    Args:
      dqn: the agent and the settings.
      learner: has the parameters of the target network, and statistics of the observations.
      params: network parameters.
      batch: a minibatch, `[rows, ...]`.

    Returns:
      `(loss, metrics)`.
    """
    config = dqn.config
    obs, next_obs = replay_learner.prepared(dqn.agent, learner, batch)
    q_values = _q_values(dqn, learner, params, obs, batch.obs)
    q_value = q_learning.of_action(q_values, batch.action)

    following = _q_values(dqn, learner, learner.target_params, next_obs, batch.next_obs)
    choosing = following
    if config.double_q:
        constant = jax.lax.stop_gradient(params)
        choosing = _q_values(dqn, learner, constant, next_obs, batch.next_obs)
    next_value = q_learning.of_action(following, jnp.argmax(choosing, axis=-1).astype(jnp.int32))
    reward, discount = n_step_return(batch, config.gamma)
    target = jax.lax.stop_gradient(config.reward_scale * reward + discount * next_value)
    error_loss = losses.huber_value if config.loss == "huber" else losses.squared_value
    td_loss = (batch.weight * error_loss(q_value, target)).mean()
    return td_loss, {"td_loss": td_loss, "q_value": q_value.mean()}


def _q_values(dqn: DQN, learner: LearnerState, params: Any, x: Any, obs: Any) -> jax.Array:
    """Q(s, a) `[rows, A]` of `obs`, prepared as `x`; -inf for actions that are not allowed."""
    num_rows = jax.tree.leaves(obs)[0].shape[0]
    start = jnp.zeros((num_rows,), jnp.bool)
    seen = replace(learner, params=params)
    distribution: Any = evaluate_prepared(dqn.agent, seen, (), x, obs, start)[0]
    return distribution.q_values
