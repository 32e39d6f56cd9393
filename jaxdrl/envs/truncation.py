"""A limit on the length of episodes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxdrl.checks import Count, checked
from jaxdrl.envs.host.truncation import limited
from jaxdrl.envs.protocol import Environment


@struct.dataclass
class TimeLimitState:
    """State of an environment under `time_limit`: inner state and number of steps so far, int32."""

    inner: Any
    num_steps: jax.Array


@checked
def time_limit(env: Environment, max_episode_steps: Count) -> Environment:
    """Truncates the episodes of `env` after `max_episode_steps` steps.

    An episode that terminates at its last step is terminated, not truncated.

    Raises:
      ConfigError: if `max_episode_steps` is not an integer of at least 1.
    """
    limit = min(max_episode_steps, env.max_episode_steps or max_episode_steps)
    if env.host is not None:
        return limited(env, limit)

    def reset(key: jax.Array, params: Any) -> tuple[Any, TimeLimitState]:
        obs, inner = env.reset(key, params)
        return obs, TimeLimitState(inner=inner, num_steps=jnp.zeros((), jnp.int32))

    def step(key: jax.Array, env_state: TimeLimitState, action: Any, params: Any) -> tuple:
        obs, inner, reward, terminated, truncated, info = env.step(
            key, env_state.inner, action, params
        )
        num_steps = env_state.num_steps + 1
        truncated = (truncated | (num_steps >= max_episode_steps)) & ~terminated
        env_state = TimeLimitState(inner=inner, num_steps=num_steps)
        return obs, env_state, reward, terminated, truncated, info

    def draw(env_state: TimeLimitState, params: Any) -> Any:
        is_wrapped = isinstance(env_state, TimeLimitState)
        return env.draw(env_state.inner if is_wrapped else env_state, params)  # type: ignore[misc]

    return env._replace(reset=reset, step=step, max_episode_steps=limit, draw=env.draw and draw)
