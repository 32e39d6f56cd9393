"""A limit on the length of episodes, for environments of the host."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from jaxdrl.envs.host.protocol import HostBatch, HostEnvironment, on_host
from jaxdrl.envs.protocol import Environment


def limited(env: Environment, max_episode_steps: int) -> Environment:
    """`env` with episodes that are truncated after `max_episode_steps` steps."""
    host: HostEnvironment = env.host
    cut, drawn = partial(_make_limited, max_episode_steps), host.make_drawn
    host = host._replace(make=partial(cut, host.make), make_drawn=drawn and partial(cut, drawn))
    spaces = env.observation_space, env.action_space
    made = on_host(env.name, host, *spaces, max_episode_steps=max_episode_steps)
    names = ("reset", "default_params", "max_episode_steps", "host")
    return env._replace(**{name: getattr(made, name) for name in names})


def _make_limited(
    max_episode_steps: int, make: Callable[[int], HostBatch], num_envs: int
) -> HostBatch:
    """Copies that count the steps of each row."""
    batch = make(num_envs)
    num_steps = np.zeros(num_envs, np.int64)

    def reset(rows: np.ndarray, seeds: np.ndarray) -> Any:
        num_steps[rows] = 0
        return batch.reset(rows, seeds)

    def step(action: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
        obs, reward, terminated, truncated = batch.step(action)
        num_steps[:] += 1
        is_cut = (num_steps >= max_episode_steps) & ~terminated
        return obs, reward, terminated, truncated | is_cut

    def seek(
        seeds: np.ndarray, episodes: np.ndarray, actions: np.ndarray, num_actions: np.ndarray
    ) -> Any:
        num_steps[:] = num_actions
        return batch.seek(seeds, episodes, actions, num_actions)  # type: ignore[misc]

    return batch._replace(reset=reset, step=step, seek=batch.seek and seek)
