"""Random play that records every step of an environment of the host."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdrl.core import spaces
from jaxdrl.envs.contract.random_play import Observed
from jaxdrl.envs.host.protocol import HostBatch
from jaxdrl.envs.host.replay import random_actions
from jaxdrl.envs.protocol import Environment, random_action


class Begun(NamedTuple):
    """A reset of some rows, before step `step` (from 0) of the play.

    Attributes:
      step: number of steps that were taken before it.
      rows: which rows, bool `[N]`.
      seeds: uint32 `[N]`.
      before: the observations before it, `[N, ...]`, None at first.
      obs: what it returned, `[N, ...]`.
    """

    step: int
    rows: np.ndarray
    seeds: np.ndarray
    before: Any
    obs: Any


class Recorded(NamedTuple):
    """What was given to the copies and what they returned; copies of the arrays, made at once.

    Attributes:
      resets: in their order.
      actions: `[T, N, ...]`.
      results: what each of the `T` steps returned.
      seen: what the checks of all environments look at.
      num_changed: how many of the arrays had changed when the play was over.
    """

    resets: list[Begun]
    actions: np.ndarray
    results: list[tuple]
    seen: Observed
    num_changed: int


def play_on_host(env: Environment, num_envs: int, num_steps: int, seed: int) -> Recorded:
    """Plays random allowed actions, with a reset of the rows whose episode ended.

    Half of the rows are reset at the end, whether or not their episode has ended.
    """
    random = np.random.default_rng(seed)
    draw = drawer(env, random, num_envs)
    given: list[tuple[Any, Any]] = []  # arrays as they were returned, and copies made at once

    def kept(tree: Any) -> Any:
        copy = jax.tree.map(np.copy, tree)
        given.append((tree, copy))
        return copy

    def begin(batch: HostBatch, step: int, rows: np.ndarray, before: Any) -> Any:
        before = jax.tree.map(np.copy, before)
        seeds = random.integers(0, 2**31, num_envs).astype(np.uint32)
        obs = batch.reset(rows.copy(), seeds.copy())
        resets.append(Begun(step, rows, seeds, before, kept(obs)))
        return obs

    resets: list[Begun] = []
    actions, results, allowed, lengths = [], [], [], []
    length = np.zeros(num_envs, np.int64)
    with closing(env.host.make(num_envs)) as batch:
        obs = begin(batch, 0, np.ones(num_envs, bool), None)
        for step in range(num_steps):
            action, num_allowed = draw(obs)
            result = batch.step(action.copy())
            length += 1
            actions.append(action)
            allowed.append(num_allowed)
            lengths.append(length.copy())
            results.append(kept(result))
            obs, ended = result[0], np.asarray(result[2] | result[3])
            if ended.any():
                length[ended] = 0
                obs = begin(batch, step + 1, ended, obs)
        begin(batch, num_steps, np.arange(num_envs) % 2 == 0, obs)
        num_changed = sum(not _equal(tree, copy) for tree, copy in given)
    seen = _observed(env, results, np.stack(allowed), np.stack(lengths))
    return Recorded(resets, np.stack(actions), results, seen, num_changed)


def play_again(env: Environment, recorded: Recorded, num_steps: int) -> int | None:
    """The first of `num_steps` steps whose result differs when all is done again; None if none."""
    resets = {begun.step: begun for begun in recorded.resets}
    with closing(env.host.make(recorded.actions.shape[1])) as batch:
        for step in range(num_steps):
            if step in resets:
                begun = resets[step]
                if not _equal(batch.reset(begun.rows.copy(), begun.seeds.copy()), begun.obs):
                    return step
            if not _equal(batch.step(recorded.actions[step].copy()), recorded.results[step]):
                return step + 1
    return None


def begin_alike(env: Environment, seed: int) -> tuple[Any, Any]:
    """What two copies that have played differently see after a reset with one seed."""
    both = np.ones(2, bool)
    draw = drawer(env, np.random.default_rng(seed), 2)
    with closing(env.host.make(2)) as batch:
        obs = batch.reset(both, np.array([1, 2], np.uint32))
        for _ in range(5):
            obs, _, terminated, truncated = batch.step(draw(obs)[0])
            if (terminated | truncated).any():
                break
        obs = batch.reset(both, np.array([3, 3], np.uint32))
    return jax.tree.map(lambda x: x[0], obs), jax.tree.map(lambda x: x[1], obs)


def drawer(
    env: Environment, random: np.random.Generator, num_envs: int
) -> Callable[[Any], tuple[np.ndarray, np.ndarray]]:
    """`(obs) -> (action, num_allowed)`: random actions that the mask allows."""
    if env.action_mask is None:
        return lambda obs: (random_actions(env.action_space, random, num_envs), np.ones(num_envs))
    choose = jax.jit(jax.vmap(lambda key, obs: random_action(env, key, obs)))
    keys = jax.random.split(jax.random.key(int(random.integers(2**31))), num_envs)

    def draw(obs: Any) -> tuple[np.ndarray, np.ndarray]:
        nonlocal keys
        pairs = jax.vmap(jax.random.split)(keys)
        keys = pairs[:, 0]
        action, num_allowed = choose(pairs[:, 1], obs)
        return np.asarray(action), np.asarray(num_allowed)

    return draw


def _equal(tree: Any, other: Any) -> bool:
    """Whether two trees of arrays have the same bits."""
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def _observed(
    env: Environment, results: list[tuple], num_allowed: np.ndarray, lengths: np.ndarray
) -> Observed:
    reward, terminated, truncated = (np.stack([r[i] for r in results]) for i in (1, 2, 3))
    space, no = env.observation_space, np.zeros(reward.shape, bool)
    fields: Any = dict(
        step=lengths,
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        in_space=np.stack([_in_space(space, r[0]) for r in results]),
        finite=np.stack([_finite(r[0]) for r in results]),
        num_allowed=num_allowed,
        state_is_reset=no,
        obs_is_reset=no,
        counter_is_reset=no,
        obs_sum=no,
    )
    return Observed(**fields)


def _in_space(space: spaces.ObservationSpace, obs: Any) -> np.ndarray:
    """Which rows of a batch are in a space, bool `[N]`."""
    if isinstance(space, spaces.Dict):
        parts = [_in_space(inner, obs[name]) for name, inner in space.items]
        return np.logical_and.reduce(parts)
    if isinstance(space, spaces.Box):
        low, high = space.low, space.high
    else:
        low = np.zeros(space.shape)
        high = np.asarray(space.nvec if isinstance(space, spaces.MultiDiscrete) else space.n) - 1
    return ((low <= obs) & (obs <= high)).reshape(len(obs), -1).all(axis=1)


def _finite(obs: Any) -> np.ndarray:
    parts = [np.isfinite(x).reshape(len(x), -1).all(axis=1) for x in jax.tree.leaves(obs)]
    return np.logical_and.reduce(parts)
