"""Rollouts: a policy acts in vectorised environments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdrl.core import control_flow
from jaxdrl.core.finiteness import is_usable
from jaxdrl.core.magnitude import MAX_MAGNITUDE
from jaxdrl.core.types import ActorState, Transition
from jaxdrl.envs import vector
from jaxdrl.envs.agents import keys_of_step, num_rows
from jaxdrl.envs.protocol import Environment


class Decision(NamedTuple):
    """The decision of a policy for `N` rows, which are environments or their agents.

    Attributes:
      action: sampled action `[N, ...]`, as the distribution gives it.
      env_action: the same action within the bounds of the environment.
      log_prob: float32 `[N]`.
      value: V(obs), float32 `[N]`.
      carry: recurrent state after seeing `obs`.
    """

    action: Any
    env_action: Any
    log_prob: jax.Array
    value: jax.Array
    carry: Any


def init_actor(
    env: Environment, initial_carry: Callable[[int], Any], keys: jax.Array
) -> ActorState:
    """Environments at the start of their first episode.

    Args:
      env: the environment.
      initial_carry: `(num_envs) -> carry` of the network.
      keys: one key for each environment, `[N]`; consumed.
    """
    keys = jax.vmap(jax.random.split)(keys)
    obs, env_state = vector.reset(env, keys[:, 0])
    zeros = jnp.zeros((num_rows(env.num_agents, keys.shape[0]),), jnp.int32)
    return ActorState(
        env_state=env_state,
        obs=obs,
        carry=initial_carry(zeros.shape[0]),
        key=keys[:, 1],
        episode_start=zeros == 0,
        episode_return=zeros.astype(jnp.float32),
        episode_length=zeros,
        discounted_return=zeros.astype(jnp.float32),
    )


def collect(
    env: Environment,
    decide: Callable[..., Decision],
    value_of: Callable[..., jax.Array],
    actor: ActorState,
    *,
    num_steps: int,
    gamma: Any,
    sequence_length: int | None = None,
    costly_value: bool = False,
    keep_final_obs: bool = False,
) -> tuple[ActorState, Transition]:
    """Steps `N` environments `num_steps` times.

    The value of a final observation is computed only where an episode was truncated. At every other
    step `next_value` is the value of the following step, or does not matter.

    Args:
      env: the environment.
      decide: `(carry, obs, episode_start, keys [rows]) -> Decision`.
      value_of: `(carry, obs, episode_start) -> value`, for any number of rows.
      actor: state of the environments.
      num_steps: number of steps, `T`.
      gamma: discount of `Transition.discounted_return`.
      sequence_length: number of steps between recurrent states that are kept, `L`; divides `T`.
        None takes `T`.
      costly_value: whether evaluating `value_of` takes longer than a GPU takes to test whether any
        episode was truncated.
      keep_final_obs: whether the trajectory has `final_obs`.

    Returns:
      `(actor, trajectory)`, the trajectory a `Transition [T, rows, ...]`.
    """

    def one_step(actor: ActorState, _: None) -> tuple[ActorState, Transition]:
        actor, final_obs, transition = _step(env, decide, value_of, actor, gamma, costly_value)
        return actor, replace(transition, final_obs=final_obs if keep_final_obs else ())

    def one_sequence(actor: ActorState, _: None) -> tuple[ActorState, tuple[Any, Transition]]:
        after, transition = jax.lax.scan(
            one_step,
            actor,
            length=sequence_length or num_steps,
            unroll=control_flow.steps_in_a_pass(one_step, actor),
        )
        return after, (actor.carry, transition)

    num_sequences = num_steps // (sequence_length or num_steps)
    actor, (carry, transition) = jax.lax.scan(one_sequence, actor, length=num_sequences)
    transition = jax.tree.map(lambda x: x.reshape(num_steps, *x.shape[2:]), transition)
    last_value = value_of(actor.carry, actor.obs, actor.episode_start)
    following = jnp.concatenate([transition.value[1:], last_value[None]])
    next_value = jnp.where(transition.truncated, transition.next_value, following)
    return actor, replace(transition, next_value=next_value, carry=carry)


def _step(
    env: Environment,
    decide: Callable,
    value_of: Callable,
    actor: ActorState,
    gamma: Any,
    costly_value: bool,
) -> tuple[ActorState, Any, Transition]:
    """One step of all environments, `(actor, final observations, transition)`.

    `next_value` of its transition is 0 where the episode was not truncated, and its carry is left
    out: that of the whole sequence is kept instead.
    """
    next_keys, policy_keys, step_keys, reset_keys = keys_of_step(env.num_agents, actor.key)
    with jax.named_scope("policy"):
        decision = decide(actor.carry, actor.obs, actor.episode_start, policy_keys)
    with jax.named_scope("environment"):
        stepped = vector.step(env, step_keys, reset_keys, actor.env_state, decision.env_action)
    ended = stepped.terminated | stepped.truncated
    with jax.named_scope("policy"):
        final_value = vector.update_rows(
            stepped.truncated,
            partial(_value_of_rows, value_of, decision.carry, stepped.final_obs),
            jnp.zeros_like(decision.value),
            is_costly=costly_value,
        )
    discounted_return = add_usable(gamma * actor.discounted_return, stepped.reward)
    transition = Transition(
        obs=actor.obs,
        action=decision.action,
        log_prob=decision.log_prob,
        value=decision.value,
        next_value=final_value,
        reward=stepped.reward,
        terminated=stepped.terminated,
        truncated=stepped.truncated,
        discounted_return=jnp.clip(discounted_return, -MAX_MAGNITUDE, MAX_MAGNITUDE),
        episode_return=add_usable(actor.episode_return, stepped.reward),
        episode_length=actor.episode_length + 1,
        episode_start=actor.episode_start,
        carry=(),
    )
    running = (~ended).astype(jnp.float32)
    actor = replace(
        actor,
        env_state=stepped.env_state,
        obs=stepped.obs,
        carry=decision.carry,
        key=next_keys,
        episode_start=ended,
        episode_return=transition.episode_return * running,
        episode_length=transition.episode_length * (~ended).astype(jnp.int32),
        discounted_return=transition.discounted_return * running,
    )
    return actor, stepped.final_obs, transition


def _value_of_rows(value_of: Callable, carry: Any, obs: Any, rows: jax.Array) -> jax.Array:
    """The value of some rows of the observations, none of which starts an episode."""
    carry, obs = jax.tree.map(lambda x: x.at[rows].get(mode="clip"), (carry, obs))
    return value_of(carry, obs, jnp.zeros(rows.shape, jnp.bool))


def add_usable(total: jax.Array, reward: jax.Array) -> jax.Array:
    """`total + reward`, or `total` where the reward is NaN or too large, which would stay in it."""
    return jnp.where(is_usable(reward), total + reward, total)
