"""Tasks of XLand-MiniGrid: `xminigrid/MiniGrid-Empty-8x8`, played without its wrappers."""

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
from jaxdrl.envs.protocol import Environment, strong_types, time_limit
from jaxdrl.envs.suites.registry import Suite, episode_limit, fit_params, require_task
from jaxdrl.errors import ConfigError

TILE_PIXELS = 16
"""Height and width of a tile in pictures."""


def list_tasks() -> list[str]:
    """Every task but those of XLand, which are none without a `ruleset`."""
    return [task for task in xminigrid.registered_environments() if not _is_xland(task)]


def make_xminigrid(
    task: str, *, max_episode_steps: int | str | None = "default", **params: Any
) -> Environment:
    """An environment of XLand-MiniGrid whose episodes are truncated after `max_episode_steps`.

    Observations are what the agent sees, bool `[view_size, view_size, 25]`: one of 13 tiles and one
    of 12 colours, one-hot each. What it carries is not among it.

    Args:
      task: such as MiniGrid-Empty-8x8.
      max_episode_steps: None: no limit; "default": the suite's, which is `max_steps`.
      **params: fields of its `EnvParams`, such as `view_size` or `height`. `max_steps` is what the
        reward 1 - 0.9 * steps / max_steps is measured by, with any limit.

    Raises:
      ConfigError: for an unknown task or parameter, with the nearest, and for a task of XLand
        without `ruleset`.
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
        # From those that were given alone: some of the others follow from them.
        given = {param: fitted[param] for param in params}
        suite_params = suite_env.default_params(**{**spec.kwargs, **given})
    env = _adapt(name, suite_env, suite_params)
    limit = episode_limit(max_episode_steps, suite_params.max_steps)
    return env if limit is None else time_limit(env, limit)


def _is_xland(task: str) -> bool:
    return task.startswith("XLand")


def _adapt(name: str, suite_env: Any, suite_params: Any) -> Environment:
    """The environment behind the protocol, without a limit."""

    def reset(key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        del params
        with default_promotion():
            # Raw: its states keep keys that were used up, which typed ones would be refused for.
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
            # Its own limit ends an episode with a discount of 1, and is not asked.
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
