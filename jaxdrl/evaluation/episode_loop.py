"""Plays one episode in each of many environments, step by step, as pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxdrl.core.trees import match_rank
from jaxdrl.core.types import LearnerState, Policy
from jaxdrl.envs.agents import by_env, num_rows, to_rows
from jaxdrl.envs.protocol import Environment, strong_types
from jaxdrl.evaluation.seats import against_random, seat_of

STATIC = ("num_episodes", "max_episode_steps", "greedy")
"""Arguments of `run_episodes` that shape the program."""


class Rules(NamedTuple):
    """What of an environment an evaluation plays with; it is hashable.

    Attributes:
      reset: as in `Environment`.
      step: likewise.
      num_agents: likewise.
      is_competitive: likewise.
    """

    reset: Callable[..., Any]
    step: Callable[..., Any]
    num_agents: int | None = None
    is_competitive: bool = False


def rules_of(env: Environment) -> Rules:
    """The rules of an environment."""
    return Rules(env.reset, env.step, env.num_agents, env.is_competitive)


def player_of(env: Environment, policy: Policy) -> Policy:
    """The policy as it plays in an evaluation: against random players where agents compete."""
    if not env.is_competitive:
        return policy
    assert env.num_agents is not None
    return against_random(policy, env.action_space, env.action_mask, env.num_agents)


@struct.dataclass
class Episodes:
    """One episode in each of N environments, as far as it has been played.

    With several agents, observations and carries are those of rows (`jaxdrl.envs.agents`).

    Attributes:
      num_steps: number of steps so far, int32.
      key: PRNG key of the steps to come.
      env_state: `[N, ...]`.
      obs: `[rows, ...]`.
      carry: recurrent state of the policy, `[rows, ...]`.
      returns: float32 `[N]`, or `[N, A]` of several agents.
      lengths: int32 `[N]`.
      terminated: bool `[N]`, true from the end of the episode on.
      truncated: likewise.
    """

    num_steps: jax.Array
    key: jax.Array
    env_state: Any
    obs: Any
    carry: Any
    returns: jax.Array
    lengths: jax.Array
    terminated: jax.Array
    truncated: jax.Array

    @property
    def ended(self) -> jax.Array:
        """Bool `[N]`; steps after the end of an episode do not count."""
        return self.terminated | self.truncated


def begin_episodes(
    rules: Rules, policy: Policy, params: Any, key: jax.Array, num_episodes: int
) -> Episodes:
    """Resets `num_episodes` environments; arguments as in `run_episodes`."""
    reset_key, play_key = jax.random.split(key)
    reset_keys = jax.random.split(reset_key, num_episodes)
    obs, env_state = strong_types(jax.vmap(rules.reset, in_axes=(0, None))(reset_keys, params))
    return Episodes(
        num_steps=jnp.zeros((), jnp.int32),
        key=play_key,
        env_state=env_state,
        obs=to_rows(rules.num_agents, obs),
        carry=policy.initial_carry(num_rows(rules.num_agents, num_episodes)),
        returns=jnp.zeros((num_episodes, *_axis_of_agents(rules)), jnp.float32),
        lengths=jnp.zeros((num_episodes,), jnp.int32),
        terminated=jnp.zeros((num_episodes,), jnp.bool),
        truncated=jnp.zeros((num_episodes,), jnp.bool),
    )


def step_episodes(
    rules: Rules,
    policy: Policy,
    params: Any,
    learner: LearnerState,
    episodes: Episodes,
    *,
    greedy: bool,
) -> Episodes:
    """One step of each environment; arguments as in `run_episodes`."""
    num_episodes, ended = len(episodes.returns), episodes.ended
    key, act_key, step_key = jax.random.split(episodes.key, 3)
    rows = num_rows(rules.num_agents, num_episodes)
    start = jnp.broadcast_to(episodes.num_steps == 0, (rows,))
    action, carry = policy.act(learner, episodes.carry, episodes.obs, start, act_key, greedy=greedy)
    obs, env_state, reward, terminated, truncated, _ = strong_types(
        jax.vmap(rules.step, in_axes=(0, 0, 0, None))(
            jax.random.split(step_key, num_episodes),
            episodes.env_state,
            by_env(rules.num_agents, action),
            params,
        )
    )
    return Episodes(
        num_steps=episodes.num_steps + 1,
        key=key,
        env_state=env_state,
        obs=to_rows(rules.num_agents, obs),
        carry=carry,
        returns=episodes.returns + jnp.where(match_rank(ended, reward), 0.0, reward),
        lengths=episodes.lengths + (~ended).astype(jnp.int32),
        terminated=episodes.terminated | (~ended & terminated),
        truncated=episodes.truncated | (~ended & truncated),
    )


def run_episodes(
    rules: Rules,
    policy: Policy,
    params: Any,
    learner: LearnerState,
    key: jax.Array,
    *,
    num_episodes: int,
    max_episode_steps: int,
    greedy: bool,
) -> tuple[jax.Array, jax.Array, jax.Array, Any]:
    """One episode in each of `num_episodes` environments, as a pure function.

    Args:
      rules: those of the environment.
      policy: how to act.
      params: parameters of the environment.
      learner: the learner that the policy acts with.
      key: PRNG key, consumed.
      num_episodes: number of episodes.
      max_episode_steps: the step limit at which episodes are cut.
      greedy: as in `evaluate`.

    Returns:
      `(returns float32 [N], lengths int32 [N], ended bool [N], agent_returns)`; `ended` is false
      for cut episodes. `agent_returns` are float32 `[N, A]` of several agents, or `()`; `returns`
      are then their means, or those of the agent whose seat it is where agents compete.
    """

    def body(episodes: Episodes) -> Episodes:
        return step_episodes(rules, policy, params, learner, episodes, greedy=greedy)

    def running(episodes: Episodes) -> jax.Array:
        return (episodes.num_steps < max_episode_steps) & ~episodes.ended.all()

    start = begin_episodes(rules, policy, params, key, num_episodes)
    found = jax.lax.while_loop(running, body, start)
    agent_returns = () if rules.num_agents is None else found.returns
    return of_policy(rules, found.returns), found.lengths, found.ended, agent_returns


def of_policy(rules: Rules, returns: jax.Array) -> jax.Array:
    """The return that counts, `[N]`: the mean over agents, or that of the policy's own seat."""
    if rules.num_agents is None:
        return returns
    if not rules.is_competitive:
        return returns.mean(axis=1)
    seats = seat_of(jnp.arange(returns.shape[0], dtype=jnp.int32), rules.num_agents)
    return jnp.take_along_axis(returns, seats[:, None], axis=1)[:, 0]


def _axis_of_agents(rules: Rules) -> tuple[int, ...]:
    return () if rules.num_agents is None else (rules.num_agents,)
