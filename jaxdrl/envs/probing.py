"""Random play that looks at every step of an environment, for `jaxdrl.check_environment`."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdrl import spaces
from jaxdrl.envs import vector
from jaxdrl.envs.protocol import Environment, strong_types

ODD = (0x9E3779B1, 0x85EBCA6B, 0x2C1B3C6D)
"""Multipliers of `fingerprint`, by which neighbouring numbers are far apart."""


class Starts(NamedTuple):
    """The first episodes of `N` environments.

    Attributes:
      prints: of observation and state without keys, uint32 `[N]`.
      keys: words of the keys in the states by where they are, uint32 `[N, ...]`.
    """

    prints: jax.Array
    keys: dict[str, jax.Array]


class Sight(NamedTuple):
    """What was seen of each step of each environment; arrays `[T, N]`.

    Attributes:
      step: of the episode, from 1, int32.
      reward: as the environment gave it.
      terminated: bool.
      truncated: bool.
      in_space: obs, bool.
      finite: obs, bool.
      num_allowed: actions that its mask allows before the step, int32; 1 without a mask.
      state_is_reset: the episode ended, and its last state is one that a reset gives, bool.
      obs_is_reset: likewise for its last observation.
      counter_is_reset: likewise, and what counted its steps is where it was at its start.
      obs_sum: of all its numbers, float32.
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
    """Where `N` environments are; `first_*` are of the start of the episode.

    Attributes:
      obs: `[N, ...]`.
      env_state: `[N, ...]`.
      key: `[N]`.
      num_steps: of the episode, int32 `[N]`.
      first_obs: print, uint32 `[N]`.
      first_state: print, uint32 `[N]`.
      first_counts: whole numbers in the state, int32 `[N, C]`.
      counts: which of them have grown by 1 at each step, bool `[N, C]`.
    """

    obs: Any
    env_state: Any
    key: jax.Array
    num_steps: jax.Array
    first_obs: jax.Array
    first_state: jax.Array
    first_counts: jax.Array
    counts: jax.Array


def begin(obs: Any, env_state: Any, key: jax.Array) -> Episode:
    """Environments at the start of an episode."""
    numbers = _whole_numbers(env_state)
    return Episode(
        obs=obs,
        env_state=env_state,
        key=key,
        num_steps=jnp.zeros(key.shape, jnp.int32),
        first_obs=jax.vmap(fingerprint)(obs),
        first_state=jax.vmap(fingerprint)(without_keys(env_state)),
        first_counts=numbers,
        counts=jnp.ones(numbers.shape, jnp.bool),
    )


def play(env: Environment, keys: jax.Array, num_steps: int) -> tuple[Starts, Sight]:
    """Plays random allowed actions, with a reset where an episode ends.

    Args:
      env: the environment.
      keys: `[N]`, consumed.
      num_steps: `T`.
    """
    keys = jax.vmap(jax.random.split)(keys)
    obs, env_state = vector.reset(env, keys[:, 0])
    prints = jax.vmap(fingerprint)((obs, without_keys(env_state)))
    starts = Starts(prints, key_leaves(env_state))
    episode = begin(obs, env_state, keys[:, 1])

    def one_step(episode: Episode, _: None) -> tuple[Episode, Sight]:
        return _step(env, episode)

    return starts, jax.lax.scan(one_step, episode, length=num_steps)[1]


def play_alone(env: Environment, key: jax.Array, num_steps: int) -> tuple[jax.Array, ...]:
    """`(obs_sum, reward, terminated, truncated)` `[T]` of one environment without `vmap`.

    Until its first end it is what `play` has for the same key.
    """
    reset_key, play_key = jax.random.split(key)
    start = strong_types(env.reset(reset_key, env.default_params))

    def one_step(carry: Any, _: None) -> Any:
        (obs, env_state), key = carry
        keys = jax.random.split(key, 4)
        action, _allowed = random_action(env, keys[1], obs)
        obs, env_state, *rest, _info = strong_types(
            env.step(keys[2], env_state, action, env.default_params)
        )
        return ((obs, env_state), keys[0]), (_sum(obs), *rest)

    return jax.lax.scan(one_step, (start, play_key), length=num_steps)[1]


def _step(env: Environment, episode: Episode) -> tuple[Episode, Sight]:
    keys = jax.vmap(lambda key: jax.random.split(key, 4))(episode.key)
    params, step_data = env.default_params, jax.random.key_data(keys[:, 2])
    action, num_allowed = jax.vmap(lambda key, obs: random_action(env, key, obs))(
        keys[:, 1], episode.obs
    )
    obs, env_state, reward, terminated, truncated, _ = strong_types(
        jax.vmap(env.step, in_axes=(0, 0, 0, None))(keys[:, 2], episode.env_state, action, params)
    )
    ended, length = terminated | truncated, episode.num_steps + 1
    prints = (jax.vmap(fingerprint)(obs), jax.vmap(fingerprint)(without_keys(env_state)))
    numbers = _whole_numbers(env_state)
    counter_is_reset = episode.counts & (numbers == episode.first_counts) & (length[:, None] > 1)
    candidates = [step_data, *_raw_keys(episode.env_state)]

    def is_reset(rows: jax.Array) -> jax.Array:
        def take(x: jax.Array) -> jax.Array:
            return x.at[rows].get(mode="clip")

        first = (episode.first_obs, episode.first_state)
        return _equal_resets(env, *jax.tree.map(take, (candidates, prints, first)))

    nothing = jnp.zeros((*ended.shape, 2), jnp.bool)
    found = vector.update_rows(ended, is_reset, nothing)
    sight = Sight(
        step=length,
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        in_space=jax.vmap(lambda obs: is_in_space(env.observation_space, obs))(obs),
        finite=jax.vmap(_is_finite)(obs),
        num_allowed=num_allowed,
        obs_is_reset=found[:, 0],
        state_is_reset=found[:, 1],
        counter_is_reset=counter_is_reset.any(axis=1) & ended,
        obs_sum=jax.vmap(_sum)(obs),
    )
    going = episode.replace(  # type: ignore[attr-defined]
        obs=obs,
        env_state=env_state,
        key=keys[:, 0],
        num_steps=length,
        counts=episode.counts & (numbers == _whole_numbers(episode.env_state) + 1),
    )
    return _begin_anew(env, going, ended, keys[:, 3]), sight


def _begin_anew(env: Environment, going: Episode, ended: jax.Array, keys: jax.Array) -> Episode:
    """`going`, reset where an episode ended."""
    data, impl = jax.random.key_data(keys), jax.random.key_impl(keys)
    kept = jax.random.key_data(going.key)

    def reset_rows(rows: jax.Array) -> Episode:
        reset_keys = jax.random.wrap_key_data(data.at[rows].get(mode="clip"), impl=impl)
        fresh = begin(*vector.reset(env, reset_keys), reset_keys)
        return fresh.replace(key=kept.at[rows].get(mode="clip"))  # type: ignore[attr-defined]

    chunk = vector.chunk_size(ended.shape[0], is_costly=env.costly_reset)
    raw = going.replace(key=kept)  # type: ignore[attr-defined]
    raw = vector.update_rows(ended, reset_rows, raw, chunk=chunk)
    return raw.replace(key=jax.random.wrap_key_data(raw.key, impl=impl))


def _equal_resets(env: Environment, candidates: list, prints: tuple, first: tuple) -> jax.Array:
    """Whether observation and state are what a reset gave, bool `[N, 2]`.

    An environment that resets itself does so by the key of the step, one that is split off it, a
    key in its state, or with the state that the episode began with.
    """
    keys = [data for words in candidates for data in (words, *_halves(words))]

    def of_reset(words: jax.Array) -> tuple[jax.Array, jax.Array]:
        obs, env_state = vector.reset(env, jax.random.wrap_key_data(words))
        return jax.vmap(fingerprint)(obs), jax.vmap(fingerprint)(without_keys(env_state))

    # One after another: a reset may take a minute to compile.
    obs, env_state = jax.lax.map(of_reset, jnp.stack(keys))
    same_obs = (obs == prints[0][None]).any(axis=0) | (prints[0] == first[0])
    same_state = (env_state == prints[1][None]).any(axis=0) | (prints[1] == first[1])
    return jnp.stack([same_obs, same_state], axis=1)


def _halves(words: jax.Array) -> tuple[jax.Array, jax.Array]:
    halves = jax.random.key_data(jax.vmap(jax.random.split)(jax.random.wrap_key_data(words)))
    return halves[:, 0], halves[:, 1]


def random_action(env: Environment, key: jax.Array, obs: Any) -> tuple[jax.Array, jax.Array]:
    """An action that `obs` allows, evenly, and how many logits are allowed; the key is consumed."""
    if env.action_mask is None:
        return env.action_space.sample(key), jnp.ones((), jnp.int32)
    mask = env.action_mask(obs)
    logits = jnp.where(mask, 0.0, -jnp.inf)
    if isinstance(env.action_space, spaces.Discrete):
        return jax.random.categorical(key, logits).astype(jnp.int32), mask.sum(dtype=jnp.int32)
    ends = np.cumsum(env.action_space.nvec)[:-1]  # type: ignore[union-attr]
    parts = jnp.split(logits, ends)
    keys = jax.random.split(key, len(parts))
    drawn = [jax.random.categorical(keys[i], part) for i, part in enumerate(parts)]
    fewest = [part.sum(dtype=jnp.int32) for part in jnp.split(mask, ends)]
    return jnp.stack(drawn).astype(jnp.int32), jnp.stack(fewest).min()


def is_in_space(space: spaces.ObservationSpace, obs: Any) -> jax.Array:
    """Whether every element is within the bounds of its space."""
    if isinstance(space, spaces.Dict):
        parts = [is_in_space(part, obs[name]) for name, part in space.items]
        return jnp.stack(parts).all()
    if isinstance(space, spaces.Box):
        low, high = jnp.asarray(space.low, space.dtype), jnp.asarray(space.high, space.dtype)
        obs = obs.astype(space.dtype)
        return ((obs >= low) & (obs <= high)).all()
    most = np.asarray(space.n if isinstance(space, spaces.Discrete) else space.nvec)
    return ((obs >= 0) & (obs < jnp.asarray(most, obs.dtype))).all()


def _is_finite(obs: Any) -> jax.Array:
    leaves = [x for x in jax.tree.leaves(obs) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.stack([jnp.ones((), jnp.bool), *(jnp.isfinite(x).all() for x in leaves)]).all()


def _sum(obs: Any) -> jax.Array:
    parts = [x.astype(jnp.float32).sum() for x in jax.tree.leaves(obs)]
    return jnp.stack(parts).sum()


def fingerprint(tree: Any) -> jax.Array:
    """A number that tells trees of one structure apart, by bits and places; uint32 `[]`."""
    total = jnp.zeros((), jnp.uint32)
    for i, leaf in enumerate(jax.tree.leaves(tree)):
        x = jax.random.key_data(leaf) if is_key(leaf) else leaf
        if jnp.issubdtype(x.dtype, jnp.floating):
            x = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
        x = x.astype(jnp.uint32).ravel()
        x ^= jnp.arange(x.size, dtype=jnp.uint32) * jnp.uint32(ODD[0]) + jnp.uint32(i)
        total += _mixed(_mixed(x)).sum(dtype=jnp.uint32)
    return total


def _mixed(x: jax.Array) -> jax.Array:
    """Every bit of the result depends on those of `x` above and below it."""
    x = (x ^ (x >> jnp.uint32(16))) * jnp.uint32(ODD[1])
    return (x ^ (x >> jnp.uint32(13))) * jnp.uint32(ODD[2])


def is_key(leaf: Any) -> bool:
    """Whether an array is one of typed keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def is_raw_key(path: Any, leaf: Any) -> bool:
    """Whether an array of a state looks like an old key: two uint32, named like one."""
    name = jax.tree_util.keystr(path).lower()
    old = leaf.dtype == jnp.uint32 and leaf.shape[-1:] == (2,)
    return old and ("key" in name or "rng" in name)


def without_keys(env_state: Any) -> list[jax.Array]:
    """The arrays of a state that are no keys."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(env_state)
    return [leaf for path, leaf in leaves if not is_key(leaf) and not is_raw_key(path, leaf)]


def key_leaves(env_state: Any) -> dict[str, jax.Array]:
    """Words of the keys in a state by where they are, uint32 `[..., 2]`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(env_state)
    return {
        jax.tree_util.keystr(path): jax.random.key_data(leaf) if is_key(leaf) else leaf
        for path, leaf in leaves
        if is_key(leaf) or is_raw_key(path, leaf)
    }


def _raw_keys(env_state: Any) -> list[jax.Array]:
    """The keys in the states of `N` environments, one of each, uint32 `[N, 2]`."""
    return [data for data in key_leaves(env_state).values() if data.ndim == 2]


def _whole_numbers(env_state: Any) -> jax.Array:
    """The integer scalars in the states of `N` environments, int32 `[N, C]`."""
    leaves = jax.tree.leaves(env_state)
    found = [x for x in leaves if x.ndim == 1 and jnp.issubdtype(x.dtype, jnp.signedinteger)]
    num_envs = leaves[0].shape[0] if leaves else 0
    columns = [x.astype(jnp.int32) for x in found]
    return jnp.stack(columns, axis=1) if columns else jnp.zeros((num_envs, 0), jnp.int32)
