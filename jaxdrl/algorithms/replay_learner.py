"""Learning from a replay buffer: what DQN, SAC and TD3 share.

environment -> rollout -> replay -> minibatches -> loss -> all-reduced gradient -> params, targets

The functions run on every device, each over its own environments and its part of the buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxdrl.algorithms import minibatch_sgd, optimizers, replay, update_metrics
from jaxdrl.algorithms.acting import acting_of, collect_rollout, decide, policy_of, prepare
from jaxdrl.algorithms.agent import Agent, init_actor, init_obs_statistics, init_params
from jaxdrl.algorithms.optimizers import Optimizer
from jaxdrl.algorithms.replay import Minibatch, Replay
from jaxdrl.algorithms.sharded import STAGES, shard_algorithm
from jaxdrl.config.replay_sizes import capacity
from jaxdrl.core.types import (
    ActorState,
    Algorithm,
    LearnerState,
    Reduction,
    TrainState,
    Transition,
)
from jaxdrl.distributed.groups import split_groups
from jaxdrl.distributed.layout import Layout, varying
from jaxdrl.envs.protocol import Environment
from jaxdrl.errors import ConfigError

METRICS: dict[str, Reduction] = {"learning_rate": "each", "nonfinite_params": "mean"}
"""Metrics that these algorithms share, as `rollout_learner.METRICS`; all are 0 in an update before
`learning_starts`."""


@struct.dataclass
class Experience:
    """What one update learns from.

    Attributes:
      steps: what was done in the environments, `[T, N, ...]`, for metrics and statistics alone.
      minibatches: those of all gradient steps, `[num_gradient_steps, rows, ...]`.
    """

    steps: Transition
    minibatches: Minibatch


class Learning(NamedTuple):
    """How a learner learns from a replay buffer.

    Attributes:
      agent: the agent that acts.
      config: the settings.
      optimizer: the optimiser of the parameters.
      loss: `(learner, params, minibatch of a group) -> (loss, metrics)`, means over the minibatch.
        The learner has the target parameters, the statistics of the observations, and nothing of
        the optimiser.
      targets_of: `(params) -> params` of the networks that have target networks.
      target_rate: `(number of gradient steps before) -> tau`, by which targets follow these:
        `target + tau (params - target)`.
      due: `(number of gradient steps before) -> bool []` of an algorithm that moves a part of the
        params more seldom; the loss takes it after the learner, and an optimiser may.
      explored: `(learner) -> metrics` of how the agent explored in the rollout.
    """

    agent: Agent
    config: Any
    optimizer: Optimizer
    loss: Callable[..., tuple[jax.Array, dict[str, jax.Array]]]
    targets_of: Callable[[Any], Any]
    target_rate: Callable[[jax.Array], Any]
    due: Callable[[jax.Array], jax.Array] | None = None
    explored: Callable[[LearnerState], dict[str, jax.Array]] = lambda learner: {}


def as_algorithm(learning: Learning, metrics: Mapping[str, Reduction]) -> Algorithm:
    """The algorithm of an agent that learns from a replay buffer."""
    agent, config = learning.agent, learning.config
    return shard_algorithm(
        agent.layout,
        init=partial(init, learning),
        rollout=partial(collect, agent, config),
        learn=partial(learn, learning),
        policy=policy_of(agent),
        metrics={**METRICS, **metrics},
        stages=("replay", *STAGES),
        acting=acting_of(agent, config.num_steps, config.gamma, keep_final_obs=True),
        remember=partial(remember, agent.layout, config),
    )


def require_one_agent(env: Environment, algorithm: str) -> None:
    """Refuses an environment of several agents, which the buffer has no rows for.

    Raises:
      ConfigError: saying which algorithms learn with several.
    """
    if env.num_agents is not None:
        raise ConfigError(
            f"{env.name}: num_agents = {env.num_agents}: the buffer of {algorithm} keeps the steps "
            "of one agent; take ppo, impala or pqn"
        )


def require_no_memory(agent: Agent, algorithm: str) -> None:
    """Refuses a recurrent network, whose state before a step the buffer does not have.

    Raises:
      ConfigError: saying which algorithms have memory.
    """
    if agent.network.has_memory:
        raise ConfigError(
            f"network: is recurrent, and {algorithm} learns from single steps out of a buffer that "
            "keeps no recurrent state; use memory = 'none', or ppo, impala or pqn"
        )


def init(learning: Learning, key: jax.Array) -> TrainState:
    """The state before the first update, with an empty buffer."""
    agent, config, optimizer = learning.agent, learning.config, learning.optimizer
    params_key, env_key, learn_key = jax.random.split(key, 3)
    params = init_params(agent, params_key)
    learner = LearnerState(
        params=params,
        opt_state=optimizer.init(params),
        obs_statistics=init_obs_statistics(agent) if config.normalize_observations else None,
        return_statistics=None,
        key=learn_key,
        num_updates=jnp.zeros((), jnp.int32),
        target_params=jax.tree.map(jnp.copy, learning.targets_of(params)),
    )
    actor = init_actor(agent, env_key, config.num_envs)
    seen = (actor.carry, actor.obs, actor.episode_start, actor.key)
    action = jax.eval_shape(partial(decide, agent, learner), *seen).action
    keys = jax.vmap(jax.random.split)(actor.key)
    kept = replay.init(agent.env, actor.obs, action, keys[:, 1], capacity(config))
    return TrainState(learner=learner, actor=replace(actor, key=keys[:, 0], replay=kept))


def collect(
    agent: Agent, config: Any, learner: LearnerState, actor: ActorState
) -> tuple[ActorState, Transition]:
    """Acts: `(actor, steps)`, neither actor with the buffer."""
    return collect_rollout(
        agent,
        learner,
        actor,
        num_steps=config.num_steps,
        gamma=config.gamma,
        keep_final_obs=True,
    )


def remember(
    layout: Layout, config: Any, kept: Replay, steps: Transition
) -> tuple[Replay, Experience]:
    """Keeps steps in the buffer, and draws the minibatches of all gradient steps of the update.

    Nothing of it is within a loop over groups, in which the buffer would be copied.
    """
    kept, minibatches = replay.sample(
        layout,
        replay.insert(kept, steps),
        num=config.num_gradient_steps,
        batch_size=config.batch_size,
        n=config.n_step,
    )
    unused: Any = ()
    steps = replace(steps, value=unused, next_value=unused, log_prob=unused, final_obs=unused)
    return kept, Experience(steps=steps, minibatches=minibatches)


def learn(
    learning: Learning, learner: LearnerState, experience: Experience
) -> tuple[LearnerState, dict[str, jax.Array]]:
    """Takes the gradient steps of one update, once there is enough experience."""
    agent, config = learning.agent, learning.config
    steps = split_groups(agent.layout, experience.steps, axis=1)
    sums = update_metrics.episode_metrics(agent, steps)
    statistics = update_metrics.update_obs_statistics(agent, learner, steps)
    learner = replace(learner, obs_statistics=statistics)
    rate = optimizers.learning_rate(config, learner.num_updates)
    num_groups = agent.layout.num_groups
    # [gradient steps, groups, rows]
    minibatches = jax.tree.map(
        lambda x: x.reshape(x.shape[0], num_groups, x.shape[1] // num_groups, *x.shape[2:]),
        experience.minibatches,
    )

    def fit(learner: LearnerState) -> tuple[LearnerState, dict[str, jax.Array]]:
        return _fit(learning, learner, minibatches, rate)

    def wait(learner: LearnerState) -> tuple[LearnerState, dict[str, jax.Array]]:
        shapes = jax.eval_shape(fit, learner)[1]
        return learner, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    first = -(-config.learning_starts // config.env_steps_per_update)
    learner, metrics = jax.lax.cond(learner.num_updates + 1 >= first, fit, wait, learner)
    metrics |= sums | learning.explored(learner)
    if "learning_rate" in learning.optimizer.takes:
        metrics["learning_rate"] = jnp.asarray(rate, jnp.float32)
    return replace(learner, num_updates=learner.num_updates + 1), metrics


def _fit(
    learning: Learning, learner: LearnerState, minibatches: Minibatch, rate: Any
) -> tuple[LearnerState, dict[str, jax.Array]]:
    """One gradient step on each minibatch `[num, groups, rows, ...]`."""
    num = learning.config.num_gradient_steps
    numbers = learner.num_updates * num + jnp.arange(num, dtype=jnp.int32)
    step = partial(_gradient_step, learning, learner, rate)
    carry = (learner.params, learner.opt_state, learner.target_params)
    (params, opt_state, targets), sums = jax.lax.scan(step, carry, (numbers, minibatches))
    learner = replace(learner, params=params, opt_state=opt_state, target_params=targets)
    return learner, minibatch_sgd.means_of_steps(sums, jnp.float32(num))


def _gradient_step(
    learning: Learning, learner: LearnerState, rate: Any, carry: tuple, drawn: tuple
) -> tuple[tuple, dict[str, jax.Array]]:
    """`((params, opt_state, target_params), metrics)` after one minibatch."""
    (params, opt_state, targets), (number, minibatch) = carry, drawn
    layout = learning.agent.layout
    nothing: Any = ()
    seen = replace(learner, params=nothing, opt_state=nothing, key=nothing, target_params=targets)
    due = None if learning.due is None else learning.due(number)
    given = (seen,) if due is None else (seen, due)
    fitted, metrics = minibatch_sgd.gradient_step(
        layout,
        partial(learning.loss, *varying(layout, given)),
        learning.optimizer,
        (params, opt_state),
        minibatch,
        rate,
        num_microbatches=learning.config.execution.num_accumulation_steps,
        due=due,
    )
    params, opt_state = fitted
    follow = partial(_follow, learning.target_rate(number))
    targets = jax.tree.map(follow, targets, learning.targets_of(params))
    return (params, opt_state, targets), metrics


def _follow(tau: Any, target: jax.Array, param: jax.Array) -> jax.Array:
    """Polyak averaging, `target + tau (param - target)`, which is exactly `param` for tau = 1."""
    return (1.0 - tau) * target + tau * param


def prepared(agent: Agent, learner: LearnerState, batch: Minibatch) -> tuple[Any, Any]:
    """`(obs, next_obs)` of a minibatch as the networks see them."""
    # Together, because XLA rounded the two differently, and only on a single device.
    both = jax.tree.map(lambda *x: jnp.concatenate(x), batch.obs, batch.next_obs)
    both = prepare(agent, learner.obs_statistics, both)
    num = batch.weight.shape[0]
    return jax.tree.map(lambda x: x[:num], both), jax.tree.map(lambda x: x[num:], both)
