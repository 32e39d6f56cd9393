"""Tasks of MuJoCo Playground from the DeepMind Control Suite: `playground/CartpoleBalance`."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.core import spaces
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.envs.protocol import Environment, strong_types
from jaxdrl.envs.suites.mujoco_import import without_warp
from jaxdrl.envs.suites.registry import Suite, episode_limit, fit_params, require_task
from jaxdrl.envs.truncation import time_limit
from jaxdrl.errors import ConfigError

with warnings.catch_warnings(), without_warp():
    # Playground's training wrappers import Brax, which imports JAXopt.
    warnings.filterwarnings("ignore", "JAXopt is no longer maintained", DeprecationWarning)
    import mujoco
    from mujoco_playground import dm_control_suite, registry

MAX_EPISODE_STEPS = 1000
"""The `episode_length` of all these tasks, which Playground's training wrapper counts."""

COSTLY = {"CheetahRun"}
"""Tasks whose reset takes as long as tens of steps, because it lets the body come to rest."""


def list_tasks() -> list[str]:
    """The tasks of the control suite; all others need robot models that Playground downloads."""
    return sorted(dm_control_suite.ALL_ENVS)


def make_playground(
    task: str, *, max_episode_steps: float | None = MAX_EPISODE_STEPS, **params: Any
) -> Environment:
    """A task of the control suite, simulated in JAX and truncated after `max_episode_steps`.

    An episode terminates only if the simulation produces NaN; the reward is then 0.

    Args:
      task: name of the task, such as CartpoleBalance.
      max_episode_steps: None for no limit.
      **params: `ctrl_dt` and `sim_dt`, the seconds between actions and the seconds of one step of
        the simulation.

    Raises:
      ConfigError: for an unknown task or parameter, with the nearest ones, and for a task whose
        robot model would have to be downloaded.
    """
    name = f"playground/{task}"
    if task not in list_tasks() and task in registry.ALL_ENVS:
        raise ConfigError(
            f"env = {name!r}: needs a robot of the MuJoCo Menagerie, which Playground downloads, "
            "and jaxdrl downloads nothing; the tasks of the control suite work, such as "
            "CartpoleBalance"
        )
    require_task("playground", task, list_tasks())
    suite_config = dm_control_suite.get_default_config(task)
    defaults = {param: suite_config[param] for param in ("ctrl_dt", "sim_dt")}
    overrides = {**fit_params(name, params, defaults), "impl": "jax"}
    with default_promotion(), _no_log():
        suite_env = dm_control_suite.load(task, config_overrides=overrides)
    env = _adapt(name, suite_env)._replace(costly_reset=task in COSTLY)
    limit = episode_limit(max_episode_steps, MAX_EPISODE_STEPS)
    return env if limit is None else time_limit(env, limit)


def _adapt(name: str, suite_env: Any) -> Environment:
    """Adapts Playground's environment to the protocol, without a limit."""
    with default_promotion(), _no_log():
        obs = jax.eval_shape(suite_env.reset, jax.random.PRNGKey(0)).obs

    def reset(key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        del params
        with default_promotion():
            # Untyped, because several tasks use a key twice, which the key-reuse checker refuses.
            state = strong_types(suite_env.reset(jax.random.key_data(key)))
        return state.obs, state

    def step(key: jax.Array, env_state: Any, action: jax.Array, params: Any) -> tuple:
        del key, params
        with default_promotion():
            # A copy, because Playground writes into the dictionaries of the state that it gets.
            state = strong_types(suite_env.step(strong_types(env_state), action))
        terminated = state.done > 0.5
        reward = jnp.where(jnp.isnan(state.reward), 0.0, state.reward)
        return state.obs, state, reward, terminated, jnp.zeros((), jnp.bool), {}

    def draw(env_state: Any, params: Any) -> Any:
        del params
        from jaxdrl.envs.drawing.mujoco_outlines import draw_model

        data = env_state.data
        return draw_model(suite_env.mj_model, data.qpos, data.mocap_pos)

    return Environment(
        name=name,
        reset=reset,
        step=step,
        observation_space=spaces.Box(-float("inf"), float("inf"), obs.shape, obs.dtype),
        action_space=spaces.Box(-1.0, 1.0, (suite_env.action_size,)),
        draw=draw,
    )


@contextlib.contextmanager
def _no_log() -> Iterator[None]:
    """A context in which MuJoCo does not write warnings about models to MUJOCO_LOG.TXT."""
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


SUITE = Suite(make=make_playground, list_tasks=list_tasks)
