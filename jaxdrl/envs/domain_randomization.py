"""Domain randomisation: parameters of the environment are drawn again for each episode."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxdrl.checks import checked, require, require_range
from jaxdrl.envs.protocol import Environment, replace_params
from jaxdrl.envs.truncation import TimeLimitState
from jaxdrl.errors import ConfigError

ON_HOST = (
    "is for environments in JAX; let one of the host draw its parameters by itself, from the seed "
    "with which it is reset"
)
"""What is said of `randomize` and an environment of the host."""


@struct.dataclass
class RandomizedState:
    """State of an environment under `randomize`: the inner state, and the drawn parameters."""

    inner: Any
    drawn: dict[str, jax.Array]


@checked
def randomize(env: Environment, ranges: Mapping[str, tuple[float, float]]) -> Environment:
    """`env` with parameters that each copy draws uniformly at each reset.

    Parameters derived from them are recomputed. `default_params` do not change; the drawn values
    are part of the state, so they are in checkpoints.

    Args:
      env: the environment; its parameters are a dataclass.
      ranges: `(low, high)` by the name of the parameter.

    Raises:
      ConfigError: for a name that is not one of its float parameters, or an invalid range; and for
        an environment of the host.
    """
    require(env.host is None, "randomize", f"{dict(ranges)} of {env.name}", ON_HOST)
    for name, (low, high) in ranges.items():
        require_range(f"randomize.{name}", low, high)
        default = getattr(env.default_params, name, None)
        if isinstance(default, int) and not isinstance(default, bool):
            raise ConfigError(
                f"randomize.{name}: this parameter of {env.name} is an integer, {default}; only "
                "float parameters can be drawn"
            )
        for value in (low, high):
            replace_params(env, {name: value})

    with_drawn = partial(_with_drawn, env)

    def reset(key: jax.Array, params: Any) -> tuple[Any, RandomizedState]:
        reset_key, draw_key = jax.random.split(key)
        keys = jax.random.split(draw_key, len(ranges))
        drawn = {
            name: jax.random.uniform(keys[i], (), jnp.float32, low, high)
            for i, (name, (low, high)) in enumerate(ranges.items())
        }
        obs, inner = env.reset(reset_key, with_drawn(params, drawn))
        return obs, RandomizedState(inner=inner, drawn=drawn)

    def step(key: jax.Array, env_state: RandomizedState, action: Any, params: Any) -> tuple:
        obs, inner, *rest = env.step(
            key, env_state.inner, action, with_drawn(params, env_state.drawn)
        )
        return obs, RandomizedState(inner=inner, drawn=env_state.drawn), *rest

    def draw(env_state: RandomizedState, params: Any) -> Any:
        return env.draw(*unwrapped(env, env_state, params))  # type: ignore[misc]

    return env._replace(reset=reset, step=step, draw=env.draw and draw)


def _with_drawn(env: Environment, params: Any, drawn: dict[str, jax.Array]) -> Any:
    changed = dataclasses.replace(params, **drawn)
    return changed if env.derive_params is None else env.derive_params(changed)


def unwrapped(env: Environment, env_state: Any, params: Any) -> tuple[Any, Any]:
    """State and parameters of the environment inside `time_limit` and `randomize`."""
    while isinstance(env_state, TimeLimitState | RandomizedState):
        if isinstance(env_state, RandomizedState):
            params = _with_drawn(env, params, env_state.drawn)
        env_state = env_state.inner
    return env_state, params


def parse_ranges(texts: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Ranges from texts `NAME=LOW:HIGH` with distinct names.

    >>> parse_ranges(("length=0.25:1.0",))
    {'length': (0.25, 1.0)}

    Raises:
      ConfigError: for a text of any other form, and for a name that is given twice.
    """
    ranges: dict[str, tuple[float, float]] = {}
    for text in texts:
        name, _, numbers = text.partition("=")
        try:
            low, high = map(float, numbers.split(":"))
        except ValueError as error:
            raise ConfigError(
                f"randomize = {text!r}: must be NAME=LOW:HIGH, such as length=0.25:1.0"
            ) from error
        require(name not in ranges, "randomize", text, "names a parameter that is given twice")
        ranges[name] = (low, high)
    return ranges
