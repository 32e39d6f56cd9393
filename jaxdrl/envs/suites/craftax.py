"""Craftax and Craftax-Classic with symbolic observations: `craftax/Craftax-Symbolic-v1`."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.core import spaces
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.envs.protocol import Environment, strong_types
from jaxdrl.envs.suites.registry import Suite, episode_limit, fit_params, require_task
from jaxdrl.envs.truncation import time_limit
from jaxdrl.errors import ConfigError

with default_promotion():  # its modules run JAX code when they are imported
    from craftax.craftax_env import make_craftax_env_from_name

TASKS = ("Craftax-Classic-Symbolic-v1", "Craftax-Symbolic-v1")

PIXELS = ("Craftax-Classic-Pixels-v1", "Craftax-Pixels-v1")
"""Tasks whose textures Craftax writes into its own package as a pickle, and reads from there."""

NEVER = 2**31 - 1
"""The value that Craftax's own limit is set to, because it reports a limit as a termination."""


def list_tasks() -> list[str]:
    """The tasks with symbolic observations."""
    return list(TASKS)


def make_craftax(
    task: str, *, max_episode_steps: float | str | None = "default", **params: Any
) -> Environment:
    """A Craftax task; every episode has a new world.

    Observations are those of Craftax: float32 `[8268]`, in Classic `[1345]`. They show the time of
    day but not the number of steps, so a limit is not part of the task.

    Args:
      task: name of the task, such as Craftax-Symbolic-v1.
      max_episode_steps: "default" for that of Craftax, 100,000, or of Classic, 10,000; None for no
        limit.
      **params: the other fields of its EnvParams, such as `day_length`.

    Raises:
      ConfigError: for an unknown task or parameter, with the nearest ones, and for pixel
        observations.
    """
    name = f"craftax/{task}"
    if task in PIXELS:
        raise ConfigError(
            f"env = {name!r}: is not supported, because Craftax keeps its textures in a pickle, "
            f"and loading one can run code; use craftax/{task.replace('Pixels', 'Symbolic')}"
        )
    require_task("craftax", task, TASKS)
    with default_promotion():
        suite_env = make_craftax_env_from_name(task, auto_reset=False)
        suite_params = suite_env.default_params
    limit = episode_limit(max_episode_steps, suite_params.max_timesteps)
    if "max_timesteps" in params:
        raise ConfigError(
            f"env_params.max_timesteps = {params['max_timesteps']!r}: use max_episode_steps instead"
        )
    defaults = dict(vars(suite_params))
    del defaults["max_timesteps"], defaults["fractal_noise_angles"]
    fitted = dataclasses.replace(suite_params, **fit_params(name, params, defaults))
    env = _adapt(name, suite_env, fitted)
    return env if limit is None else time_limit(env, limit)


def _adapt(name: str, suite_env: Any, suite_params: Any) -> Environment:
    """Adapts Craftax's environment to the protocol, without a limit."""
    is_classic = "Classic" in name

    def derive_params(params: Any) -> Any:
        return dataclasses.replace(params, max_timesteps=NEVER)

    def reset(key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        with default_promotion():
            # Untyped, because Craftax uses untyped keys, one of them in the state.
            return strong_types(suite_env.reset_env(jax.random.key_data(key), params))

    def step(key: jax.Array, env_state: Any, action: jax.Array, params: Any) -> tuple:
        with default_promotion():
            obs, env_state, reward, terminated, _ = strong_types(
                suite_env.step_env(jax.random.key_data(key), env_state, action, params)
            )
        return obs, env_state, reward, terminated, jnp.zeros((), jnp.bool), {}

    def draw(env_state: Any, params: Any) -> Any:
        del params
        from jaxdrl.envs.drawing.craftax_tiles import draw_classic, draw_full

        return (draw_classic if is_classic else draw_full)(env_state)

    size = suite_env.observation_space(suite_params).shape
    # Craftax says 1, which experience, and the health and food of a strong player, exceed.
    high = 1.0 if is_classic else float("inf")
    return Environment(
        name=name,
        reset=reset,
        step=step,
        observation_space=spaces.Box(0.0, high, size),
        action_space=spaces.Discrete(suite_env.num_actions),
        default_params=derive_params(suite_params),
        derive_params=derive_params,
        costly_reset=True,  # a reset generates a world
        draw=draw,
    )


SUITE = Suite(make=make_craftax, list_tasks=list_tasks)
