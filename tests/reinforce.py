"""REINFORCE with a learned baseline (Williams 1992), as a user would write an algorithm."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp

import jaxdrl
from jaxdrl.algorithms import acting
from jaxdrl.algorithms import agent as agents
from jaxdrl.algorithms.optimizers import adam, step_if_finite
from jaxdrl.algorithms.sharded import shard_algorithm
from jaxdrl.algorithms.update_metrics import episode_metrics
from jaxdrl.core import losses
from jaxdrl.core.returns import lambda_returns
from jaxdrl.core.trees import merge_leading_axes
from jaxdrl.core.types import LearnerState, TrainState
from jaxdrl.distributed.gradient import mean_gradient
from jaxdrl.distributed.groups import split_groups

OPTIMIZER = adam(max_grad_norm=0.5)


@dataclass(frozen=True)
class ReinforceConfig:
    """Settings; counts are global."""

    num_envs: int = 64
    num_steps: int = 32
    learning_rate: float = jaxdrl.hyperparameter(1e-2)
    gamma: float = jaxdrl.hyperparameter(0.99)
    network: jaxdrl.NetworkConfig = jaxdrl.NetworkConfig()
    execution: jaxdrl.ExecutionConfig = jaxdrl.ExecutionConfig()
    env_steps_per_update = property(lambda self: self.num_envs * self.num_steps)


def reinforce(env, config: ReinforceConfig, *, mesh=None) -> jaxdrl.Algorithm:
    """One gradient step an update, on returns that go on with the value where a rollout ends."""
    num_steps, settings = config.num_steps, (config.network, config.execution)
    agent = agents.make_agent(env, *settings, mesh=mesh, sequence_length=num_steps)
    return shard_algorithm(
        agent.layout,
        init=partial(init, agent, config),
        rollout=partial(acting.collect_rollout, agent, num_steps=num_steps, gamma=config.gamma),
        learn=partial(learn, agent, config),
        policy=acting.policy_of(agent),
        metrics={"value_loss": "each"},
    )


def init(agent, config, key):
    params_key, env_key = jax.random.split(key)
    params = agents.init_params(agent, params_key)
    learner = LearnerState(params, OPTIMIZER.init(params), None, None, (), jnp.int32(0))
    return TrainState(learner, agents.init_actor(agent, env_key, config.num_envs))


def learn(agent, config, learner, trajectory):
    groups = split_groups(agent.layout, trajectory, axis=1)
    of_group, learnt = partial(loss, agent, config), (learner.params, learner.opt_state)
    slope, metrics = mean_gradient(agent.layout, of_group, learner.params, groups)
    rate = {"learning_rate": config.learning_rate}
    learnt, _, of_step = step_if_finite(OPTIMIZER, slope, rate, learnt)
    metrics |= of_step | episode_metrics(agent, groups)
    done = learner.num_updates + 1
    return replace(learner, params=learnt[0], opt_state=learnt[1], num_updates=done), metrics


def loss(agent, config, params, batch):
    carry, start = jax.tree.map(lambda x: x[0], batch.carry), batch.episode_start
    distribution, value = acting.evaluate_sequences(agent, params, None, carry, batch.obs, start)
    reward, ends = (batch.reward, batch.next_value), (batch.terminated, batch.truncated)
    target = lambda_returns(*reward, *ends, gamma=config.gamma, lambda_=1.0).reshape(-1)
    log_prob = distribution.log_prob(merge_leading_axes(batch.action))
    policy_loss = -(log_prob * jax.lax.stop_gradient(target - value)).mean()
    value_loss = losses.squared_value(value, target).mean()
    return policy_loss + value_loss, {"policy_loss": policy_loss, "value_loss": value_loss}
