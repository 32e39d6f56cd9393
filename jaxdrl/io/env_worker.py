"""An environment in a process of its own, which says what it raised instead of ending.

It is imported in each of these processes: it needs Gymnasium, and not JAX.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from typing import Any

import gymnasium

ERROR = "jaxdrl_error"
"""The entry of `info` with what an environment raised: its type, its message, its traceback."""


def make_reporting(make_env: Callable[[], Any], main_process: int) -> Any:
    """Makes an environment that reports what it raises.

    A terminal sends Ctrl-C to all processes; only the main one, by its number, is to react, since
    it ends the others itself.
    """
    if os.getpid() != main_process:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return Reporting(make_env())


class Reporting(gymnasium.Wrapper):
    """Returns what the environment raises in `info`, which has nothing else in it."""

    def reset(self, **how: Any) -> tuple[Any, dict]:
        """As the environment's own."""
        try:
            return self.env.reset(**how)[0], {}
        except Exception as error:
            return self.observation_space.sample(), _report(error)

    def step(self, action: Any) -> tuple:
        """As the environment's own."""
        try:
            return *self.env.step(action)[:4], {}
        except Exception as error:
            return self.observation_space.sample(), 0.0, False, False, _report(error)


def _report(error: Exception) -> dict:
    return {ERROR: (type(error).__name__, str(error), traceback.format_exc())}
