"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347).

environment -> rollout -> advantages -> loss -> all-reduced gradient -> params
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

from jaxdrl.algorithms import minibatch_sgd, optimizers, update_metrics
from jaxdrl.algorithms.agent import (
    Agent,
    acting_of,
    collect_rollout,
    init_actor,
    init_obs_statistics,
    init_params,
    make_agent,
    policy_of,
)
from jaxdrl.algorithms.minibatch_sgd import Batch
from jaxdrl.algorithms.optimizers import Optimizer
from jaxdrl.algorithms.ppo import objective
from jaxdrl.algorithms.ppo.objective import PPO, ExtraLoss
from jaxdrl.algorithms.sharded import shard_algorithm
from jaxdrl.checks import checked
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.core import running_statistics
from jaxdrl.core.returns import gae
from jaxdrl.core.running_statistics import init_statistics
from jaxdrl.core.trees import merge_leading_axes
from jaxdrl.core.types import (
    Algorithm,
    LearnerState,
    Network,
    TrainState,
    Transition,
)
from jaxdrl.distributed.groups import map_groups, split_groups
from jaxdrl.distributed.layout import varying
from jaxdrl.envs.protocol import Environment
from jaxdrl.networks.build import shapes_of_params


@checked
def ppo(
    env: Environment,
    config: PPOConfig,
    *,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    extra_loss: ExtraLoss | None = None,
    mesh: Mesh | None = None,
) -> Algorithm:
    """PPO as pure functions, on one device or sharded over those of a mesh.

    Args:
      env: from `jaxdrl.make`, `jaxdrl.envs.from_gymnax`, or an `Environment` of your own.
      config: the settings; counts in it are global.
      network: a flax module `obs [N, ...] float32 -> (policy_outputs, value [N])`, where obs is an
        array, or a dictionary of arrays if the observation space is a dictionary, and the outputs
        are as in `jaxdrl.Network`; or a `Network`, which may be recurrent
        (`jaxdrl.networks.from_recurrent`). None takes the network that the config describes.
      optimizer: an optax optimiser that needs the gradient and at most the loss (`value`). It is
        used as it is: `learning_rate`, `anneal_env_steps`, `max_grad_norm` and `adam_epsilon` of
        the config are ignored. None takes Adam with these settings.
      extra_loss: your own terms of the loss, an `ExtraLoss`.
      mesh: from `jaxdrl.make_mesh`; None computes on one device.

    Returns:
      An `Algorithm`. Its metrics are those of `jaxdrl.algorithms.update_metrics.METRICS` and of
      `jaxdrl.algorithms.ppo.objective.METRICS`, and one for each term of an `extra_loss`.

    Raises:
      ConfigError: if the mesh does not divide the shards, or if environment, network, optimiser or
        extra loss break their contracts.
    """
    agent = make_agent(
        env,
        config.network,
        config.execution,
        mesh=mesh,
        network=network,
        sequence_length=config.sequence_length or config.num_steps,
        observation_clip=config.observation_clip,
    )
    made = PPO(agent, config, _optimizer(agent, config, optimizer), extra_loss)
    config.check_minibatches(agent.sequence_length)
    if extra_loss is not None:
        objective.check_extra_loss(extra_loss, agent)
    return shard_algorithm(
        agent.layout,
        init=partial(_init, made),
        rollout=partial(collect_rollout, agent, num_steps=config.num_steps, gamma=config.gamma),
        learn=partial(_learn, made),
        policy=policy_of(agent),
        metrics=objective.METRICS,
        acting=acting_of(agent, config.num_steps, config.gamma),
    )


def _optimizer(
    agent: Agent, config: PPOConfig, given: optax.GradientTransformation | None
) -> Optimizer:
    if given is None:
        return optimizers.adam(config.max_grad_norm, config.adam_epsilon)
    return optimizers.of_own(given, shapes_of_params(agent.env, agent.network))


def learning_rate(config: PPOConfig, num_updates: jax.Array) -> Any:
    """The learning rate after `num_updates`: linear over `anneal_env_steps`, then constant."""
    if config.anneal_env_steps is None:
        return config.learning_rate
    updates = config.anneal_env_steps / config.env_steps_per_update
    progress = jnp.minimum(num_updates.astype(jnp.float32) / updates, 1.0)
    return config.learning_rate + (config.final_learning_rate - config.learning_rate) * progress


# The functions below run on every device, each over its own environments.


def _init(ppo: PPO, key: jax.Array) -> TrainState:
    agent, config = ppo.agent, ppo.config
    params_key, env_key, shuffle_key = jax.random.split(key, 3)
    params = init_params(agent, params_key)
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    learner = LearnerState(
        params=params,
        opt_state=ppo.optimizer.init(params),
        obs_statistics=init_obs_statistics(agent) if config.normalize_observations else None,
        return_statistics=init_statistics(scalar) if config.normalize_rewards else None,
        key=shuffle_key,
        num_updates=jnp.zeros((), jnp.int32),
    )
    return TrainState(learner=learner, actor=init_actor(agent, env_key, config.num_envs))


def _learn(
    ppo: PPO, learner: LearnerState, trajectory: Transition
) -> tuple[LearnerState, dict[str, jax.Array]]:
    agent, config, layout = ppo.agent, ppo.config, ppo.agent.layout
    trajectory = split_groups(layout, trajectory, axis=1)
    sums = update_metrics.episode_metrics(
        agent, trajectory, normalizes_rewards=config.normalize_rewards
    )
    return_statistics = update_metrics.update_return_statistics(layout, learner, trajectory)
    batch = map_groups(layout, partial(_make_batch, ppo, return_statistics), trajectory)
    epoch_key, next_key = jax.random.split(learner.key)
    rate = learning_rate(config, learner.num_updates)
    explained_variance = update_metrics.explained_variance(layout, batch)
    (params, opt_state), metrics = minibatch_sgd.fit(
        layout,
        partial(objective.loss, ppo, varying(layout, learner.obs_statistics)),
        ppo.optimizer,
        _schedule(ppo),
        (learner.params, learner.opt_state),
        merge_leading_axes(batch),
        epoch_key,
        rate,
    )
    metrics |= sums | {"explained_variance": explained_variance}
    if "learning_rate" in ppo.optimizer.takes:
        metrics["learning_rate"] = jnp.asarray(rate, jnp.float32)
    learner = replace(
        learner,
        params=params,
        opt_state=opt_state,
        obs_statistics=update_metrics.update_obs_statistics(agent, learner, trajectory),
        return_statistics=return_statistics,
        key=next_key,
        num_updates=learner.num_updates + 1,
    )
    return learner, metrics


def _schedule(ppo: PPO) -> minibatch_sgd.Schedule:
    config = ppo.config
    return minibatch_sgd.Schedule(
        rows_per_env=config.num_steps // ppo.agent.sequence_length,
        num_epochs=config.num_epochs,
        num_minibatches=config.num_minibatches,
        num_accumulation_steps=config.execution.num_accumulation_steps,
        standardize_advantages=config.standardize_advantages,
        target_kl=config.target_kl,
    )


@jax.named_scope("advantages")
def _make_batch(ppo: PPO, return_statistics: Any, trajectory: Transition) -> Batch:
    """Advantages and value targets of one group, in rows of `L` steps: `[T / L * N, L, ...]`."""
    config, reward, length = ppo.config, trajectory.reward, ppo.agent.sequence_length
    if return_statistics is not None:
        reward = running_statistics.scale(reward, return_statistics, config.reward_clip)
    advantage = gae(
        reward,
        trajectory.value,
        trajectory.next_value,
        trajectory.terminated,
        trajectory.truncated,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
    )
    batch = Batch(
        obs=trajectory.obs,
        action=trajectory.action,
        log_prob=trajectory.log_prob,
        value=trajectory.value,
        target=advantage + trajectory.value,
        advantage=advantage,
        episode_start=trajectory.episode_start,
        carry=(),
    )

    def in_rows(x: jax.Array) -> jax.Array:
        x = x.reshape(-1, length, *x.shape[1:])
        return jnp.moveaxis(x, 1, 2).reshape(-1, length, *x.shape[3:])

    carry = merge_leading_axes(trajectory.carry)
    return replace(jax.tree.map(in_rows, batch), carry=carry)
