"""The environment of `counting_host` as one of Gymnasium, which may also fail in several ways.

It imports nothing of jaxdrl, so that processes of its own start quickly.
"""

from __future__ import annotations

import os
import signal
import time

import gymnasium
import numpy as np

LONGEST = 10
"""The limit around it, which no episode reaches."""

FAILING = 5
"""The seed of the episode in which a failing environment fails, at its second step."""


class Counting(gymnasium.Env):
    """Observes `(seed mod 97, steps so far, sum of actions so far)`, in float64.

    Args:
      fails: what happens in the episode with the seed `FAILING`: "raises", "hangs" or "dies".
      kind: "box", or "dict" for observations `{"counts": ..., "picture": uint8 [2, 2, 1]}`.
      render_mode: "rgb_array" or None.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, fails=None, kind="box", render_mode=None):
        self.fails, self.kind, self.render_mode = fails, kind, render_mode
        self.observation_space = gymnasium.spaces.Box(0.0, 1e6, (3,), np.float64)
        if kind == "dict":
            picture = gymnasium.spaces.Box(0, 255, (2, 2, 1), np.uint8)
            self.observation_space = gymnasium.spaces.Dict(
                counts=self.observation_space, picture=picture
            )
        self.action_space = gymnasium.spaces.Discrete(3)
        self.runs = False

    def look(self):
        counts = np.array([self.seed % 97, self.steps, self.sum], np.float64)
        if self.kind == "box":
            return counts
        return {"counts": counts, "picture": np.full((2, 2, 1), self.steps, np.uint8)}

    def reset(self, *, seed=None, options=None):
        self.seed, self.steps, self.sum, self.runs = seed, 0, 0, True
        return self.look(), {}

    def step(self, action):
        assert self.runs, "stepped after the end of an episode"
        self.steps += 1
        self.sum += int(action)
        if self.fails and self.seed == FAILING and self.steps == 2:
            self.fail()
        ended = self.steps >= 3 + self.seed % 7
        self.runs = not ended
        cut = ended and self.seed // 7 % 2 == 0
        # Both flags where it is not truncated: a limit may fall on the last step of a game.
        return self.look(), self.steps + 0.1 * int(action), ended and not cut, ended, {}

    def fail(self):
        if self.fails == "raises":
            raise ValueError("100% wrong")
        if self.fails == "hangs":
            time.sleep(60)
        os.kill(os.getpid(), signal.SIGKILL)

    def render(self):
        return np.full((8, 8, 3), 20 * self.steps, np.uint8)


def make_counting(**how):
    return gymnasium.wrappers.TimeLimit(Counting(**how), LONGEST)
