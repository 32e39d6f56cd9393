"""Tasks of XLand-MiniGrid, such as `xminigrid/MiniGrid-Empty-8x8`, without its wrappers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xminigrid
from xminigrid import registration
from xminigrid.core.constants import NUM_COLORS, NUM_TILES
from xminigrid.rendering.rgb_render import render
from xminigrid.types import StepType, TimeStep

from jaxdrl.core import spaces
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.envs.protocol import Environment, strong_types
from jaxdrl.envs.suites.registry import Suite, episode_limit, fit_params, require_task
from jaxdrl.envs.truncation import time_limit
from jaxdrl.errors import ConfigError

TILE_PIXELS = 16
"""Height and width of a tile in pictures."""


def list_tasks() -> list[str]:
    """Every task except those of XLand, which have no goal without a `ruleset`."""
    return [task for task in xminigrid.registered_environments() if not _is_xland(task)]


def make_xminigrid(
    task: str, *, max_episode_steps: int | str | None = "default", **params: Any
) -> Environment:
    """An XLand-MiniGrid environment whose episodes are truncated after `max_episode_steps`.

    Observations are the agent's view, bool `[view_size, view_size, 25]`: one of 13 tiles and one of
    12 colours, each one-hot. They do not show what the agent carries.

    Args:
      task: name of the task, such as MiniGrid-Empty-8x8.
      max_episode_steps: None for no limit; "default" for the suite's, which is `max_steps`.
      **params: fields of its `EnvParams`, such as `view_size` or `height`. The reward is
        1 - 0.9 * steps / max_steps, whatever the limit.

    Raises:
      ConfigError: for an unknown task or parameter, with the nearest ones, and for an XLand task
        without a `ruleset`.
    """
    require_task("xminigrid", task, list(xminigrid.registered_environments()))
    name = f"xminigrid/{task}"
    if _is_xland(task) and "ruleset" not in params:
        raise ConfigError(
            f"env = {name!r}: has no goal of its own; make it in Python with an "
            f"xminigrid.types.RuleSet: jaxdrl.make({name!r}, ruleset=...)"
        )
    spec = registration._REGISTRY[task]
    suite_env: Any = registration.load(spec.entry_point)()
    fields = vars(suite_env.default_params(**spec.kwargs))
    defaults = {param: fields[param] for param in fields if param != "render_mode"}
    fitted = fit_params(name, params, defaults)
    with default_promotion():
        # Made from the given ones only, because some of the others are derived from them.
        given = {param: fitted[param] for param in params}
        suite_params = suite_env.default_params(**{**spec.kwargs, **given})
    env = _adapt(name, suite_env, suite_params)
    limit = episode_limit(max_episode_steps, suite_params.max_steps)
    return env if limit is None else time_limit(env, limit)


def _is_xland(task: str) -> bool:
    return task.startswith("XLand")


def _adapt(name: str, suite_env: Any, suite_params: Any) -> Environment:
    """Adapts XLand-MiniGrid's environment to the protocol, without a limit."""

    def reset(key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        del params
        with default_promotion():
            # Untyped, because its states keep used keys, which the key-reuse checker refuses.
            timestep = suite_env.reset(suite_params, jax.random.key_data(key))
            return _one_hot(timestep.observation), strong_types(timestep.state)

    def step(key: jax.Array, env_state: Any, action: jax.Array, params: Any) -> tuple:
        del key, params
        with default_promotion():
            before = TimeStep(
                state=env_state, step_type=StepType.MID, reward=0.0, discount=1.0, observation=()
            )
            timestep = suite_env.step(suite_params, before, action)
            obs, state = _one_hot(timestep.observation), strong_types(timestep.state)
            # Its own limit, which ends an episode with a discount of 1, is ignored.
            terminated = timestep.discount == 0.0
            reward = jnp.asarray(timestep.reward, jnp.float32)
        return obs, state, reward, terminated, jnp.zeros((), jnp.bool), {}

    def draw(env_state: Any, params: Any) -> np.ndarray:
        del params
        return render(env_state.grid, env_state.agent, suite_params.view_size, TILE_PIXELS)

    size = suite_params.view_size
    return Environment(
        name=name,
        reset=reset,
        step=step,
        observation_space=spaces.Box(False, True, (size, size, NUM_TILES + NUM_COLORS), "bool"),
        action_space=spaces.Discrete(suite_env.num_actions(suite_params)),
        draw=draw,
    )


def _one_hot(tiles: jax.Array) -> jax.Array:
    """Tile and colour, `[height, width, 2]`, as bool `[height, width, 25]`."""
    tile = tiles[..., :1] == np.arange(NUM_TILES, dtype=np.uint8)
    colour = tiles[..., 1:] == np.arange(NUM_COLORS, dtype=np.uint8)
    return jnp.concatenate([tile, colour], axis=-1)


SUITE = Suite(make=make_xminigrid, list_tasks=list_tasks)
