"""Tasks of NAVIX, such as `navix/Navix-Empty-5x5-v0`; the whole grid is observed."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.core import spaces
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.core.keys import abstract_key
from jaxdrl.envs.protocol import Environment, strong_types
from jaxdrl.envs.suites.registry import Suite, episode_limit, fit_params, require_task
from jaxdrl.envs.truncation import time_limit

with warnings.catch_warnings():
    # A dependency of NAVIX's agents uses a deprecated name of JAX.
    warnings.filterwarnings("ignore", r"jax\.core\.\w+ is deprecated", DeprecationWarning)
    import navix
    from navix import observations
    from navix.environments.environment import StepType, Timestep
    from navix.rendering.cache import RenderingCache

NUM_TAGS, NUM_COLOURS, NUM_STATES = 11, 6, 4
"""The numbers of things a cell can hold, of colours, and of states: whether a door is open or
locked, or the direction of the player."""

NO_PARAMS = {"disable_autoreset", "gamma", "height", "width"}
"""Fields of a NAVIX environment that the task determines, or that have no meaning here."""


def list_tasks() -> list[str]:
    """Every task."""
    return list(navix.registry())


def make_navix(
    task: str, *, max_episode_steps: int | str | None = "default", **params: Any
) -> Environment:
    """A NAVIX environment whose episodes are truncated after `max_episode_steps`.

    Observations are bool `[height, width, 21]`: for each cell, one of 11 things, one of 6 colours
    and one of 4 states, each one-hot. A task with a mission, such as a door to go to, has one more
    channel for each target, true at the target's initial position: NAVIX's own observation does not
    contain it, so an agent could not know it. In the memory tasks the target would be the answer,
    and there is no such channel.

    Args:
      task: name of the task, such as Navix-Empty-5x5-v0.
      max_episode_steps: None for no limit; "default" for the suite's, which is `max_steps`.
      **params: fields of the environment that are numbers, such as `penalty_coeff` or
        `random_start`. The time penalty is relative to `max_steps`, whatever the limit.

    Raises:
      ConfigError: for an unknown task or parameter, with the nearest ones.
    """
    require_task("navix", task, list_tasks())
    name = f"navix/{task}"
    with default_promotion():
        suite_env = navix.make(task)
    fields = {key: x for key, x in vars(suite_env).items() if isinstance(x, int | float)}
    defaults = {key: x for key, x in fields.items() if key not in NO_PARAMS}
    suite_env = suite_env.replace(**fit_params(name, params, defaults))
    env = _adapt(name, suite_env, shows_mission="Memory" not in task)
    limit = episode_limit(max_episode_steps, suite_env.max_steps)
    return env if limit is None else time_limit(env, limit)


def _adapt(name: str, suite_env: Any, *, shows_mission: bool) -> Environment:
    """Adapts NAVIX's environment, without a limit; the state is NAVIX's state and the time."""

    def observe(state: Any) -> jax.Array:
        return _observe(state, state.mission if shows_mission else ())

    def reset(key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        del params
        with default_promotion():
            # Untyped, because NAVIX's states keep used keys, which the key-reuse checker refuses.
            state = suite_env.reset(jax.random.key_data(key)).state
            return observe(state), strong_types((_without_pictures(state), np.int32(0)))

    def step(key: jax.Array, env_state: Any, action: jax.Array, params: Any) -> tuple:
        del key, params
        # A copy, because NAVIX's actions write into the state that they get.
        state, time = jax.tree.map(lambda x: x, env_state)
        with default_promotion():
            before = Timestep(
                t=time, observation=(), action=action, reward=0.0, step_type=0, state=state
            )
            # The part of NAVIX's step that never resets; under vmap the reset would run as well.
            timestep = suite_env._step(before, action)
            # NAVIX's own limit, which has a step type of its own, is ignored.
            terminated = timestep.step_type == StepType.TERMINATION
            reward = jnp.asarray(timestep.reward, jnp.float32)
            obs = observe(timestep.state)
            env_state = strong_types((_without_pictures(timestep.state), timestep.t))
        return obs, env_state, reward, terminated, jnp.zeros((), jnp.bool), {}

    def draw(env_state: Any, params: Any) -> np.ndarray:
        del params
        state = env_state[0]
        with default_promotion():
            state = state.replace(cache=RenderingCache.init(jnp.asarray(state.grid)))
            return np.asarray(observations.rgb(jax.tree.map(jnp.asarray, state)))

    key = abstract_key()
    obs, _ = jax.eval_shape(reset, key, ())
    return Environment(
        name=name,
        reset=reset,
        step=step,
        observation_space=spaces.Box(False, True, obs.shape, "bool"),
        action_space=spaces.Discrete(len(suite_env.action_set)),
        draw=draw,
    )


def _without_pictures(state: Any) -> Any:
    """The state without its cache of tiles for rendering, by far its largest part."""
    return state.replace(cache=())


def _observe(state: Any, mission: tuple[Any, ...]) -> jax.Array:
    """NAVIX's symbols `[height, width, 3]` as one-hot, and the positions of mission targets."""
    symbols = observations.symbolic(state)
    parts = [
        symbols[..., i, None] == np.arange(n, dtype=np.uint8)
        for i, n in enumerate((NUM_TAGS, NUM_COLOURS, NUM_STATES))
    ]
    rows, columns = np.indices(state.grid.shape)
    for target in mission:
        row, column = target.position
        parts.append(((rows == row) & (columns == column))[..., None])
    return jnp.concatenate(parts, axis=-1)


SUITE = Suite(make=make_navix, list_tasks=list_tasks)
