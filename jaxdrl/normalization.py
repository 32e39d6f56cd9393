"""Running mean and variance, kept in the learner's state and never in a wrapper."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class RunningStatistics:
    """Moments of everything seen so far.

    Attributes:
      count: samples seen, float32 (it only weighs new against old, where 24 bits are plenty).
      mean: float32, in the shape of one sample.
      variance: population variance, likewise.
    """

    count: jax.Array
    mean: jax.Array
    variance: jax.Array


def init_statistics(shape: tuple[int, ...]) -> RunningStatistics:
    """Statistics before the first sample: they normalise to the same value, but for the clip."""
    return RunningStatistics(
        count=jnp.zeros((), jnp.float32),
        mean=jnp.zeros(shape, jnp.float32),
        variance=jnp.ones(shape, jnp.float32),
    )


def update_statistics(
    statistics: RunningStatistics, count: int, mean: jax.Array, variance: jax.Array
) -> RunningStatistics:
    """Merges the moments of a batch of `count` samples into the running ones.

    With w = count / (old count + count) and d = mean - old mean:
    mean' = old mean + w d, variance' = old variance + w (variance - old variance) + w (1 - w) d^2.
    Differences are merged, not totals, which would lose digits.

    Source: Chan, Golub and LeVeque 1983, "Algorithms for Computing the Sample Variance".
    """
    total = statistics.count + count
    weight = count / total
    delta = mean - statistics.mean
    return RunningStatistics(
        count=total,
        mean=statistics.mean + weight * delta,
        variance=statistics.variance
        + weight * (variance - statistics.variance)
        + weight * (1.0 - weight) * jnp.square(delta),
    )


def normalize(
    x: jax.Array, statistics: RunningStatistics, clip: Any = None, *, epsilon: float = 1e-8
) -> jax.Array:
    """(x - mean) / sqrt(variance + epsilon), clipped to +-`clip` unless it is None."""
    deviation = jnp.sqrt(statistics.variance + epsilon)
    return _clip((x - expand(statistics.mean, x)) / expand(deviation, x), clip)


def scale(
    x: jax.Array, statistics: RunningStatistics, clip: Any = None, *, epsilon: float = 1e-8
) -> jax.Array:
    """X / sqrt(variance + epsilon), clipped to +-`clip` unless it is None."""
    return _clip(x / expand(jnp.sqrt(statistics.variance + epsilon), x), clip)


def expand(moment: jax.Array, x: jax.Array) -> jax.Array:
    """`moment` with leading axes of size 1 up to the rank of `x`."""
    return moment.reshape((1,) * (x.ndim - moment.ndim) + moment.shape)


def _clip(x: jax.Array, clip: Any) -> jax.Array:
    return x if clip is None else jnp.clip(x, -clip, clip)
