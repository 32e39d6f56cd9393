"""Random play that records every step of an environment, for `jaxdrl.check_environment`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxdrl.envs import vector
from jaxdrl.envs.agents import by_env, random_actions
from jaxdrl.envs.contract.state_inspection import (
    fingerprint,
    is_finite,
    is_in_space,
    key_candidates,
    key_leaves,
    whole_numbers,
    without_keys,
)
from jaxdrl.envs.protocol import Environment, strong_types


class Starts(NamedTuple):
    """How the first episodes of `N` environments start.

    Attributes:
      prints: fingerprints of observation and state without keys, uint32 `[N]`.
      keys: data of the keys in the states by path, uint32 `[N, ...]`.
    """

    prints: jax.Array
    keys: dict[str, jax.Array]


class Observed(NamedTuple):
    """What was recorded of each step of each environment; arrays `[T, N]`.

    Attributes:
      step: number of the step in its episode, from 1, int32.
      reward: reward from the environment, `[T, N, A]` of several agents.
      terminated: bool.
      truncated: bool.
      in_space: whether the observation is in its space, that of every agent, bool.
      finite: whether the observation is finite, bool.
      num_allowed: how many actions the mask allows before the step, the fewest of an agent, int32;
        1 without a mask.
      state_is_reset: the episode ended, and its last state is that of a reset, bool.
      obs_is_reset: the episode ended, and its last observation is that of a reset, bool.
      counter_is_reset: the episode ended, and its counter of steps is back at its start, bool.
      obs_sum: sum of all numbers in the observation, float32.
    """

    step: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    in_space: jax.Array
    finite: jax.Array
    num_allowed: jax.Array
    state_is_reset: jax.Array
    obs_is_reset: jax.Array
    counter_is_reset: jax.Array
    obs_sum: jax.Array


@struct.dataclass
class Episode:
    """The running episodes of `N` environments; `first_*` are from the start of the episode.

    Attributes:
      obs: `[N, ...]`.
      env_state: `[N, ...]`.
      num_steps: number of steps of the episode so far, int32 `[N]`.
      first_obs: fingerprint, uint32 `[N]`.
      first_state: fingerprint, uint32 `[N]`.
      first_counts: integer scalars in the state, int32 `[N, C]`.
      counts: which of them have grown by 1 at each step, bool `[N, C]`.
    """

    obs: Any
    env_state: Any
    num_steps: jax.Array
    first_obs: jax.Array
    first_state: jax.Array
    first_counts: jax.Array
    counts: jax.Array


@struct.dataclass
class LastStep:
    """What is needed of the last step of `N` environments to find a hidden reset.

    Attributes:
      ended: bool `[N]`.
      reset_words: data of the key for the next episode, uint32 `[N, 2]`.
      candidates: data of keys that a hidden reset may have used, uint32 `[N, K, 2]`.
      obs: fingerprint, uint32 `[N]`.
      env_state: fingerprint, uint32 `[N]`.
    """

    ended: jax.Array
    reset_words: jax.Array
    candidates: jax.Array
    obs: jax.Array
    env_state: jax.Array


def play(env: Environment, keys: jax.Array, num_steps: int) -> tuple[Starts, Observed]:
    """Plays random allowed actions, with a reset where an episode ends.

    A reset may take a minute to compile, so the program contains only one: the first episodes begin
    as all others do, after the end of an episode.

    Args:
      env: the environment.
      keys: `[N]`, consumed.
      num_steps: `T`.
    """
    keys = jax.vmap(jax.random.split)(keys)

    def one_turn(carry: tuple, _: None) -> tuple[tuple, tuple]:
        episode, last, keys = carry
        episode, found = _reset_ended(env, episode, last)
        starts = Starts(
            jax.vmap(fingerprint)((episode.first_obs, episode.first_state)),
            key_leaves(episode.env_state),
        )
        episode, last, keys, seen = _step(env, episode, keys)
        return (episode, last, keys), (starts, found, seen)

    # One turn more than steps: an end is compared with resets when the next episode begins.
    carry = (*_before(env, jax.random.key_data(keys[:, 0])), keys[:, 1])
    _, (starts, found, seen) = jax.lax.scan(one_turn, carry, length=num_steps + 1)
    seen = jax.tree.map(lambda x: x[:-1], seen)
    return jax.tree.map(lambda x: x[0], starts), seen._replace(
        obs_is_reset=found[1:, :, 0], state_is_reset=found[1:, :, 1]
    )


def play_alone(env: Environment, key: jax.Array, num_steps: int) -> tuple[jax.Array, ...]:
    """`(obs_sum, reward, terminated, truncated)` `[T]` of one environment without `vmap`.

    Until its first episode ends, it should equal what `play` gives for the same key.
    """
    reset_key, play_key = jax.random.split(key)
    start = strong_types(env.reset(reset_key, env.default_params))

    def one_step(carry: Any, _: None) -> Any:
        (obs, env_state), key = carry
        keys = jax.random.split(key, 4)
        action, _allowed = random_actions(env, keys[1], obs)
        obs, env_state, *rest, _info = strong_types(
            env.step(keys[2], env_state, action, env.default_params)
        )
        return ((obs, env_state), keys[0]), (_sum(obs), *rest)

    return jax.lax.scan(one_step, (start, play_key), length=num_steps)[1]


def _before(env: Environment, reset_words: jax.Array) -> tuple[Episode, LastStep]:
    """The placeholders of `N` environments before their first reset, all of which have ended."""
    nowhere = _zeros(partial(_reset, env), reset_words)
    nothing = jnp.zeros(len(reset_words), jnp.uint32)
    return nowhere, LastStep(
        ended=jnp.ones(len(reset_words), jnp.bool),
        reset_words=reset_words,
        candidates=key_candidates(reset_words, nowhere.env_state),
        obs=nothing,
        env_state=nothing,
    )


def _zeros(function: Callable, *args: Any) -> Any:
    """Zeros in the shapes that `function` returns."""
    shapes = jax.eval_shape(function, *args)
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _reset(env: Environment, words: jax.Array) -> Episode:
    obs, env_state = vector.reset(env, jax.random.wrap_key_data(words))
    return _begin(by_env(env.num_agents, obs), env_state)


def _begin(obs: Any, env_state: Any) -> Episode:
    """Environments at the start of an episode."""
    numbers = whole_numbers(env_state)
    return Episode(
        obs=obs,
        env_state=env_state,
        num_steps=jnp.zeros(numbers.shape[:1], jnp.int32),
        first_obs=jax.vmap(fingerprint)(obs),
        first_state=jax.vmap(fingerprint)(without_keys(env_state)),
        first_counts=numbers,
        counts=jnp.ones(numbers.shape, jnp.bool),
    )


def _step(
    env: Environment, episode: Episode, keys: jax.Array
) -> tuple[Episode, LastStep, jax.Array, Observed]:
    """One step of all; `seen` without what is known only when the next episode begins."""
    keys = jax.vmap(lambda key: jax.random.split(key, 4))(keys)
    params, step_words = env.default_params, jax.random.key_data(keys[:, 2])
    action, num_allowed = jax.vmap(lambda key, obs: random_actions(env, key, obs))(
        keys[:, 1], episode.obs
    )
    obs, env_state, reward, terminated, truncated, _ = strong_types(
        jax.vmap(env.step, in_axes=(0, 0, 0, None))(keys[:, 2], episode.env_state, action, params)
    )
    ended, length = terminated | truncated, episode.num_steps + 1
    numbers = whole_numbers(env_state)
    # What went up only a few times need not count steps: it may be the raises of a game of cards.
    counter_is_reset = episode.counts & (numbers == episode.first_counts) & (length[:, None] > 3)
    last = LastStep(
        ended=ended,
        reset_words=jax.random.key_data(keys[:, 3]),
        candidates=key_candidates(step_words, episode.env_state),
        obs=jax.vmap(fingerprint)(obs),
        env_state=jax.vmap(fingerprint)(without_keys(env_state)),
    )
    unknown = jnp.zeros(ended.shape, jnp.bool)
    seen = Observed(
        step=length,
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        in_space=jax.vmap(partial(_in_space, env))(obs),
        finite=jax.vmap(is_finite)(obs),
        num_allowed=num_allowed,
        obs_is_reset=unknown,
        state_is_reset=unknown,
        counter_is_reset=counter_is_reset.any(axis=1) & ended,
        obs_sum=jax.vmap(_sum)(obs),
    )
    going = episode.replace(  # type: ignore[attr-defined]
        obs=obs,
        env_state=env_state,
        num_steps=length,
        counts=episode.counts & (numbers == whole_numbers(episode.env_state) + 1),
    )
    return going, last, keys[:, 0], seen


def _reset_ended(env: Environment, episode: Episode, last: LastStep) -> tuple[Episode, jax.Array]:
    """`episode`, reset where one ended, and whether that end equals a reset, bool `[N, 2]`.

    The first column is about the observation, the second about the state.
    """

    def reset_rows(rows: jax.Array) -> tuple[Episode, jax.Array]:
        def take(x: jax.Array) -> jax.Array:
            return x.at[rows].get(mode="clip")

        ended, of_first = jax.tree.map(take, (last, (episode.first_obs, episode.first_state)))
        fresh, obs, env_state = _resets(env, ended)
        same_obs = (obs == ended.obs[None]).any(axis=0) | (of_first[0] == ended.obs)
        same_state = (env_state == ended.env_state[None]).any(axis=0) | (
            of_first[1] == ended.env_state
        )
        return fresh, jnp.stack([same_obs, same_state], axis=1)

    num_envs = last.ended.shape[0]
    rows = (episode, jnp.zeros((num_envs, 2), jnp.bool))
    return vector.update_rows(last.ended, reset_rows, rows, is_costly=env.costly_reset)


def _resets(env: Environment, last: LastStep) -> tuple[Episode, jax.Array, jax.Array]:
    """The new episodes, and fingerprints `[K, N]` of observations and states of possible resets.

    An environment that resets itself does so with the key of the step, a key split from it, a key
    in its state, or the state that the episode began with.
    """

    def one(_: Episode, words: jax.Array) -> tuple[Episode, tuple[jax.Array, jax.Array]]:
        fresh = _reset(env, words)
        return fresh, (fresh.first_obs, fresh.first_state)

    # One after another in one loop; the reset of the new episode comes last.
    words = jnp.concatenate([last.candidates.swapaxes(0, 1), last.reset_words[None]])
    start = _zeros(partial(_reset, env), last.reset_words)
    fresh, (obs, env_state) = jax.lax.scan(one, start, words)
    return fresh, obs[:-1], env_state[:-1]


def _in_space(env: Environment, obs: Any) -> jax.Array:
    """Whether the observation of an environment, or that of all its agents, is in the space."""
    if env.num_agents is None:
        return is_in_space(env.observation_space, obs)
    return jax.vmap(lambda obs: is_in_space(env.observation_space, obs))(obs).all()


def _sum(obs: Any) -> jax.Array:
    parts = [x.astype(jnp.float32).sum() for x in jax.tree.leaves(obs)]
    return jnp.stack(parts).sum()
