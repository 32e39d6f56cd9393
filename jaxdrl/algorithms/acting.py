"""How an agent acts and evaluates observations, on each device over its own environments."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.algorithms import opponents, rollout
from jaxdrl.algorithms.agent import Agent, env_ids
from jaxdrl.core import control_flow, running_statistics
from jaxdrl.core.distributions import Distribution, mask_logits
from jaxdrl.core.preprocessing import prepare_observation
from jaxdrl.core.trees import merge_leading_axes
from jaxdrl.core.types import Acting, ActorState, LearnerState, Policy, Transition
from jaxdrl.distributed.groups import map_groups, merge_groups, split_groups
from jaxdrl.envs.agents import for_each_agent
from jaxdrl.networks import actor_critic


def collect_rollout(
    agent: Agent,
    learner: LearnerState,
    actor: ActorState,
    *,
    num_steps: int,
    gamma: Any,
    keep_final_obs: bool = False,
) -> tuple[ActorState, Transition]:
    """Acts `num_steps` times in the environments of this device.

    Rows that opponents of a pool decide for are not in the trajectory.

    Args:
      agent: the agent.
      learner: holds the parameters that the policy acts with.
      actor: state of the environments, `[N, ...]`.
      num_steps: number of steps, `T`.
      gamma: discount of `Transition.discounted_return`.
      keep_final_obs: whether the trajectory has `final_obs`.

    Returns:
      `(actor, trajectory)`, the trajectory a `Transition [T, N, ...]`.
    """
    layout = agent.layout
    num_params = sum(x.size for x in jax.tree.leaves(learner.params))
    group_rows = actor.episode_start.shape[0] // layout.num_groups

    def collect(actor: ActorState, ids: Any) -> tuple[ActorState, Transition]:
        decide_rows: Any = partial(decide, agent, learner, env_ids=ids)
        if agent.seating is not None:
            decide_rows, actor = _against_pool(agent, learner, actor)
        actor, trajectory = rollout.collect(
            agent.env,
            decide_rows,
            partial(value_of, agent, learner),
            actor,
            num_steps=num_steps,
            gamma=gamma,
            sequence_length=agent.sequence_length if agent.network.has_memory else None,
            costly_value=group_rows * num_params > control_flow.WORTH_A_TEST,
            keep_final_obs=keep_final_obs,
        )
        if agent.seating is not None:
            num_shards = layout.shards_per_group
            trajectory = opponents.without_opponents(agent.seating, num_shards, trajectory)
        return actor, trajectory

    ids: Any = ()
    if agent.explore is not None:
        ids = for_each_agent(agent.env.num_agents, env_ids(layout, actor.key.shape[0]))
    groups = split_groups(layout, (actor, ids))
    actor, trajectory = map_groups(layout, collect, *groups)
    actor = merge_groups(layout, actor)
    return actor, merge_groups(layout, trajectory, axis=1)


def _against_pool(
    agent: Agent, learner: LearnerState, actor: ActorState
) -> tuple[Callable[..., rollout.Decision], ActorState]:
    """How a group decides for its rows where some are those of a pool, and its state to begin with.

    The environments of a slot that was renewed begin anew.
    """
    assert agent.seating is not None
    where, pool = (agent.seating, agent.layout.shards_per_group), learner.pool

    def of_slot(params: Any, statistics: Any, *seen: Any) -> rollout.Decision:
        past = replace(learner, params=params, obs_statistics=statistics)
        return decide(agent, past, *seen)

    decide_rows = partial(opponents.decide, *where, partial(decide, agent, learner), of_slot, pool)
    initial_carry = agent.network.initial_carry
    actor = opponents.restart_renewed(*where, agent.env, initial_carry, pool, actor)
    return decide_rows, actor


def acting_of(agent: Agent, num_steps: int, gamma: Any, *, keep_final_obs: bool = False) -> Acting:
    """How the agent acts outside a program, in trajectories of `num_steps` steps."""
    return Acting(
        decide=partial(decide, agent),
        value_of=partial(value_of, agent),
        num_steps=num_steps,
        gamma=gamma,
        sequence_length=agent.sequence_length if agent.network.has_memory else None,
        keep_final_obs=keep_final_obs,
    )


def acting_part(learner: LearnerState) -> LearnerState:
    """What acting reads of a learner; everything else is `()`."""
    unread: Any = ()
    return replace(
        learner,
        opt_state=unread,
        return_statistics=None,
        key=unread,
        target_params=unread,
        pool=unread,
    )


def policy_of(agent: Agent) -> Policy:
    """The policy of the agent, which takes any of its learners."""
    return Policy(initial_carry=agent.network.initial_carry, act=partial(act, agent))


def evaluate_step(
    agent: Agent, learner: LearnerState, carry: Any, obs: Any, episode_start: jax.Array
) -> tuple[Distribution, jax.Array, Any]:
    """Evaluates one step: `(distribution of actions, value [N], carry)`."""
    x = prepare(agent, learner.obs_statistics, obs)
    return evaluate_prepared(agent, learner, carry, x, obs, episode_start)


def evaluate_prepared(
    agent: Agent, learner: LearnerState, carry: Any, x: Any, obs: Any, episode_start: jax.Array
) -> tuple[Distribution, jax.Array, Any]:
    """`evaluate_step` for `obs` that are prepared already, as `x`."""
    with precision_of(agent):
        outputs, value, carry = agent.network.apply(learner.params, carry, x, episode_start)
    return *_interpret(agent, learner.num_updates, outputs, value, obs), carry


def evaluate_sequences(
    agent: Agent, params: Any, statistics: Any, carry: Any, obs: Any, episode_start: jax.Array
) -> tuple[Distribution, jax.Array]:
    """Evaluates whole sequences of a rollout again, with other parameters.

    Args:
      agent: the agent.
      params: network parameters.
      statistics: running statistics of the observations, or None.
      carry: recurrent state before the first step, `[N, ...]`.
      obs: observations, `[T, N, ...]`.
      episode_start: bool `[T, N]`.

    Returns:
      `(distribution, value)`, each with one leading axis of `T * N` steps.
    """
    flat = merge_leading_axes(obs)
    x = prepare(agent, statistics, flat)
    x = jax.tree.map(lambda x: x.reshape(*episode_start.shape, *x.shape[1:]), x)
    with precision_of(agent):
        outputs, value = actor_critic.unroll(agent.network, params, carry, x, episode_start)
    outputs, value = merge_leading_axes((outputs, value))
    return _interpret(agent, jnp.zeros((), jnp.int32), outputs, value, flat)


def decide(
    agent: Agent,
    learner: LearnerState,
    carry: Any,
    obs: Any,
    episode_start: Any,
    keys: jax.Array,
    *,
    env_ids: Any = (),
) -> rollout.Decision:
    """Samples an action for each of `N` environments, each with its own key of `keys [N]`.

    With `env_ids [N]`, the agent explores as in a rollout.
    """
    distribution, value, carry = evaluate_step(agent, learner, carry, obs, episode_start)
    if agent.explore is not None and not isinstance(env_ids, tuple):
        distribution = agent.explore(distribution, learner, env_ids)
    action = jax.vmap(lambda row, key: row.sample(key))(distribution, keys)
    log_prob = distribution.log_prob(action)
    return rollout.Decision(action, agent.head.to_env(action), log_prob, value, carry)


def act(
    agent: Agent,
    learner: LearnerState,
    carry: Any,
    obs: Any,
    episode_start: Any,
    key: jax.Array,
    *,
    greedy: bool = False,
) -> tuple[Any, Any]:
    """The `act` of a `jaxdrl.core.types.Policy`."""
    if not greedy:
        keys = jax.random.split(key, episode_start.shape[0])
        decision = decide(agent, learner, carry, obs, episode_start, keys)
        return decision.env_action, decision.carry
    distribution, _, carry = evaluate_step(agent, learner, carry, obs, episode_start)
    return agent.head.to_env(distribution.mode()), carry


def value_of(
    agent: Agent, learner: LearnerState, carry: Any, obs: Any, episode_start: Any
) -> jax.Array:
    """V(obs), float32 `[N]`."""
    return evaluate_step(agent, learner, carry, obs, episode_start)[1]


def prepare(agent: Agent, statistics: Any, obs: Any) -> Any:
    """Prepares and normalises observations `[N, ...]` for the network."""
    x = prepare_observation(agent.env.observation_space, obs)
    if statistics is None:
        return x
    return running_statistics.normalize(x, statistics, agent.observation_clip)


def _interpret(
    agent: Agent, num_updates: jax.Array, outputs: Any, value: jax.Array, obs: Any
) -> tuple[Distribution, jax.Array]:
    """`(distribution, value)` of what the network gives, over the actions that are allowed."""
    if agent.env.action_mask is not None:
        allowed = jax.vmap(agent.env.action_mask)(obs)
        outputs = mask_logits(outputs, allowed, agent.env.action_space)
    if agent.interpret is not None:
        return agent.interpret(num_updates, outputs, value)
    return agent.head.distribution(outputs), value


def precision_of(agent: Agent) -> AbstractContextManager:
    """The precision of the network's matrix products, as a context."""
    precision = agent.matmul_precision
    return nullcontext() if precision == "default" else jax.default_matmul_precision(precision)
