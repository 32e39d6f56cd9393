"""Tasks of Brax, such as `brax/ant`, without Brax's wrappers, which reset to the same state."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.checks import require
from jaxdrl.core import spaces
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.core.keys import abstract_key
from jaxdrl.envs.protocol import Environment, strong_types
from jaxdrl.envs.suites.mujoco_import import without_warp
from jaxdrl.envs.suites.registry import Suite, episode_limit, fit_params, require_task
from jaxdrl.envs.truncation import time_limit


@contextlib.contextmanager
def their_rules() -> Iterator[None]:
    """Runs Brax's code under JAX's default promotion rules, without warnings about Brax itself."""
    with default_promotion(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "JAXopt is no longer maintained", DeprecationWarning)
        warnings.filterwarnings("ignore", "Brax System, piplines", UserWarning)
        # From MJX, whose data Brax reads.
        warnings.filterwarnings("ignore", "Accessing .* is deprecated", DeprecationWarning)
        yield


with their_rules(), without_warp():
    from brax import envs

BACKENDS = ("generalized", "positional", "spring", "mjx")

MAX_EPISODE_STEPS = 1000
"""The limit that Brax trains with; its environments have no limit of their own."""


def list_tasks() -> list[str]:
    """Every task except `fast`, which exists to test Brax."""
    return sorted(set(envs._envs) - {"fast"})


def make_brax(
    task: str, *, max_episode_steps: float | None = MAX_EPISODE_STEPS, **params: Any
) -> Environment:
    """A Brax environment whose episodes are truncated after `max_episode_steps`.

    Args:
      task: name of the task, such as ant.
      max_episode_steps: None for no limit.
      **params: arguments of its constructor, such as `backend`: "generalized", "positional",
        "spring" or "mjx".

    Raises:
      ConfigError: for an unknown task or parameter, with the nearest ones.
    """
    require_task("brax", task, list_tasks())
    name = f"brax/{task}"
    signature = inspect.signature(envs._envs[task].__init__).parameters.values()
    defaults = {p.name: p.default for p in signature if p.default is not p.empty}
    kwargs = fit_params(name, params, defaults)
    works = f"must be one of {', '.join(BACKENDS)}"
    require(kwargs["backend"] in BACKENDS, "env_params.backend", kwargs["backend"], works)
    with their_rules():
        brax_env = envs.get_environment(task, **kwargs)
        obs = jax.eval_shape(brax_env.reset, abstract_key()).obs

    def reset(key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        del params
        with their_rules():
            state = strong_types(brax_env.reset(key))
        return state.obs, state

    def step(key: jax.Array, env_state: Any, action: jax.Array, params: Any) -> tuple:
        del key, params
        with their_rules():
            # A copy, because Brax writes into the dictionaries of the state that it gets.
            state = strong_types(brax_env.step(strong_types(env_state), action))
        terminated = state.done > 0.5
        truncated = jnp.zeros((), jnp.bool)
        return state.obs, state, state.reward, terminated, truncated, {}

    def draw(env_state: Any, params: Any) -> Any:
        del params
        from jaxdrl.envs.drawing.mujoco_outlines import draw_model

        return draw_model(brax_env.sys.mj_model, env_state.pipeline_state.q)

    env = Environment(
        name=name,
        reset=reset,
        step=step,
        observation_space=spaces.Box(-float("inf"), float("inf"), obs.shape, obs.dtype),
        action_space=spaces.Box(-1.0, 1.0, (brax_env.action_size,)),
        costly_reset=True,  # a reset solves for the initial positions
        draw=draw,
    )
    limit = episode_limit(max_episode_steps, MAX_EPISODE_STEPS)
    return env if limit is None else time_limit(env, limit)


SUITE = Suite(make=make_brax, list_tasks=list_tasks)
