"""Observations drawn at random, on which an exported policy is compared with that of the run."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxdrl.core.spaces import Box, Dict, Discrete, MultiDiscrete, ObservationSpace
from jaxdrl.core.types import LearnerState

WIDEST = 1e6
"""The widest range that is drawn from evenly; wider ones stand for numbers without bounds."""


def random_observations(
    space: ObservationSpace, learner: LearnerState, num: int, rng: np.random.Generator
) -> Any:
    """Observations of a space, `[num, ...]`.

    Integers are drawn evenly. Floats are drawn evenly between their bounds in every other row, and
    from a normal with the mean and variance that the learner has seen in all others and where there
    are no such bounds; without statistics, from a standard normal. They lie within the bounds.
    """
    statistics = learner.obs_statistics
    mean, variance = (statistics.mean, statistics.variance) if statistics else (None, None)
    return _draw(space, mean, variance, num, rng)


def _draw(space: Any, mean: Any, variance: Any, num: int, rng: np.random.Generator) -> Any:
    if isinstance(space, Dict):
        return {
            name: _draw(part, mean and mean[name], variance and variance[name], num, rng)
            for name, part in space.items
        }
    if isinstance(space, Discrete):
        return rng.integers(space.n, size=num, dtype=np.int64).astype(space.dtype)
    if isinstance(space, MultiDiscrete):
        return rng.integers(space.nvec, size=(num, len(space.nvec))).astype(space.dtype)
    shape = (num, *space.shape)
    if space.dtype.kind != "f":
        low, high = space.low, space.high
        return rng.integers(low, high, shape, space.dtype, endpoint=True)
    return _draw_floats(space, mean, variance, shape, rng)


def _draw_floats(
    space: Box, mean: Any, variance: Any, shape: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray[Any, Any]:
    numbers = rng.normal(size=shape)
    if mean is not None:
        scale = np.sqrt(np.asarray(variance, np.float64)).reshape(space.shape)
        numbers = np.asarray(mean, np.float64).reshape(space.shape) + scale * numbers
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    is_narrow = space.bounded & (high - low <= WIDEST)
    even = rng.uniform(np.where(is_narrow, low, 0.0), np.where(is_narrow, high, 1.0), shape)
    rows = np.arange(shape[0]).reshape(-1, *[1] * len(space.shape)) % 2 == 0
    return np.clip(np.where(is_narrow & rows, even, numbers), low, high).astype(space.dtype)
