"""Environments: the protocol, the vectoriser, and one adapter for each suite."""

from __future__ import annotations

import math
from typing import Any

from jaxdrl.annotations import to_python
from jaxdrl.checks import require
from jaxdrl.envs.domain_randomization import randomize
from jaxdrl.envs.protocol import Environment
from jaxdrl.envs.suites import registry
from jaxdrl.envs.suites.gymnax import from_gymnax
from jaxdrl.envs.truncation import time_limit

__all__ = ["Environment", "from_gymnax", "make", "randomize", "time_limit"]


def make(name: str, *, costly_reset: Any = None, **params: Any) -> Environment:
    """Makes an environment by name.

    >>> make("CartPole-v1", max_steps_in_episode=200).max_episode_steps
    200

    Args:
      name: a gymnax environment, such as CartPole-v1, or `suite/task`, such as brax/ant; `jaxdrl
        envs` lists them all.
      costly_reset: 0 or 1, to override the suite's own choice; None keeps it.
      **params: environment parameters or constructor arguments that differ from the defaults.

    Raises:
      ConfigError: for an unknown name or parameter, with the nearest ones; for a suite that is not
        installed, with the command that installs it; and for an environment that would have to
        download data.
    """
    require(isinstance(name, str) and bool(name), "env", name, "must be a name like 'CartPole-v1'")
    works = "must be 0 or 1"
    require(costly_reset in (None, 0, 1), "env_params.costly_reset", costly_reset, works)
    for param, value in params.items():
        params[param] = value = to_python(value)
        is_bad = isinstance(value, float) and not math.isfinite(value)
        require(not is_bad, f"env_params.{param}", value, "must be a finite number")
    suite, task = registry.split(name)
    env = (registry.GYMNAX if suite is None else registry.load(suite)).make(task, **params)
    return env if costly_reset is None else env._replace(costly_reset=bool(costly_reset))
