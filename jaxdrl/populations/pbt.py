"""Population-based training: members copy the best of them and vary the hyperparameters.

Source: Jaderberg et al. 2017, "Population Based Training of Neural Networks", arXiv:1711.09846.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxdrl.annotations import Bounds
from jaxdrl.checks import Count, Share, check_fields, require
from jaxdrl.config.search_space import Range
from jaxdrl.errors import ConfigError

STREAM = 0x9B7
"""Folded into the key of a population, so that exchanges and members share no random numbers."""


@dataclass(frozen=True)
class Exchange:
    """When and how members exploit each other and explore.

    Every `every` updates, the `fraction` of members with the lowest recent return copy parameters,
    optimiser state, statistics and hyperparameters from members that are drawn uniformly from the
    best `fraction`. They then vary the hyperparameters in `ranges`: each is drawn anew with
    probability `resample`, and otherwise moved up or down within its range, in a logarithmic range
    by the factor `factor`, in a linear one by `factor - 1` times its width.

    Raises:
      ConfigError: in the constructor, naming the field, its value and what works.
    """

    ranges: Mapping[str, Range]
    """Ranges of the hyperparameters that vary, by name."""
    every: Count = 20
    """Updates between exchanges."""
    fraction: Annotated[float, Bounds(0, 0.5, above=True)] = 0.2
    """Share of the members that copy, and of those that are copied."""
    factor: Annotated[float, Bounds(1, above=True)] = 1.2
    """How far a hyperparameter moves at once."""
    resample: Share = 0.25
    """Probability that a hyperparameter is drawn anew instead of moved."""

    def __post_init__(self) -> None:
        check_fields(self, "exchange.")

    def num_replaced(self, num_members: int) -> int:
        """Number of members that copy at once, at least 1."""
        return max(1, int(self.fraction * num_members))

    def check(self, hyperparams: Mapping[str, Any], num_members: int) -> None:
        """Refuses a population whose members cannot exchange.

        Raises:
          ConfigError: if it has one member only, or lacks the hyperparameter of a range.
        """
        works = "an exchange needs at least 2"
        require(num_members >= 2, "members", num_members, works)
        for name in self.ranges:
            if name not in hyperparams:
                there = ", ".join(sorted(hyperparams))
                raise ConfigError(f"exchange.ranges.{name}: the population only has {there}")


@struct.dataclass
class ExchangeState:
    """What the next exchange among `P` members depends on.

    Attributes:
      key: key of all exchanges, each of which folds in the number of updates.
      return_sum: sum of the returns of episodes since the last exchange, float32 `[P]`.
      num_episodes: number of these episodes, float32 `[P]`.
      score: mean return between the last two exchanges, -inf before there was one, float32 `[P]`.
      diverged: whether every gradient step of the last update was skipped, bool `[P]`.
    """

    key: jax.Array
    return_sum: jax.Array
    num_episodes: jax.Array
    score: jax.Array
    diverged: jax.Array


def init(key: jax.Array, num_members: int) -> ExchangeState:
    """The state before the first update."""
    zeros = jnp.zeros((num_members,), jnp.float32)
    return ExchangeState(
        key=key,
        return_sum=zeros,
        num_episodes=zeros,
        score=jnp.full_like(zeros, -jnp.inf),
        diverged=jnp.zeros((num_members,), jnp.bool),
    )


def observe(state: ExchangeState, metrics: dict[str, jax.Array]) -> ExchangeState:
    """The state after an update with metrics `[P]`."""
    taken_none = (metrics["skipped_steps"] > 0) & (metrics["grad_norm"] == 0)
    return state.replace(  # type: ignore[attr-defined]
        return_sum=state.return_sum + metrics["episode_return_sum"],
        num_episodes=state.num_episodes + metrics["num_episodes"],
        diverged=taken_none,
    )


def rank(state: ExchangeState) -> jax.Array:
    """The score by which members are ranked, float32 `[P]`: their recent mean return.

    It is -inf for a member that diverged, or whose return is not finite.
    """
    mean = state.return_sum / jnp.maximum(state.num_episodes, 1.0)
    score = jnp.where(state.num_episodes > 0, mean, state.score)
    return jnp.where(state.diverged | ~jnp.isfinite(score), -jnp.inf, score)


def choose_parents(score: jax.Array, num_replaced: int, draws: jax.Array) -> jax.Array:
    """The member that each member copies, int32 `[P]`; itself unless it is among the worst.

    Args:
      score: float32 `[P]`. A member with -inf is never copied; of equals the first ranks lower.
      num_replaced: how many of the worst copy from as many of the best.
      draws: uniform in [0, 1), float32 `[P]`: choose which of the best a member copies.
    """
    order = jnp.argsort(score, stable=True)
    worst, best = order[:num_replaced], order[::-1][:num_replaced]
    num_fit = (score[best] > -jnp.inf).sum()
    chosen = best[(draws[worst] * num_fit.astype(jnp.float32)).astype(jnp.int32)]
    own = jnp.arange(score.shape[0], dtype=jnp.int32)
    return jnp.where(num_fit > 0, own.at[worst].set(chosen.astype(jnp.int32)), own)


def vary(range_: Range, values: jax.Array, factor: float, resample: float, draws: Any) -> jax.Array:
    """The next values of a hyperparameter `[P]`, by three uniform `draws`, each `[P]`."""
    is_new, is_up, share = draws[0] < resample, draws[1] < 0.5, draws[2]
    if range_.log:
        moved = jnp.where(is_up, values * factor, values / factor)
    else:
        step = (factor - 1) * (range_.high - range_.low)
        moved = jnp.where(is_up, values + step, values - step)
    tried = jnp.where(is_new, range_.at(share), moved)
    return jnp.clip(tried, range_.low, range_.high).astype(jnp.float32)


def exchange(
    config: Exchange,
    axis: str | None,
    state: ExchangeState,
    hyperparams: dict[str, jax.Array],
    copied: Any,
    num_updates: jax.Array,
) -> tuple[ExchangeState, dict[str, jax.Array], Any, jax.Array]:
    """Exchanges among the members of all devices, when it is time.

    Args:
      config: when and how.
      axis: the mesh axis along which members lie; None if all of them are on this device. Each
        device has `P` members below.
      state: what the exchange depends on.
      hyperparams: hyperparameters by name, `[P]`.
      copied: what members copy of each other, pytree of arrays `[P, ...]`.
      num_updates: number of updates done, int32 `[P]`, the same for all.

    Returns:
      `(state, hyperparams, copied, parent)`, `parent` int32 `[P]` the index of the member that each
      member copied, its own where it copied none.
    """
    num_here = num_updates.shape[0]
    first = 0 if axis is None else jax.lax.axis_index(axis) * num_here

    def of_all(x: jax.Array) -> jax.Array:
        return x if axis is None else jax.lax.all_gather(x, axis, tiled=True)

    def of_here(x: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(x, first, num_here)

    def take_over(standing: tuple) -> tuple:
        state, hyperparams, copied, _ = standing
        score = rank(state)
        key = jax.random.fold_in(state.key, num_updates[0])
        parent_key, *keys = jax.random.split(key, 1 + len(config.ranges))
        scores = of_all(score)
        num_members = scores.shape[0]
        draws = jax.random.uniform(parent_key, (num_members,))
        parent = choose_parents(scores, config.num_replaced(num_members), draws)
        is_copy = parent != jnp.arange(num_members)
        hyperparams = {name: of_all(value)[parent] for name, value in hyperparams.items()}
        for (name, range_), vary_key in zip(sorted(config.ranges.items()), keys, strict=True):
            draws = jax.random.uniform(vary_key, (3, num_members))
            varied = vary(range_, hyperparams[name], config.factor, config.resample, draws)
            hyperparams[name] = jnp.where(is_copy, varied, hyperparams[name])
        own = of_here(parent)
        copied = jax.tree.map(lambda x: of_all(x)[own], copied)
        zeros = jnp.zeros_like(state.return_sum)
        state = state.replace(return_sum=zeros, num_episodes=zeros, score=score)
        return state, jax.tree.map(of_here, hyperparams), copied, own

    own = first + jnp.arange(num_here, dtype=jnp.int32)
    is_due = num_updates[0] % config.every == 0
    return jax.lax.cond(
        is_due, take_over, lambda standing: standing, (state, hyperparams, copied, own)
    )
