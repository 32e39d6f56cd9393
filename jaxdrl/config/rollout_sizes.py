"""How many environments, steps and minibatches fit each other. Imports neither jax nor gymnax."""

from __future__ import annotations

import math
from typing import Protocol

from jaxdrl.checks import nearest_divisors, nearest_multiples, require
from jaxdrl.config.execution import ExecutionConfig

MAX_STEPS = 2**31 - 1
"""Of one update, in all environments."""


class UpdateSizes(Protocol):
    """The settings of an algorithm whose updates begin with a rollout."""

    @property
    def num_envs(self) -> int:
        """Environments stepped in parallel, over all devices."""

    @property
    def num_steps(self) -> int:
        """Steps of each environment in one update."""

    @property
    def execution(self) -> ExecutionConfig:
        """How the step is computed."""


class RolloutSizes(UpdateSizes, Protocol):
    """The settings of an algorithm that learns from rollouts in minibatches of rows."""

    @property
    def num_minibatches(self) -> int:
        """Gradient steps in one pass over a rollout."""

    @property
    def row_length(self) -> int:
        """Steps that are shuffled together; divides num_steps."""


def check_sizes(config: RolloutSizes) -> None:
    """Refuses an update that is too large, or that shards and minibatches do not divide.

    Raises:
      ConfigError: naming the nearest numbers that work.
    """
    num_shards, multiple = config.execution.num_shards, num_envs_multiple(config)
    require(
        config.num_envs % num_shards == 0,
        "num_envs",
        config.num_envs,
        f"must be a multiple of num_shards = {num_shards}; "
        f"the nearest that work: {nearest_multiples(config.num_envs, multiple)}",
    )
    check_minibatches(config, config.row_length)


def check_total(config: UpdateSizes) -> None:
    """Refuses an update of more steps than 32 bits can number."""
    num_shards = config.execution.num_shards
    most_envs = MAX_STEPS // config.num_steps // num_shards * num_shards
    most, field, other = most_envs, "num_envs", "num_steps"
    if most_envs == 0:
        most, field, other = MAX_STEPS // config.num_envs, other, field
    works = f"must be at most {most} with {other} = {getattr(config, other)}"
    is_small = config.num_envs * config.num_steps <= MAX_STEPS
    require(is_small, field, getattr(config, field), works)


def check_sequence(length: int | None, num_steps: int) -> None:
    """Refuses sequences of `length` steps that do not divide a rollout; None is all of it."""
    if length is not None:
        require(
            num_steps % length == 0,
            "sequence_length",
            length,
            f"must divide num_steps = {num_steps}; "
            f"the nearest that work: {nearest_divisors(length, num_steps)}",
        )


def check_minibatches(config: RolloutSizes, row_length: int) -> None:
    """Refuses a number of minibatches that does not divide the rows of a shard.

    Args:
      config: the settings.
      row_length: steps in a row.

    Raises:
      ConfigError: naming the nearest numbers that work.
    """
    rows = config.num_steps // row_length * config.num_envs // config.execution.num_shards
    steps = "num_steps * " if row_length == 1 else f"num_steps / {row_length} * "
    of_shard = f"{'' if row_length == config.num_steps else steps}num_envs / num_shards"
    require(
        rows % config.num_minibatches == 0,
        "num_minibatches",
        config.num_minibatches,
        f"must divide {of_shard} = {rows}; "
        f"the nearest that work: {nearest_divisors(config.num_minibatches, rows)}",
    )
    check_accumulation(config, rows // config.num_minibatches, f"{of_shard} / num_minibatches")


def check_accumulation(config: UpdateSizes, rows: int, words: str) -> None:
    """Refuses a number of microbatches that does not divide the rows of a shard in a minibatch.

    Args:
      config: the settings.
      rows: the number of these rows.
      words: what they are, in terms of the settings.

    Raises:
      ConfigError: naming the nearest numbers that work.
    """
    parts = config.execution.num_accumulation_steps
    if parts is not None and rows % parts != 0:
        works = f"must divide {words} = {rows}; the nearest that work: "
        require(False, "num_accumulation_steps", parts, works + nearest_divisors(parts, rows))


def num_envs_multiple(config: RolloutSizes) -> int:
    """What `num_envs` must be a multiple of, for shards and minibatches to be equal."""
    rows_per_env = config.num_steps // config.row_length
    return config.execution.num_shards * (
        config.num_minibatches // math.gcd(config.num_minibatches, rows_per_env)
    )
