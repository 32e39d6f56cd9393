"""Which episodes the copies of an environment of the host play, and how these are played again."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxdrl.envs.host.protocol import HostBatch


def seed_bases(key: jax.Array) -> np.ndarray:
    """What the seeds of each copy are drawn from, uint64 `[N]`; the keys are not consumed."""
    words = np.asarray(jax.random.key_data(key), np.uint64)
    base = np.zeros(len(words), np.uint64)
    for word in words.T:
        base = _mix(base + word + GOLDEN)
    return base


def seeds_of(base: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """The seeds of episodes, uint32 `[N]` below 2^31.

    Each copy draws from a SplitMix64 generator of its own (Steele, Lea and Flood, 2014), whose
    number `episode` can be computed without those before it.

    Args:
      base: from `seed_bases`, `[N]`.
      episode: numbers of the episodes, at least 0, `[N]`.
    """
    mixed = _mix(base + (episode.astype(np.uint64) + ONE) * GOLDEN)
    return (mixed >> HIGH).astype(np.uint32)


ONE, HIGH = np.uint64(1), np.uint64(33)
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    """The output function of SplitMix64, a bijection of uint64 that flips half of the bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def extend(
    actions: np.ndarray, length: np.ndarray, taken: np.ndarray, ended: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The actions and the lengths of the running episodes after a trajectory.

    Args:
      actions: actions of the running episodes before it, `[N, M, ...]`; not written to.
      length: how many of them hold, `[N]`.
      taken: actions of the trajectory, `[T, N, ...]`.
      ended: whether an episode ended with a step, `[T, N]`.

    Returns:
      `(actions, length)`. Actions beyond `M` are left out.
    """
    num_steps = len(taken)
    any_ended = ended.any(axis=0)
    first = np.where(any_ended, num_steps - ended[::-1].argmax(axis=0), 0)
    offset = np.where(any_ended, 0, length) - first  # from steps to places in `actions`
    step, row = np.nonzero(np.arange(num_steps)[:, None] >= first)
    place = step + offset[row]
    kept = place < actions.shape[1]
    actions = actions.copy()
    actions[row[kept], place[kept]] = taken[step[kept], row[kept]]
    return actions, (num_steps + offset).astype(np.int32)


def replay(
    batch: HostBatch, rows: np.ndarray, seeds: np.ndarray, actions: np.ndarray, length: np.ndarray
) -> tuple[Any, np.ndarray]:
    """Plays running episodes again, all of which are at their last action in the end.

    Since a batch steps all its rows, each plays the longest of these episodes until it is time to
    begin its own: those actions are known to be possible.

    Args:
      batch: the copies.
      rows: which of them are to play again, bool `[N]`, at least one.
      seeds: of the running episodes, `[N]`.
      actions: of the running episodes, `[N, M, ...]`.
      length: how many of them hold, `[N]`.

    Returns:
      `(obs [N, ...], is_running)`: the observations, which hold for the rows that were to play and
      are running, bool `[N]`; in others the episode has ended too early, as it does where seed and
      actions do not decide it.
    """
    longest = np.where(rows, length, -1).argmax()
    num_steps = length[longest]
    begins = np.where(rows, num_steps - length, num_steps + 1)
    is_running, every = rows.copy(), np.arange(len(rows))
    obs = batch.reset(np.ones_like(rows), np.where(begins == 0, seeds, seeds[longest]))
    for step in range(num_steps):
        if step and (begins == step).any():
            batch.reset(begins == step, seeds)
        has_begun = begins <= step
        plays = np.where(has_begun, every, longest)
        action = actions[plays, np.where(has_begun, step - begins, step)]
        obs, _, terminated, truncated = batch.step(action)
        ended = terminated | truncated
        if ended.any():
            is_running &= ~(ended & has_begun)
            obs = batch.reset(ended, seeds[plays])
    if num_steps and (begins == num_steps).any():
        obs = batch.reset(begins == num_steps, seeds)
    return obs, is_running


def equal_rows(obs: Any, expected: Any) -> np.ndarray:
    """In which rows observations `[N, ...]` have the expected bits, bool `[N]`."""
    pairs = zip(jax.tree.leaves(obs), jax.tree.leaves(expected), strict=True)
    return np.logical_and.reduce([_equal_rows(np.asarray(x, y.dtype), y) for x, y in pairs])


def _equal_rows(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    num = len(y)
    x, y = (np.ascontiguousarray(z).reshape(num, -1).view(np.uint8) for z in (x, y))
    return (x == y).all(axis=1)
