"""Who plays where in games against past selves: which rows each slot of a pool decides for."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from jaxdrl.checks import largest_divisor, nearest_divisors, require
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.rollout_sizes import check_accumulation
from jaxdrl.envs.protocol import Environment

NOBODY = -1
"""The slot of an environment that the learner plays alone, and of a renewal that there was not."""


class Seating(NamedTuple):
    """Who plays where in each logical shard.

    Attributes:
      num_slots: slots of the pool, `K`.
      every: updates between two renewals.
      num_agents: agents of the environment, `A`.
      num_envs: environments of a logical shard, `n`.
      num_pool_envs: those of them that are played against the pool, `p`.
    """

    num_slots: int
    every: int
    num_agents: int
    num_envs: int
    num_pool_envs: int

    @property
    def slot(self) -> np.ndarray:
        """The slot that an environment is played against, or `NOBODY`, int `[n]`."""
        number = self._number
        return np.where(number >= 0, number % self.num_slots, NOBODY)

    @property
    def is_learner(self) -> np.ndarray:
        """Whether the learner decides for an agent, bool `[n, A]`."""
        seat = self._number // self.num_slots % self.num_agents
        is_seat = np.arange(self.num_agents) == seat[:, None]
        return is_seat | (self.slot == NOBODY)[:, None]

    @property
    def _number(self) -> np.ndarray:
        return np.arange(self.num_envs) - (self.num_envs - self.num_pool_envs)

    @property
    def num_learner_rows(self) -> int:
        """Rows of a logical shard that the learner decides for and learns from."""
        return int(self.is_learner.sum())

    def learner_rows(self, num_shards: int) -> np.ndarray:
        """The rows of `num_shards` shards that the learner decides for, in their order."""
        return np.flatnonzero(np.tile(self.is_learner.reshape(-1), num_shards))

    def slot_rows(self, num_shards: int) -> np.ndarray:
        """The rows that each slot decides for, int `[K, m]`."""
        slots = np.arange(self.num_slots)[:, None, None]
        decides = (self.slot[:, None] == slots) & ~self.is_learner
        rows = [np.flatnonzero(np.tile(of_slot.reshape(-1), num_shards)) for of_slot in decides]
        return np.stack(rows)

    def split_learner_rows(self, num_shards: int) -> tuple[np.ndarray, np.ndarray]:
        """Which of the `learner_rows` are of games among the learner, and which against the pool.

        The first are all agents of each environment in turn.
        """
        slots = np.repeat(self.slot[:, None], self.num_agents, axis=1)[self.is_learner]
        against = np.tile(slots != NOBODY, num_shards)
        return np.flatnonzero(~against), np.flatnonzero(against)


def make_seating(env: Environment, config: PPOConfig, row_length: int) -> Seating | None:
    """Who plays where, None without a pool.

    Args:
      env: the environment.
      config: the settings.
      row_length: steps that are shuffled together, `L`.

    Raises:
      ConfigError: for an environment without opponents, a pool that the environments of a shard
        cannot be shared out to, or minibatches that the learner's rows cannot be; naming the
        nearest that work.
    """
    if config.pool_size == 0:
        return None
    agents = env.num_agents or 1
    works = f"is for environments in which several agents play, and {env.name} has one; must be 0"
    require(agents > 1, "pool_size", config.pool_size, works)
    num_envs = config.num_envs // config.execution.num_shards
    in_pool = config.pool_share * num_envs
    found = Seating(config.pool_size, config.pool_every, agents, num_envs, round(in_pool))
    is_near = abs(in_pool - round(in_pool)) < 0.01  # of a share with six digits, as in the message
    is_whole = is_near and 0 < round(in_pool) < num_envs
    unit = config.pool_size * agents
    if not is_whole or found.num_pool_envs % unit != 0:
        works = (
            f"of the {num_envs} environments of a shard (num_envs = {config.num_envs}), {unit} or "
            f"a multiple (pool_size = {config.pool_size} times {agents} agents) must play against "
            f"the pool, and at least one must not; what works: {_alternatives(config, found)}"
        )
        require(False, "pool_share", config.pool_share, works)
    _check_minibatches(config, found, row_length)
    return found


def _alternatives(config: PPOConfig, seating: Seating) -> str:
    """Changes of one setting that make a pool fit, in words."""
    num_envs, unit = seating.num_envs, seating.num_slots * seating.num_agents
    share = Fraction(config.pool_share).limit_denominator(1000)
    below = int(share * num_envs) // unit * unit
    shares = [p / num_envs for p in (below, below + unit) if 0 < p < num_envs]
    found = [f"pool_share = {' or '.join(f'{share:g}' for share in shares)}"] if shares else []
    per_agent = share * num_envs / seating.num_agents
    if 0 < share < 1 and per_agent.denominator == 1:
        found.append(f"pool_size = {largest_divisor(int(per_agent), config.pool_size)}")
    if 0 < share < 1:
        multiple = share.denominator * unit // math.gcd(share.numerator, unit)
        times = -(-num_envs // multiple)
        found.append(f"num_envs = {config.execution.num_shards * multiple * times}")
    return ", or ".join(found) or "fewer slots, and a pool_share below 1"


def _check_minibatches(config: PPOConfig, seating: Seating, row_length: int) -> None:
    """Refuses minibatches that cannot have equal parts of the learner's rows in a shard."""
    rows = config.num_steps // row_length * seating.num_learner_rows
    words = f"the {rows} rows of a shard without those of opponents"
    works = f"must divide {words}; the nearest that work: "
    works += nearest_divisors(config.num_minibatches, rows)
    require(rows % config.num_minibatches == 0, "num_minibatches", config.num_minibatches, works)
    check_accumulation(config, rows // config.num_minibatches, f"{words} / num_minibatches")
