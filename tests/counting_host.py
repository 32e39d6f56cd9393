"""An environment of the host that counts, with both kinds of ends, for tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jaxdrl import spaces
from jaxdrl.envs.host.protocol import HostBatch, HostEnvironment, on_host

LONGEST = 9


def length_of(seed):
    """Steps of the episode with a seed."""
    return 3 + np.asarray(seed) % 7


def is_truncated(seed):
    """Whether the episode with a seed is truncated at its end, and not terminated."""
    return np.asarray(seed) // 7 % 2 == 0


def make_counting(num_envs: int, before_step: Callable[[], None] = lambda: None) -> HostBatch:
    """Copies whose observation is `(seed mod 97, steps so far, sum of actions so far)`.

    The reward of a step is its number plus a tenth of its action. A step of an episode that has
    ended, or that never began, is an error.

    Args:
      num_envs: number of copies.
      before_step: is called before each step, and may sleep or raise.
    """
    seeds = np.zeros(num_envs, np.uint32)
    steps, sums = np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64)
    runs = np.zeros(num_envs, bool)

    def look():
        return np.stack([seeds % 97, steps, sums], axis=1).astype(np.float32)

    def reset(rows, new):
        seeds[rows], steps[rows], sums[rows], runs[rows] = new[rows], 0, 0, True
        return look()

    def step(action):
        before_step()
        assert runs.all(), "stepped after the end of an episode"
        steps[:] += 1
        sums[:] += action
        ended = steps >= length_of(seeds)
        cut = ended & is_truncated(seeds)
        runs[ended] = False
        reward = (steps + 0.1 * action).astype(np.float32)
        return look(), reward, ended & ~cut, cut

    def draw(row):
        return np.full((8, 8, 3), 20 * steps[row], np.uint8)

    return HostBatch(reset=reset, step=step, close=lambda: None, draw=draw)


def counting(make=make_counting, *, replays=True):
    """The environment."""
    space = spaces.Box(0.0, 1e6, (3,))
    host = HostEnvironment(make=make, replays=replays)
    return on_host("test/Counting", host, space, spaces.Discrete(3), max_episode_steps=LONGEST)


def make_dictionary(num_envs: int) -> HostBatch:
    """Copies that see in a picture how many steps of up to five are left.

    The reward is the mean of an action of two numbers.
    """
    left = np.zeros(num_envs, np.int64)

    def look():
        pixels = np.zeros((num_envs, 4, 3), np.uint8)
        pixels[:, 0, 0] = left
        return {"pixels": pixels, "speed": np.full(num_envs, 0.5, np.float32)}

    def reset(rows, seeds):
        left[rows] = 1 + seeds[rows] % 5
        return look()

    def step(action):
        left[:] -= 1
        over = left == 0
        return look(), action.mean(axis=1), over, np.zeros_like(over)

    return HostBatch(reset=reset, step=step, close=lambda: None)


def dictionary():
    """An environment with observations of two parts, actions of two numbers, and no picture."""
    parts = {"pixels": spaces.Box(0, 255, (4, 3), "uint8"), "speed": spaces.Box(-1.0, 1.0, ())}
    host = HostEnvironment(make=make_dictionary, replays=True)
    return on_host("test/Dictionary", host, spaces.Dict(parts), spaces.Box(-9.0, 9.0, (2,)))
