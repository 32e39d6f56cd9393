"""Environments: the protocol, the vectoriser, and one adapter file a suite."""

from __future__ import annotations

from typing import Any

from jaxdrl.config import ConfigError, require
from jaxdrl.envs.gymnax import from_gymnax, make_gymnax
from jaxdrl.envs.protocol import Environment, time_limit
from jaxdrl.envs.randomized import randomize

__all__ = ["Environment", "from_gymnax", "make", "randomize", "time_limit"]


def make(name: str, **params: Any) -> Environment:
    """Makes an environment by name.

    >>> make("CartPole-v1", max_steps_in_episode=200).max_episode_steps
    200

    Args:
      name: a registered gymnax environment.
      **params: environment parameters or constructor arguments other than the defaults.

    Raises:
      ConfigError: for an unknown name or parameter, with the nearest ones, and for an environment
        that would have to download data.
    """
    require(isinstance(name, str) and bool(name), "env", name, "must be a name like 'CartPole-v1'")
    if "/" in name:
        suite = name.split("/")[0]
        raise ConfigError(
            f"env = {name!r}: the suite {suite!r} is not installed; gymnax environments go by "
            "their name alone, such as CartPole-v1, and an environment of your own goes through "
            "jaxdrl.from_gymnax or jaxdrl.Environment"
        )
    return make_gymnax(name, **params)
