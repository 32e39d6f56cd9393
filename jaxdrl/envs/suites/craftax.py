"""Craftax and Craftax-Classic with symbolic observations: `craftax/Craftax-Symbolic-v1`."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.core import spaces
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.envs.protocol import Environment, strong_types, time_limit
from jaxdrl.envs.suites.registry import Suite, episode_limit, fit_params, require_task
from jaxdrl.errors import ConfigError

with default_promotion():  # its modules compute when they are imported
    from craftax.craftax_env import make_craftax_env_from_name

TASKS = ("Craftax-Classic-Symbolic-v1", "Craftax-Symbolic-v1")

PIXELS = ("Craftax-Classic-Pixels-v1", "Craftax-Pixels-v1")
"""Tasks whose textures Craftax writes among its own files, and reads from there as a pickle."""

NEVER = 2**31 - 1
"""Steps after which Craftax would call the episode done: its limit looks like death."""


def list_tasks() -> list[str]:
    """The tasks with symbolic observations."""
    return list(TASKS)


def make_craftax(
    task: str, *, max_episode_steps: float | str | None = "default", **params: Any
) -> Environment:
    """A Craftax task; the world is another in every episode.

    Observations are those of Craftax: float32 `[8268]`, of Classic `[1345]`. The time of day is all
    that they show of the time, so that a limit is no part of the task.

    Args:
      task: such as Craftax-Symbolic-v1.
      max_episode_steps: "default": that of Craftax, 100,000, of Classic 10,000; None: no limit.
      **params: the other fields of its EnvParams, such as `day_length`.

    Raises:
      ConfigError: for an unknown task or parameter, with the nearest, and for observations of
        pixels.
    """
    name = f"craftax/{task}"
    if task in PIXELS:
        raise ConfigError(
            f"env = {name!r}: is not supported, since Craftax keeps its textures in a pickle, and "
            f"loading one can run code; use craftax/{task.replace('Pixels', 'Symbolic')}"
        )
    require_task("craftax", task, TASKS)
    with default_promotion():
        suite_env = make_craftax_env_from_name(task, auto_reset=False)
        suite_params = suite_env.default_params
    limit = episode_limit(max_episode_steps, suite_params.max_timesteps)
    if "max_timesteps" in params:
        raise ConfigError(
            f"env_params.max_timesteps = {params['max_timesteps']!r}: is max_episode_steps here"
        )
    defaults = dict(vars(suite_params))
    del defaults["max_timesteps"], defaults["fractal_noise_angles"]

    def derive_params(params: Any) -> Any:
        return dataclasses.replace(params, max_timesteps=NEVER)

    def reset(key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        with default_promotion():
            # Untyped, as Craftax has its keys, one of them in the state.
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

        return (draw_classic if "Classic" in task else draw_full)(env_state)

    size = suite_env.observation_space(suite_params).shape
    # Craftax says 1, which experience and the health and food of a strong player go beyond.
    high = 1.0 if "Classic" in task else float("inf")
    env = Environment(
        name=name,
        reset=reset,
        step=step,
        observation_space=spaces.Box(0.0, high, size),
        action_space=spaces.Discrete(suite_env.num_actions),
        default_params=derive_params(
            dataclasses.replace(suite_params, **fit_params(name, params, defaults))
        ),
        derive_params=derive_params,
        costly_reset=True,  # it makes a world
        draw=draw,
    )
    return env if limit is None else time_limit(env, limit)


SUITE = Suite(make=make_craftax, list_tasks=list_tasks)
