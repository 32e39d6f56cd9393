"""The replay buffer: the latest steps of every environment, on the device that steps it.

It is sharded along the environments as they are, so that the logical shards hold the same
experience on any number of devices. Each observation is stored once, in the environment's own
dtype: the successor of a step is the observation of the next, except where a limit cut the episode,
whose final observation has a place of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxdrl.core.trees import match_rank
from jaxdrl.core.types import Transition
from jaxdrl.distributed.layout import Layout
from jaxdrl.envs.protocol import Environment

RUNNING, TERMINATED, TRUNCATED = 0, 1, 2
"""Codes of `Replay.ends`; a truncated step has `TRUNCATED` plus the place of its observation."""


@struct.dataclass
class Replay:
    """The latest `C` steps of each of `N` environments, rings that all turn together.

    Attributes:
      obs: observations in the environment's own dtype, `[N, C, ...]`.
      action: as in `Transition`, `[N, C, ...]`.
      reward: float32 `[N, C]`.
      ends: how the episode goes on after a step, an unsigned integer `[N, C]`.
      final_obs: final observations of truncated episodes, `[N, S, ...]`, a ring as well.
      final_row: the row of the step that each of them follows, int32 `[N, S]`.
      num_truncated: truncations so far, modulo `S`, int32 `[N]`.
      position: the row that is written next, int32 `[N]`; the same in all environments.
      size: number of rows that hold experience, int32 `[N]`; likewise.
      key: one PRNG key for each environment, of which that of the first in each logical shard draws
        the samples of the shard.
    """

    obs: Any
    action: Any
    reward: jax.Array
    ends: jax.Array
    final_obs: Any
    final_row: jax.Array
    num_truncated: jax.Array
    position: jax.Array
    size: jax.Array
    key: jax.Array


@struct.dataclass
class Minibatch:
    """Windows of up to `n` steps to learn from, `[..., rows]`.

    Attributes:
      obs: observations before the first step.
      action: the first action.
      reward: rewards, 0 after the end of the episode, float32 `[..., n]`.
      num_steps: steps until the end of the episode or of the window, int32.
      terminated: bool, whether the episode ended there and no reward can follow.
      next_obs: the true successor of the last step; of no meaning where `terminated`.
      weight: 1; or 0 where the final observation of a truncated episode is no longer there, which
        happens only if episodes are truncated more often than `max_episode_steps` says; float32.
      seed: a random number for each row, from which a loss draws its noise, uint32. Not a key: JAX
        takes a key that was transposed for one that was used (`jax_debug_key_reuse`).
    """

    obs: Any
    action: Any
    reward: jax.Array
    num_steps: jax.Array
    terminated: jax.Array
    next_obs: Any
    weight: jax.Array
    seed: jax.Array


def num_final_obs(capacity: int, max_episode_steps: int | None) -> int:
    """How many truncations the latest `capacity` steps of an environment can have, at least 1."""
    if max_episode_steps is None:
        return capacity
    return min(capacity, (capacity - 1) // max_episode_steps + 1)


def init(env: Environment, obs: Any, action: Any, key: jax.Array, capacity: int) -> Replay:
    """An empty buffer.

    Args:
      env: the environment.
      obs: shape and dtype of the observations `[N, ...]`, or these themselves.
      action: the same of the actions.
      key: one key for each environment, `[N]`, consumed.
      capacity: steps of each environment, `C`.
    """
    num_envs, places = key.shape[0], num_final_obs(capacity, env.max_episode_steps)
    dtype = next(d for d in ("uint8", "uint16", "uint32") if TRUNCATED + places <= jnp.iinfo(d).max)

    def empty(num: int, like: Any) -> Any:
        return jax.tree.map(lambda x: jnp.zeros((num_envs, num, *x.shape[1:]), x.dtype), like)

    count = jnp.zeros((num_envs,), jnp.int32)
    return Replay(
        obs=empty(capacity, obs),
        action=empty(capacity, action),
        reward=jnp.zeros((num_envs, capacity), jnp.float32),
        ends=jnp.zeros((num_envs, capacity), dtype),
        final_obs=empty(places, obs),
        final_row=jnp.full((num_envs, places), -1, jnp.int32),
        num_truncated=count,
        position=jnp.copy(count),
        size=jnp.copy(count),
        key=key,
    )


@jax.named_scope("replay")
def insert(replay: Replay, steps: Transition) -> Replay:
    """Writes a rollout over the oldest rows, in place where the buffer is donated.

    Args:
      replay: the buffer, whose capacity `T` divides, so that no rollout is split.
      steps: `[T, N, ...]`, with `final_obs`.
    """
    (num_envs, capacity), num_steps = replay.reward.shape, steps.reward.shape[0]
    places, start = replay.final_row.shape[1], replay.position[0]

    def write(old: jax.Array, new: jax.Array) -> jax.Array:
        rows = jnp.moveaxis(new, 0, 1).astype(old.dtype)
        return jax.lax.dynamic_update_slice_in_dim(old, rows, start, axis=1)

    total = replay.num_truncated[None] + jnp.cumsum(steps.truncated.astype(jnp.int32), axis=0)
    place = (total - 1) % places
    ends = jnp.where(steps.terminated, TERMINATED, RUNNING)
    ends = jnp.where(steps.truncated, TRUNCATED + place, ends)
    # Of two truncations for which there is one place the later remains; an index of `places` drops.
    env = jnp.broadcast_to(jnp.arange(num_envs, dtype=jnp.int32)[None], place.shape)
    is_last = total[-1:] - total < places
    place = jnp.where(steps.truncated & is_last, place, places)
    row = start + jnp.arange(num_steps, dtype=jnp.int32)

    def keep(old: jax.Array, new: jax.Array) -> jax.Array:
        return old.at[env, place].set(new.astype(old.dtype), mode="drop")

    return replace(
        replay,
        obs=jax.tree.map(write, replay.obs, steps.obs),
        action=jax.tree.map(write, replay.action, steps.action),
        reward=write(replay.reward, steps.reward),
        ends=write(replay.ends, ends),
        final_obs=jax.tree.map(keep, replay.final_obs, steps.final_obs),
        final_row=keep(replay.final_row, jnp.broadcast_to(row[:, None], place.shape)),
        num_truncated=total[-1] % places,
        position=(replay.position + num_steps) % capacity,
        size=jnp.minimum(replay.size + num_steps, capacity),
    )


@jax.named_scope("replay")
def sample(
    layout: Layout, replay: Replay, *, num: int, batch_size: int, n: int
) -> tuple[Replay, Minibatch]:
    """Draws minibatches with replacement: an equal part of each from every logical shard.

    Within a shard, every window that begins at least `n` steps before the newest one has the same
    probability. The buffer has to hold more than `n` rows, or the windows mean nothing.

    Args:
      layout: the layout.
      replay: the buffer of the environments on this device.
      num: number of minibatches.
      batch_size: windows in a minibatch, over all devices; the number of shards divides it.
      n: the most steps in a window.

    Returns:
      `(replay, minibatches [num, rows on this device, ...])`, the rows of a shard together, and the
      buffer with the next keys.
    """
    (num_envs, capacity), num_shards = replay.reward.shape, layout.num_shards // layout.num_devices
    shard_envs, shape = num_envs // num_shards, (num, batch_size // layout.num_shards)
    keys = jax.vmap(jax.random.split)(replay.key)
    num_starts, newest = jnp.maximum(replay.size[0] - n, 1), replay.position[0] - 1

    def of_shard(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        env_key, age_key, row_key = jax.random.split(key, 3)
        env = jax.random.randint(env_key, shape, 0, shard_envs)
        age = jax.random.randint(age_key, shape, n, n + num_starts)
        return env, age, jax.random.bits(row_key, shape)

    env, age, seed = jax.vmap(of_shard)(keys[::shard_envs, 1])
    env += shard_envs * jnp.arange(num_shards, dtype=jnp.int32)[:, None, None]
    # [shards, minibatches, rows of a shard] to [minibatches, rows]
    env, age, seed = (jnp.moveaxis(x, 0, 1).reshape(num, -1) for x in (env, age, seed))
    minibatches = _windows(replay, env, (newest - age) % capacity, seed, n)
    return replace(replay, key=keys[:, 0]), minibatches


def _windows(replay: Replay, env: jax.Array, row: jax.Array, seed: jax.Array, n: int) -> Minibatch:
    """The windows that begin in rows of environments, all arrays `[...]`."""
    (_, capacity), places = replay.reward.shape, replay.final_row.shape[1]

    def at(tree: Any, row: jax.Array) -> Any:
        return jax.tree.map(lambda x: x.at[env, row].get(mode="promise_in_bounds"), tree)

    rows = [(row + step) % capacity for step in range(n)]
    rewards, ends = (
        [at(x, row) for row in rows] for x in (replay.reward, replay.ends.astype(jnp.int32))
    )
    runs, last, end = jnp.ones(row.shape, jnp.bool), row, ends[0]
    num_steps = jnp.zeros(row.shape, jnp.int32)
    for step in range(n):
        rewards[step] = jnp.where(runs, rewards[step], 0.0)
        last, end = jnp.where(runs, rows[step], last), jnp.where(runs, ends[step], end)
        num_steps += runs.astype(jnp.int32)
        runs &= ends[step] == RUNNING
    truncated, place = end >= TRUNCATED, jnp.clip(end - TRUNCATED, 0, places - 1)

    def choose(final: jax.Array, following: jax.Array) -> jax.Array:
        is_final = truncated.reshape(-1)
        flat = (x.reshape(is_final.size, *x.shape[row.ndim :]) for x in (final, following))
        final, following = flat
        chosen = jnp.where(match_rank(is_final, final), final, following)
        return chosen.reshape(*row.shape, *chosen.shape[1:])

    final_obs, following = at(replay.final_obs, place), at(replay.obs, (last + 1) % capacity)
    is_lost = truncated & (at(replay.final_row, place) != last)
    return Minibatch(
        obs=at(replay.obs, row),
        action=at(replay.action, row),
        reward=jnp.stack(rewards, axis=-1),
        num_steps=num_steps,
        terminated=end == TERMINATED,
        next_obs=jax.tree.map(choose, final_obs, following),
        weight=1.0 - is_lost.astype(jnp.float32),
        seed=seed,
    )


def n_step_return(batch: Minibatch, gamma: Any) -> tuple[jax.Array, jax.Array]:
    """`(return, discount)` of windows of `m <= n` steps, each `[...]`.

        R = r_0 + gamma r_1 + ... + gamma^{m-1} r_{m-1},   discount = gamma^m (1 - terminated)

    so that a target is `R + discount * V(next_obs)`. Sutton and Barto 2018, chapter 7.
    """
    factor = jnp.ones((), jnp.float32)
    total, discount = jnp.zeros_like(batch.weight), jnp.zeros_like(batch.weight)
    for step in range(batch.reward.shape[-1]):
        total += factor * batch.reward[..., step]
        factor = factor * gamma
        discount = jnp.where(batch.num_steps == step + 1, factor, discount)
    return total, jnp.where(batch.terminated, 0.0, discount)
