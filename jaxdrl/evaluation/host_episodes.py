"""Plays whole episodes in an environment of the host, each counted once."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.core.keys import pinned
from jaxdrl.core.programs import program
from jaxdrl.core.types import LearnerState, Policy
from jaxdrl.envs.host.protocol import HostBatch
from jaxdrl.envs.protocol import Environment

MAX_COPIES = 64
"""The most copies that play at once, each an equal part of the episodes, one after the other."""

Played = tuple[np.ndarray, np.ndarray, np.ndarray]
"""`(returns float32 [n], lengths int32 [n], ended bool [n])`, as `run_episodes` returns them."""


@pinned()
def play_on_host(
    env: Environment,
    policy: Policy,
    learner: LearnerState,
    key: jax.Array,
    *,
    num_episodes: int,
    max_episode_steps: int,
    greedy: bool,
) -> Played:
    """Plays `num_episodes` episodes, and closes the copies that it made for them.

    The seed of every episode and its random numbers follow from the key and its number alone, and
    which copy plays it from its number: no episode is preferred for being short, and how many
    copies there are changes nothing where seeds decide episodes (see `HostBatch.seek`).

    Args:
      env: an environment of the host.
      policy: how to act.
      learner: the learner that the policy acts with, on one device.
      key: PRNG key on the same device, consumed.
      num_episodes: number of episodes.
      max_episode_steps: the step limit at which episodes are cut.
      greedy: as in `jaxdrl.evaluate`.
    """
    seeds, play_key = draw_seeds(key, num_episodes)
    decide = program(decide_rows, ("greedy",), policy)
    num_copies = min(MAX_COPIES, num_episodes)
    carry = policy.initial_carry(num_copies)
    rounds = Rounds(seeds, num_copies, max_episode_steps)
    with closing(env.host.make(num_copies)) as batch:
        rounds.begin(batch)
        while not rounds.are_over:
            action, carry = decide(learner, play_key, carry, *rounds.seen, greedy=greedy)
            rounds.step(batch, np.asarray(action))
            rounds.begin_next(batch)
    return rounds.returns, rounds.lengths, rounds.terminated | rounds.truncated


def draw_seeds(key: jax.Array, num_episodes: int) -> tuple[np.ndarray, jax.Array]:
    """`(seeds uint32 [num_episodes], key of the actions)`; the key is consumed."""
    reset_key, play_key = jax.random.split(key)
    return np.asarray(jax.random.bits(reset_key, (num_episodes,), jnp.uint32)), play_key


def decide_rows(
    policy: Policy,
    learner: LearnerState,
    key: jax.Array,
    carry: Any,
    obs: Any,
    episode_start: jax.Array,
    episode: jax.Array,
    num_steps: jax.Array,
    *,
    greedy: bool,
) -> tuple[Any, Any]:
    """`(action, carry)` for `N` rows; samples depend on the episode and its step, not on the row.

    Args:
      policy: how to act.
      learner: the learner that it acts with.
      key: the same in all steps.
      carry: recurrent state of the policy.
      obs: observations, `[N, ...]`.
      episode_start: bool `[N]`.
      episode: number of the episode in each row, int32 `[N]`.
      num_steps: steps of it so far, int32 `[N]`.
      greedy: as in `jaxdrl.evaluate`.
    """
    if greedy:
        return policy.act(learner, carry, obs, episode_start, key, greedy=True)

    def act_row(row: Any, episode: jax.Array, num_steps: jax.Array) -> tuple[Any, Any]:
        row_key = jax.random.fold_in(jax.random.fold_in(key, episode), num_steps)
        carry, obs, episode_start = jax.tree.map(lambda x: x[None], row)
        acted = policy.act(learner, carry, obs, episode_start, row_key, greedy=False)
        return jax.tree.map(lambda x: x[0], acted)

    return jax.vmap(act_row)((carry, obs, episode_start), episode, num_steps)


class Rounds:
    """Which episode every copy plays, and what has come of each.

    Attributes:
      obs: what the copies see, `[N, ...]`.
      starts: bool `[N]`, in this copy an episode begins; after `step`, its episode is over.
      episode: number of the episode in each copy, int32 `[N]`; where no more are left, a number
        beyond the last one, of an episode that does not count.
      num_steps: steps of it so far, int32 `[N]`.
      returns: float32 `[num_episodes]`.
      lengths: int32 `[num_episodes]`.
      terminated: bool `[num_episodes]`.
      truncated: bool `[num_episodes]`; an episode that was cut is neither.
    """

    def __init__(self, seeds: np.ndarray, num_copies: int, max_episode_steps: int) -> None:
        num_episodes = len(seeds)
        self.seeds, self.max_episode_steps = seeds, max_episode_steps
        self.obs: Any = None
        self.starts = np.ones(num_copies, bool)
        self.episode = np.arange(num_copies, dtype=np.int32)
        self.num_steps = np.zeros(num_copies, np.int32)
        self.returns = np.zeros(num_episodes, np.float32)
        self.lengths = np.zeros(num_episodes, np.int32)
        self.terminated = np.zeros(num_episodes, bool)
        self.truncated = np.zeros(num_episodes, bool)

    @property
    def counts(self) -> np.ndarray:
        """Whether the episode in each copy counts, bool `[N]`."""
        return self.episode < len(self.seeds)

    @property
    def are_over(self) -> bool:
        """Whether all episodes that count are over."""
        return not self.counts.any()

    @property
    def seen(self) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
        """The last arguments of `decide_rows`."""
        return self.obs, self.starts, self.episode, self.num_steps

    def begin(self, batch: HostBatch) -> None:
        """Begins episodes in the copies that `starts` names."""
        seeds = self.seeds[np.minimum(self.episode, len(self.seeds) - 1)]
        self.obs = batch.reset(self.starts, seeds)

    def step(self, batch: HostBatch, action: np.ndarray) -> None:
        """Takes a step in each copy."""
        self.obs, reward, terminated, truncated = batch.step(action)
        counts = self.counts
        number = self.episode[counts]
        # Arrays that were handed over are not written to again: JAX may still read them.
        self.num_steps = self.num_steps + 1
        self.returns[number] += reward[counts]
        self.lengths[number] = self.num_steps[counts]
        self.terminated[number] = terminated[counts]
        self.truncated[number] = truncated[counts]
        self.starts = terminated | truncated | (self.num_steps >= self.max_episode_steps)

    def begin_next(self, batch: HostBatch) -> None:
        """Begins the next episodes in copies whose episode is over."""
        if not self.starts.any():
            return
        num_copies = np.int32(len(self.episode))
        self.episode = np.where(self.starts, self.episode + num_copies, self.episode)
        self.num_steps = np.where(self.starts, np.int32(0), self.num_steps)
        if not self.are_over:
            self.begin(batch)
