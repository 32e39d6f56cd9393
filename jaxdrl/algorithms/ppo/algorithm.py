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

from jaxdrl.algorithms import agent, minibatch_sgd, optimizers, rollout, update_metrics
from jaxdrl.algorithms.agent import Parts
from jaxdrl.algorithms.minibatch_sgd import Batch
from jaxdrl.algorithms.ppo import objective
from jaxdrl.algorithms.ppo.objective import ExtraLoss
from jaxdrl.checks import checked
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.core import control_flow, running_statistics
from jaxdrl.core.distributions import action_head
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.core.keys import pinned, require_reproducible
from jaxdrl.core.preprocessing import prepared, zeros
from jaxdrl.core.returns import gae
from jaxdrl.core.running_statistics import init_statistics
from jaxdrl.core.types import Algorithm, LearnerState, Network, Policy, TrainState, Transition
from jaxdrl.distributed import sharding
from jaxdrl.distributed.sharding import ALONG_ENVS, ALONG_ENVS_IN_TIME, REPLICATED
from jaxdrl.envs.protocol import Environment, check_types
from jaxdrl.errors import ConfigError
from jaxdrl.networks.actor_critic import from_module
from jaxdrl.networks.build import check_mask, check_network, make_network, shapes_of_params


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
      env: from `jaxdrl.make`, `jaxdrl.from_gymnax`, or an `Environment` of your own.
      config: settings; counts in it are global.
      network: a flax module `obs [N, ...] float32 -> (policy_outputs, value [N])`, where obs is
        an array, or a dictionary of them where the observation space is one, with logits as
        outputs for discrete actions and `(mean, log_std)`, each `[N, *shape]`, for continuous ones;
        or a `jaxdrl.Network`, which may have memory (`jaxdrl.networks.from_recurrent`).
        None takes the one that the config describes.
      optimizer: an optax optimiser that needs the gradient, and at most the loss (`value`), used
        as it is: `learning_rate`, `anneal_env_steps`,
        `max_grad_norm` and `adam_epsilon` of the config then play no part. None takes Adam with
        them.
      extra_loss: terms of your own in the loss, `(params, batch, distribution, value) -> {name:
        term}`: the network's parameters, a `Batch` (`jaxdrl.algorithms.minibatch_sgd`) of single
        samples `[n, ...]`, and the policy and V `[n]` that the network now has for them. A term is
        a number for each sample,
        float32 `[n]`, or one that depends on the parameters alone, `[]`; its mean over all samples
        is added to the loss, and is a metric of that name. There is no other way to reduce: the
        samples that are seen together depend on the machine.
      mesh: from `jaxdrl.make_mesh`; None computes on one device.

    Returns:
      An `Algorithm`; its metrics are means over the update (`policy_loss`, `value_loss`,
      `entropy`, `approx_kl`, `clip_fraction`, `grad_norm`, `explained_variance`), `learning_rate`
      unless the optimizer is given,
      `episode_return_sum`, `episode_length_sum`, `num_episodes` of the episodes that ended,
      `skipped_steps` (gradient steps left out because the gradient, or what the optimiser made of
      it, was not finite) and `nonfinite_params` (those of them whose gradient was finite),
      `states_without_action` where the environment has an `action_mask`, and
      `nonfinite_values`, the sum of `nonfinite_observations` and `nonfinite_rewards`: numbers
      that running statistics and returns leave out, being NaN, infinite or beyond 1e15.

    Raises:
      ConfigError: if the mesh does not divide the shards, or environment, network or extra loss
        do not keep to their contracts.
    """
    layout = sharding.make_layout(config.execution.num_shards, config.execution.reproducible, mesh)
    check_types(env)
    check_mask(env)
    if network is None:
        network = make_network(
            env.observation_space,
            env.action_space,
            config.network,
            config.execution.network_dtype,
        )
    elif not isinstance(network, Network):
        network = from_module(network)
    try:
        head = action_head(env.action_space, config.network.action_distribution)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{env.name}: {error}") from error
    check_network(env, network, head)
    takes: tuple[str, ...] = ("learning_rate",)
    if optimizer is not None:
        takes = optimizers.extra_args(
            optax.with_extra_args_support(optimizer), shapes_of_params(env, network)
        )
    optimizer = optax.with_extra_args_support(optimizer or adam(config))
    sequence_length = config.sequence_length or config.num_steps if network.has_memory else 1
    config.check_minibatches(sequence_length)
    parts = Parts(env, config, network, optimizer, head, layout, sequence_length, extra_loss, takes)
    objective.check_extra_loss(parts)
    state_specs = TrainState(learner=REPLICATED, actor=ALONG_ENVS)  # type: ignore[arg-type]
    init = sharding.shard(
        layout, pinned()(partial(_init, parts)), REPLICATED, state_specs, check_vma=False
    )
    collect = sharding.shard(
        layout,
        pinned()(partial(_rollout, parts)),
        (state_specs,),
        (state_specs, ALONG_ENVS_IN_TIME),
        check_vma=False,
    )
    learn = sharding.shard(
        layout, partial(_learn, parts), (state_specs, ALONG_ENVS_IN_TIME), (state_specs, REPLICATED)
    )

    def train_step(state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        return learn(*collect(state))

    return Algorithm(
        init=init,
        rollout=collect,
        learn=learn,
        train_step=train_step,
        policy=Policy(initial_carry=network.initial_carry, act=partial(agent.act, parts)),
    )


def adam(config: PPOConfig) -> optax.GradientTransformationExtraArgs:
    """Adam after clipping by the global norm, at the `learning_rate` that its update is given.

    On all parameters as one vector: a few large operations instead of many small ones.
    """

    def scale(updates: Any, state: Any, params: Any = None, *, learning_rate: Any) -> Any:
        return jax.tree.map(lambda u: -learning_rate * u, updates), state

    clip = optax.identity()
    if config.max_grad_norm is not None:
        clip = optax.clip_by_global_norm(config.max_grad_norm)
    scale_by_rate = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), scale)
    adam = optax.scale_by_adam(eps=config.adam_epsilon)
    return optax.flatten(optax.chain(clip, adam, scale_by_rate))


def learning_rate(config: PPOConfig, num_updates: jax.Array) -> Any:
    """The rate after `num_updates`: linear over `anneal_env_steps`, and constant past its end."""
    if config.anneal_env_steps is None:
        return config.learning_rate
    updates = config.anneal_env_steps / config.env_steps_per_update
    progress = jnp.minimum(num_updates.astype(jnp.float32) / updates, 1.0)
    return config.learning_rate + (config.final_learning_rate - config.learning_rate) * progress


# The algorithm: each function runs on every device, over its own environments.


def _init(parts: Parts, key: jax.Array) -> TrainState:
    config, layout = parts.config, parts.layout
    if config.execution.reproducible:
        require_reproducible(key)
    params_key, env_key, shuffle_key = jax.random.split(key, 3)
    shapes = prepared(parts.env.observation_space, 1)
    params = parts.network.init(params_key, zeros(shapes))
    with default_promotion():
        opt_state = parts.optimizer.init(params)
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), shapes)
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    learner = LearnerState(
        params=params,
        opt_state=opt_state,
        obs_statistics=init_statistics(one) if config.normalize_observations else None,
        return_statistics=init_statistics(scalar) if config.normalize_rewards else None,
        key=shuffle_key,
        num_updates=jnp.zeros((), jnp.int32),
    )
    init_actor = partial(rollout.init_actor, parts.env, parts.network.initial_carry)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(env_key, _env_ids(parts))
    actor = sharding.map_groups(layout, init_actor, sharding.split_groups(layout, keys))
    return TrainState(learner=learner, actor=sharding.merge_groups(layout, actor))


def _env_ids(parts: Parts) -> jax.Array:
    """Global indices of the environments on this device, int32 `[N]`."""
    shard_envs = parts.config.num_envs // parts.config.execution.num_shards
    first = sharding.shard_ids(parts.layout).reshape(-1, 1) * shard_envs
    return (first + jnp.arange(shard_envs, dtype=jnp.int32)[None]).reshape(-1)


@jax.named_scope("rollout")
def _rollout(parts: Parts, state: TrainState) -> tuple[TrainState, Transition]:
    layout = parts.layout
    num_params = sum(x.size for x in jax.tree.leaves(state.learner.params))
    group_envs = state.actor.key.shape[0] // layout.num_groups
    collect = partial(
        rollout.collect,
        parts.env,
        partial(agent.decide, parts, state.learner),
        partial(agent.value_of, parts, state.learner),
        num_steps=parts.config.num_steps,
        gamma=parts.config.gamma,
        sequence_length=parts.sequence_length if parts.network.has_memory else None,
        costly_value=group_envs * num_params > control_flow.WORTH_A_TEST,
    )
    actor, trajectory = sharding.map_groups(
        layout, collect, sharding.split_groups(layout, state.actor)
    )
    state = replace(state, actor=sharding.merge_groups(layout, actor))
    return state, sharding.merge_groups(layout, trajectory, axis=1)


def _learn(
    parts: Parts, state: TrainState, trajectory: Transition
) -> tuple[TrainState, dict[str, jax.Array]]:
    config, layout, learner = parts.config, parts.layout, state.learner
    trajectory = sharding.split_groups(layout, trajectory, axis=1)
    sums = sharding.sum_groups(
        layout, sharding.map_groups(layout, partial(update_metrics.sums, parts), trajectory)
    )
    return_statistics = update_metrics.update_return_statistics(parts, learner, trajectory)
    batch = sharding.map_groups(layout, partial(_make_batch, parts, return_statistics), trajectory)
    epoch_key, next_key = jax.random.split(learner.key)
    rate = learning_rate(config, learner.num_updates)
    schedule = minibatch_sgd.Schedule(
        rows_per_env=config.num_steps // parts.sequence_length,
        num_epochs=config.num_epochs,
        num_minibatches=config.num_minibatches,
        num_accumulation_steps=config.execution.num_accumulation_steps,
        standardize_advantages=config.standardize_advantages,
        target_kl=config.target_kl,
    )
    explained_variance = update_metrics.explained_variance(layout, batch)
    params, opt_state, metrics = minibatch_sgd.fit(
        layout,
        partial(objective.loss, parts, sharding.varying(layout, learner.obs_statistics)),
        parts.optimizer,
        schedule,
        learner.params,
        learner.opt_state,
        jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch),
        epoch_key,
        rate,
        parts.optimizer_takes,
    )
    metrics |= sums
    metrics["explained_variance"] = explained_variance
    if "learning_rate" in parts.optimizer_takes:
        metrics["learning_rate"] = jnp.asarray(rate, jnp.float32)
    learner = replace(
        learner,
        params=params,
        opt_state=opt_state,
        obs_statistics=update_metrics.update_obs_statistics(parts, learner, trajectory),
        return_statistics=return_statistics,
        key=next_key,
        num_updates=learner.num_updates + 1,
    )
    return replace(state, learner=learner), metrics


@jax.named_scope("advantages")
def _make_batch(parts: Parts, return_statistics: Any, trajectory: Transition) -> Batch:
    """Advantages and value targets of one group, in rows of `L` steps: `[T / L * N, L, ...]`."""
    config, reward = parts.config, trajectory.reward
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
        x = x.reshape(-1, parts.sequence_length, *x.shape[1:])
        return jnp.moveaxis(x, 1, 2).reshape(-1, parts.sequence_length, *x.shape[3:])

    carry = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trajectory.carry)
    return replace(jax.tree.map(in_rows, batch), carry=carry)
