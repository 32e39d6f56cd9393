"""Population-based training: members of a population copy the best and vary what they copied.

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
"""Folded into the key of a population, so that exchanges share no numbers with its members."""


@dataclass(frozen=True)
class Exchange:
    """When members learn from each other, and how.

    Every `every` updates the worst `fraction` by recent return takes over parameters, optimiser,
    statistics and hyperparameters of members drawn evenly from the best `fraction`, and varies the
    hyperparameters in `ranges`: drawn anew with probability `resample`, else moved up or down by
    `factor` (in a logarithmic range multiplied or divided by it, in an even one by
    `factor - 1` of its width), within the range.

    Raises:
      ConfigError: in the constructor, naming the field, its value and what works.
    """

    ranges: Mapping[str, Range]
    """Of the hyperparameters that vary."""
    every: Count = 20
    """Updates between exchanges."""
    fraction: Annotated[float, Bounds(0, 0.5, above=True)] = 0.2
    """Share of the members that is replaced, and of those that are copied."""
    factor: Annotated[float, Bounds(1, above=True)] = 1.2
    """How far a hyperparameter moves."""
    resample: Share = 0.25
    """Probability of a new draw from the range instead of a move."""

    def __post_init__(self) -> None:
        check_fields(self, "exchange.")

    def num_replaced(self, num_members: int) -> int:
        """Members that are replaced at once, at least 1."""
        return max(1, int(self.fraction * num_members))

    def check(self, hyperparams: Mapping[str, Any], num_members: int) -> None:
        """Refuses a population that cannot exchange.

        Raises:
          ConfigError: if it has one member, or no hyperparameter of a range.
        """
        works = "an exchange needs at least 2"
        require(num_members >= 2, "members", num_members, works)
        for name in self.ranges:
            if name not in hyperparams:
                there = ", ".join(sorted(hyperparams))
                raise ConfigError(f"exchange.ranges.{name}: the population has {there} alone")


@struct.dataclass
class ExchangeState:
    """How `P` members stand.

    Attributes:
      key: of all exchanges; each folds the number of updates into it.
      return_sum: of the episodes since the last exchange, float32 `[P]`.
      num_episodes: how many those are, float32 `[P]`.
      score: mean return between the last two exchanges, -inf before there is one, float32 `[P]`.
      diverged: bool `[P]`, no gradient step of the last update was finite.
    """

    key: jax.Array
    return_sum: jax.Array
    num_episodes: jax.Array
    score: jax.Array
    diverged: jax.Array


def init(key: jax.Array, num_members: int) -> ExchangeState:
    """How members stand before the first update."""
    zeros = jnp.zeros((num_members,), jnp.float32)
    return ExchangeState(
        key=key,
        return_sum=zeros,
        num_episodes=zeros,
        score=jnp.full_like(zeros, -jnp.inf),
        diverged=jnp.zeros((num_members,), jnp.bool),
    )


def observe(state: ExchangeState, metrics: dict[str, jax.Array]) -> ExchangeState:
    """Takes the metrics `[P]` of an update."""
    taken_none = (metrics["skipped_steps"] > 0) & (metrics["grad_norm"] == 0)
    return state.replace(  # type: ignore[attr-defined]
        return_sum=state.return_sum + metrics["episode_return_sum"],
        num_episodes=state.num_episodes + metrics["num_episodes"],
        diverged=taken_none,
    )


def rank(state: ExchangeState) -> jax.Array:
    """What members are ranked by, float32 `[P]`: their recent return, -inf where they diverged.

    A return that is not finite counts as -inf, too.
    """
    mean = state.return_sum / jnp.maximum(state.num_episodes, 1.0)
    score = jnp.where(state.num_episodes > 0, mean, state.score)
    return jnp.where(state.diverged | ~jnp.isfinite(score), -jnp.inf, score)


def choose_parents(score: jax.Array, num_replaced: int, draws: jax.Array) -> jax.Array:
    """Whose parameters each member goes on with, int32 `[P]`; its own unless it is among the worst.

    Args:
      score: float32 `[P]`; one of -inf is never a parent. Of equals the first ranks lower.
      num_replaced: how many of the worst copy, from as many of the best.
      draws: uniform in [0, 1), float32 `[P]`, which of the best a member takes.
    """
    order = jnp.argsort(score, stable=True)
    worst, best = order[:num_replaced], order[::-1][:num_replaced]
    num_fit = (score[best] > -jnp.inf).sum()
    chosen = best[(draws[worst] * num_fit.astype(jnp.float32)).astype(jnp.int32)]
    own = jnp.arange(score.shape[0], dtype=jnp.int32)
    return jnp.where(num_fit > 0, own.at[worst].set(chosen.astype(jnp.int32)), own)


def vary(range_: Range, values: jax.Array, factor: float, resample: float, draws: Any) -> jax.Array:
    """Hyperparameters `[P]` as they are tried next, by three uniform `draws`, each `[P]`."""
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
    learnt: Any,
    num_updates: jax.Array,
) -> tuple[ExchangeState, dict[str, jax.Array], Any, jax.Array]:
    """Exchanges between the members of all devices, if it is time; every array is a device's part.

    Args:
      config: when and how.
      axis: the mesh axis along which members are; None: all are here.
      state: how they stand.
      hyperparams: by name, `[P]`.
      learnt: what is copied, pytree of `[P, ...]`.
      num_updates: done, int32 `[P]`, the same for all.

    Returns:
      `(state, hyperparams, learnt, parent)`, `parent` int32 `[P]` the index of the member whose
      `learnt` it is, its own where nothing was copied.
    """
    num_here = num_updates.shape[0]
    first = 0 if axis is None else jax.lax.axis_index(axis) * num_here

    def of_all(x: jax.Array) -> jax.Array:
        return x if axis is None else jax.lax.all_gather(x, axis, tiled=True)

    def of_here(x: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(x, first, num_here)

    def take_over(standing: tuple) -> tuple:
        state, hyperparams, learnt, _ = standing
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
        learnt = jax.tree.map(lambda x: of_all(x)[own], learnt)
        zeros = jnp.zeros_like(state.return_sum)
        state = state.replace(return_sum=zeros, num_episodes=zeros, score=score)
        return state, jax.tree.map(of_here, hyperparams), learnt, own

    own = first + jnp.arange(num_here, dtype=jnp.int32)
    is_due = num_updates[0] % config.every == 0
    return jax.lax.cond(
        is_due, take_over, lambda standing: standing, (state, hyperparams, learnt, own)
    )
