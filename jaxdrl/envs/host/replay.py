"""Whether episodes of an environment of the host can be played again, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import jax
import numpy as np

from jaxdrl.core import spaces
from jaxdrl.envs.host.protocol import HostBatch

NUM_BEFORE, NUM_COMPARED = 16, 48
"""Steps in which two copies do different things, and in which they do the same."""


def replays(make: Callable[[int], HostBatch], action_space: spaces.Space) -> bool:
    """Whether two copies that have played differently play an episode with one seed alike.

    It sees randomness that does not follow from the seed where it has an effect within
    `NUM_COMPARED` steps, and what an episode leaves behind for the next one.

    Args:
      make: makes the copies, which are closed at the end.
      action_space: of random actions.
    """
    both, random = np.ones(2, bool), np.random.default_rng(0)
    with closing(make(2)) as batch:
        batch.reset(both, np.full(2, 1, np.uint32))
        for _ in range(NUM_BEFORE):
            *_, terminated, truncated = batch.step(random_actions(action_space, random, 2))
            if (terminated | truncated).any():
                break
        seen = [batch.reset(both, np.full(2, 2, np.uint32))]
        for _ in range(NUM_COMPARED):
            seen.append(batch.step(random_actions(action_space, random, 1).repeat(2, axis=0)))
            if (seen[-1][2] | seen[-1][3]).any():
                break
    return all(x[0].tobytes() == x[1].tobytes() for x in jax.tree.leaves(seen))


def random_actions(space: spaces.Space, random: np.random.Generator, num: int) -> np.ndarray:
    """Uniformly random actions `[num, ...]`; normal ones where a Box has no bounds."""
    if isinstance(space, spaces.Discrete):
        return random.integers(0, space.n, num, dtype=np.int32)
    if isinstance(space, spaces.MultiDiscrete):
        return random.integers(0, np.asarray(space.nvec), (num, *space.shape), dtype=np.int32)
    low, high = (np.where(space.bounded, x, 0.0) for x in (space.low, space.high))
    drawn = random.uniform(low, high, (num, *space.shape))
    free = random.normal(size=(num, *space.shape))
    drawn = np.where(space.bounded, drawn, np.clip(free, space.low, space.high))
    return drawn.astype(jax.dtypes.canonicalize_dtype(space.dtype))
