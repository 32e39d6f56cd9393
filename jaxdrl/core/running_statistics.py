"""Running mean and variance, kept in the learner's state and never in a wrapper.

A wrong shape raises ValueError when the function is traced, instead of being broadcast.
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class RunningStatistics:
    """Moments of all samples so far; a sample is an array or a tree of arrays.

    Attributes:
      count: number of samples, float32 (24 bits are plenty to weight new samples against old).
      mean: float32, in the shape of one sample.
      variance: population variance, in the same shape.
    """

    count: jax.Array
    mean: Any
    variance: Any


def init_statistics(samples: Any) -> RunningStatistics:
    """Statistics before the first sample, which change nothing when normalising but for the clip.

    Args:
      samples: arrays, or their `jax.ShapeDtypeStruct`, in the shape of one sample.
    """
    return RunningStatistics(
        count=jnp.zeros((), jnp.float32),
        mean=jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), samples),
        variance=jax.tree.map(lambda x: jnp.ones(x.shape, jnp.float32), samples),
    )


def update_statistics(
    statistics: RunningStatistics, count: int, mean: Any, variance: Any
) -> RunningStatistics:
    """Merges the moments of a batch of `count` samples into the running ones.

    With w = count / (old count + count) and d = mean - old mean:
    mean' = old mean + w d, variance' = old variance + w (variance - old variance) + w (1 - w) d^2.
    Differences are merged, not totals, which would lose digits. Where the result is not finite,
    because the moments are not or their squares overflow, the old moments stay.

    Source: Chan, Golub and LeVeque 1983, "Algorithms for Computing the Sample Variance".
    """
    _check_same_shapes(statistics.mean, mean, variance)
    total = statistics.count + count
    weight = count / total
    delta = jax.tree.map(jnp.subtract, mean, statistics.mean)

    def merge(old: jax.Array, new: jax.Array, delta: jax.Array) -> jax.Array:
        return old + weight * (new - old) + weight * (1.0 - weight) * jnp.square(delta)

    merged_mean = jax.tree.map(lambda old, d: old + weight * d, statistics.mean, delta)
    merged_variance = jax.tree.map(merge, statistics.variance, variance, delta)

    def keep(old: jax.Array, merged: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        return jnp.where(jnp.isfinite(mean) & jnp.isfinite(variance), merged, old)

    merged = merged_mean, merged_variance
    return RunningStatistics(
        count=total,
        mean=jax.tree.map(keep, statistics.mean, merged_mean, *merged),
        variance=jax.tree.map(keep, statistics.variance, merged_variance, *merged),
    )


def normalize(
    x: Any, statistics: RunningStatistics, clip: Any = None, *, epsilon: float = 1e-8
) -> Any:
    """(x - mean) / sqrt(variance + epsilon), clipped to +-`clip` unless it is None.

    Arrays of `x` are samples with any number of leading axes, `[..., *shape of the mean]`.
    """

    def one(x: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        chex.assert_shape(
            x, (..., *mean.shape), custom_message="input 0 is x", exception_type=ValueError
        )
        deviation = jnp.sqrt(variance + epsilon)
        return _clip((x - expand(mean, x)) / expand(deviation, x), clip)

    return jax.tree.map(one, x, statistics.mean, statistics.variance)


def scale(
    x: jax.Array, statistics: RunningStatistics, clip: Any = None, *, epsilon: float = 1e-8
) -> jax.Array:
    """Divides x by sqrt(variance + epsilon), clipped to +-`clip` unless it is None."""
    return _clip(x / expand(jnp.sqrt(statistics.variance + epsilon), x), clip)


def expand(moment: jax.Array, x: jax.Array) -> jax.Array:
    """`moment` with axes of size 1 put in front up to the rank of `x`."""
    return moment.reshape((1,) * (x.ndim - moment.ndim) + moment.shape)


def _check_same_shapes(*moments: Any) -> None:
    chex.assert_trees_all_equal_shapes(
        *moments,
        custom_message="trees are the running mean, the new mean, the new variance",
        exception_type=ValueError,
    )


def _clip(x: jax.Array, clip: Any) -> jax.Array:
    return x if clip is None else jnp.clip(x, -clip, clip)
