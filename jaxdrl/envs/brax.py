"""Tasks of Brax: `brax/ant`. Its wrappers, which reset to one and the same state, are left out."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
from brax import envs

from jaxdrl import spaces
from jaxdrl.envs.protocol import Environment, strong_types, time_limit
from jaxdrl.envs.suites import Suite, fit_params, require_task
from jaxdrl.promotion import default_promotion

MAX_EPISODE_STEPS = 1000
"""What Brax trains with; its environments have no limit of their own."""


def list_tasks() -> list[str]:
    """Every task but `fast`, which is there to test Brax."""
    return sorted(set(envs._envs) - {"fast"})


def make_brax(
    task: str, *, max_episode_steps: int | None = MAX_EPISODE_STEPS, **params: Any
) -> Environment:
    """A Brax environment whose episodes are truncated after `max_episode_steps`.

    Args:
      task: such as ant.
      max_episode_steps: None: no limit.
      **params: arguments of its constructor, such as `backend`, "generalized", "positional",
        "spring" or "mjx".

    Raises:
      ConfigError: for an unknown task or parameter, with the nearest.
    """
    require_task("brax", task, list_tasks())
    name = f"brax/{task}"
    signature = inspect.signature(envs._envs[task].__init__).parameters.values()
    defaults = {p.name: p.default for p in signature if p.default is not p.empty}
    with default_promotion():
        brax_env = envs.get_environment(task, **fit_params(name, params, defaults))
        obs = jax.eval_shape(brax_env.reset, jax.random.key(0)).obs

    def reset(key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        del params
        with default_promotion():
            state = strong_types(brax_env.reset(key))
        return state.obs, state

    def step(key: jax.Array, env_state: Any, action: jax.Array, params: Any) -> tuple:
        del key, params
        with default_promotion():
            state = strong_types(brax_env.step(env_state, action))
        terminated = state.done > 0.5
        truncated = jnp.zeros((), jnp.bool)
        return state.obs, state, state.reward, terminated, truncated, {}

    env = Environment(
        name=name,
        reset=reset,
        step=step,
        observation_space=spaces.Box(-float("inf"), float("inf"), obs.shape, obs.dtype),
        action_space=spaces.Box(-1.0, 1.0, (brax_env.action_size,)),
        costly_reset=True,  # it solves for the first positions
    )
    return env if max_episode_steps is None else time_limit(env, int(max_episode_steps))


SUITE = Suite(make=make_brax, list_tasks=list_tasks)
