"""How a replay buffer, its minibatches and the environments fit each other. Imports no jax."""

from __future__ import annotations

from typing import Protocol

from jaxdrl.checks import nearest_multiples, require
from jaxdrl.config.rollout_sizes import UpdateSizes, check_accumulation, check_total


class ReplaySizes(UpdateSizes, Protocol):
    """The settings of an algorithm that learns from a replay buffer."""

    @property
    def buffer_size(self) -> int:
        """Steps that are kept, over all environments and devices, rounded up to whole updates."""

    @property
    def batch_size(self) -> int:
        """Windows in a minibatch, over all devices."""

    @property
    def n_step(self) -> int:
        """The most steps in a window."""

    @property
    def learning_starts(self) -> int:
        """Environment steps before the first gradient step."""


MAX_ROWS = 2**31 - 1
"""Steps of an environment that a buffer can number."""


def check_replay(config: ReplaySizes) -> None:
    """Refuses what shards do not divide, and a buffer that is too small for what is drawn from it.

    Raises:
      ConfigError: naming the nearest numbers that work.
    """
    check_total(config)
    num_shards = config.execution.num_shards
    for name in ("num_envs", "batch_size"):
        value = getattr(config, name)
        nearest = nearest_multiples(value, num_shards)
        works = f"must be a multiple of num_shards = {num_shards}; the nearest that work: {nearest}"
        require(value % num_shards == 0, name, value, works)
    check_accumulation(config, config.batch_size // num_shards, "batch_size / num_shards")
    needed = (config.n_step + 1) * config.num_envs
    held = capacity(config) * config.num_envs
    works = f"must be at least {needed}, to hold n_step + 1 = {config.n_step + 1} steps of each of "
    works += f"{config.num_envs} environments"
    require(held >= needed, "buffer_size", config.buffer_size, works)
    largest = MAX_ROWS // config.num_steps * config.num_steps * config.num_envs
    works = f"must be at most {largest}, {MAX_ROWS} steps of each of {config.num_envs} environments"
    require(capacity(config) <= MAX_ROWS, "buffer_size", config.buffer_size, works)
    starts = config.learning_starts
    works = f"must be at least {needed}, (n_step + 1) * num_envs, before which nothing can be drawn"
    require(starts >= needed, "learning_starts", starts, works)
    works = f"must be at most {held}, the steps that the buffer holds"
    require(starts <= held, "learning_starts", starts, works)


def capacity(config: ReplaySizes) -> int:
    """Steps that are kept of each environment: those of `buffer_size`, in whole rollouts."""
    num_rollouts = -(-config.buffer_size // (config.num_envs * config.num_steps))
    return num_rollouts * config.num_steps
