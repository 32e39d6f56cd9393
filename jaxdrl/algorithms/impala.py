"""IMPALA: one pass over each rollout, whoever gathered it (Espeholt et al. 2018, arXiv:1802.01561).

environment -> rollout -> V-trace and loss -> all-reduced gradient -> params
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import optax
from flax import linen as nn
from flax import struct
from jax.sharding import Mesh

from jaxdrl.algorithms import optimizers, rollout_learner
from jaxdrl.algorithms.agent import Agent, make_agent
from jaxdrl.algorithms.correction import correct
from jaxdrl.algorithms.minibatch_sgd import Schedule
from jaxdrl.algorithms.optimizers import Optimizer
from jaxdrl.algorithms.rollout_learner import Learning, evaluate_rows, in_rows, total_loss
from jaxdrl.checks import checked
from jaxdrl.config.impala import IMPALAConfig
from jaxdrl.core import losses
from jaxdrl.core.losses import weighted_mean
from jaxdrl.core.returns import VTrace
from jaxdrl.core.trees import merge_leading_axes
from jaxdrl.core.types import Algorithm, LearnerState, Network, Transition
from jaxdrl.envs.agents import activity
from jaxdrl.envs.protocol import Environment
from jaxdrl.networks.build import shapes_of_params


class IMPALA(NamedTuple):
    """What the functions of IMPALA work with.

    Attributes:
      agent: the agent that acts.
      config: the settings.
      optimizer: the optimiser of the parameters.
    """

    agent: Agent
    config: IMPALAConfig
    optimizer: Optimizer


@struct.dataclass
class Rollouts:
    """Rollouts to learn from, `[rows, T, ...]`: a minibatch, or those of all groups of a device.

    Attributes:
      obs: observations in the environment's own dtype.
      action: sampled actions.
      log_prob: log-probabilities when they were sampled, float32.
      value: V(obs) of the policy that acted, float32.
      target: its lambda-returns, which only `explained_variance` looks at, float32.
      next_value: as in `Transition`, float32.
      reward: the reward that counts, normalised or not, float32.
      terminated: bool.
      truncated: bool.
      episode_start: bool.
      carry: recurrent state before the first step, `[rows, ...]`.
      weight: as in `minibatch_sgd.Batch`.
    """

    obs: Any
    action: Any
    log_prob: jax.Array
    value: jax.Array
    target: jax.Array
    next_value: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    episode_start: jax.Array
    carry: Any
    weight: Any = ()


@checked
def impala(
    env: Environment,
    config: IMPALAConfig,
    *,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    mesh: Mesh | None = None,
) -> Algorithm:
    """IMPALA as pure functions, on one device or sharded over those of a mesh.

    Args:
      env: from `jaxdrl.make`, or an `Environment` of your own.
      config: the settings; counts in it are global.
      network: as in `jaxdrl.ppo`.
      optimizer: an optax optimiser, as in `jaxdrl.ppo`. None takes the one that the config
        describes.
      mesh: from `jaxdrl.make_mesh`; None computes on one device.

    Returns:
      An `Algorithm`. Its metrics are those of `jaxdrl.algorithms.update_metrics.METRICS` and of
      `jaxdrl.algorithms.rollout_learner.METRICS`.

    Raises:
      ConfigError: if the mesh does not divide the shards, or if environment, network or optimiser
        break their contracts.
    """
    agent = make_agent(
        env,
        config.network,
        config.execution,
        mesh=mesh,
        network=network,
        sequence_length=config.num_steps,
        observation_clip=config.observation_clip,
    )
    if optimizer is None:
        made = IMPALA(agent, config, _optimizer(config))
    else:
        own = optimizers.of_own(optimizer, shapes_of_params(env, agent.network))
        made = IMPALA(agent, config, own)
    return rollout_learner.as_algorithm(
        agent, config, made.optimizer, learn=partial(_learn, made), metrics=rollout_learner.METRICS
    )


def _optimizer(config: IMPALAConfig) -> Optimizer:
    if config.optimizer == "adam":
        return optimizers.adam(config.max_grad_norm, config.optimizer_epsilon)
    return optimizers.rmsprop(config.max_grad_norm, config.rmsprop_decay, config.optimizer_epsilon)


# The functions below run on every device, each over its own environments.


def _learn(
    impala: IMPALA, learner: LearnerState, trajectory: Transition
) -> tuple[LearnerState, dict[str, jax.Array]]:
    agent, config, optimizer = impala
    schedule = Schedule(
        rows_per_env=1,
        num_epochs=1,
        num_minibatches=config.num_minibatches,
        num_accumulation_steps=config.execution.num_accumulation_steps,
    )
    parts = (partial(_make_batch, impala), partial(loss, impala))
    return rollout_learner.learn(
        Learning(agent, config, optimizer, schedule, *parts), learner, trajectory
    )


@jax.named_scope("advantages")
def _make_batch(impala: IMPALA, learner: LearnerState, trajectory: Transition) -> Rollouts:
    """The rollouts of one group, a row for each environment: `[N, T, ...]`."""
    config = impala.config
    reward = rollout_learner.scaled_reward(config, learner, trajectory)
    target = rollout_learner.targets_of(config, trajectory, reward, config.vtrace_lambda)
    rollouts = Rollouts(
        obs=trajectory.obs,
        action=trajectory.action,
        log_prob=trajectory.log_prob,
        value=trajectory.value,
        target=target,
        next_value=trajectory.next_value,
        reward=reward,
        terminated=trajectory.terminated,
        truncated=trajectory.truncated,
        episode_start=trajectory.episode_start,
        carry=(),
        weight=activity(impala.agent.env, trajectory.obs),
    )
    carry = merge_leading_axes(trajectory.carry)
    return replace(in_rows(rollouts, config.num_steps), carry=carry)


def loss(
    impala: IMPALA, statistics: Any, params: Any, rollouts: Rollouts
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """V-trace policy gradient + value_coef * value loss - entropy_coef * entropy.

        -min(rho_clip, pi/mu) A_t log pi(a_t|s_t) + value_coef (V(s_t) - vs_t)^2 / 2 - ...

    with `vs_t` and `A_t` of `jaxdrl.core.returns.vtrace`, which are constants here, from the same
    evaluation of the network. Espeholt et al. 2018, section 4.2, with means instead of sums.

    Args:
      impala: the agent and the settings.
      statistics: running statistics of the observations, or None.
      params: network parameters.
      rollouts: a minibatch, `[rows, T, ...]`.

    Returns:
      `(loss, metrics)`.
    """
    config = impala.config
    distribution, value, steps = evaluate_rows(
        impala.agent, params, statistics, rollouts, remat=config.execution.remat
    )
    log_prob = distribution.log_prob(steps.action)

    found = _vtrace(config, steps, rollouts.log_prob.shape[1], log_prob, value)
    gains = losses.policy_gradient(log_prob, found.pg_advantage)
    policy_loss = weighted_mean(gains, steps.weight)
    value_loss = losses.squared_value(value, found.targets).mean()
    total, metrics = total_loss(config, distribution, policy_loss, value_loss, steps.weight)
    kl = losses.approx_kl(log_prob, steps.log_prob)
    return total, metrics | {"approx_kl": weighted_mean(kl, steps.weight)}


def _vtrace(
    config: IMPALAConfig, steps: Rollouts, num_steps: int, log_prob: jax.Array, value: jax.Array
) -> VTrace:
    """V-trace without a gradient; all arrays `[T * n]`, those of a step together."""

    def in_time(x: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(x.reshape(num_steps, -1))

    data = jax.tree.map(in_time, replace(steps, obs=(), action=()))
    found = correct(
        data,
        data.reward,
        in_time(log_prob),
        in_time(value),
        gamma=config.gamma,
        lambda_=config.vtrace_lambda,
        rho_clip=config.rho_clip,
        c_clip=config.c_clip,
        active=data.weight,
    )
    return jax.tree.map(lambda x: x.reshape(-1), found)
