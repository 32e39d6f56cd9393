"""Tasks of EnvPool, such as `envpool/CartPole-v1`, which steps all copies in threads of its own."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import envpool
import numpy as np
from envpool.registration import registry as registered

from jaxdrl.annotations import to_python
from jaxdrl.checks import require
from jaxdrl.core import spaces
from jaxdrl.envs.host.envpool_copies import copies_in_pool
from jaxdrl.envs.host.images import channels_last_space, is_channels_first
from jaxdrl.envs.host.protocol import HostBatch, HostEnvironment, on_host
from jaxdrl.envs.host.spaces import Actions, Observations, actions_of, observations_of
from jaxdrl.envs.host.truncation import limited
from jaxdrl.envs.protocol import Environment
from jaxdrl.envs.suites.registry import Suite, episode_limit, fit_params, require_task
from jaxdrl.errors import ConfigError

ENDLESS = 2**31 - 1
"""What EnvPool takes for no limit."""

REPLAYED = ("atari", "classic_control", "mujoco.dmc", "mujoco.gym")
"""The parts of EnvPool whose steps take no random numbers; others begin new episodes on a resume.

An episode is then decided by the first seed of its copy and the number of resets: this was measured
for every task of the last three and for five games of Atari.
"""

NO_PARAMS = {
    "num_envs",
    "batch_size",
    "num_threads",
    "max_num_players",
    "thread_affinity_offset",
    "base_path",
    "seed",
    "env_seed",
    "gym_reset_return_info",
    "max_episode_steps",
    "reward_threshold",
}
"""Settings of EnvPool that are set here, or that have no meaning here."""


def list_tasks() -> list[str]:
    """Every task."""
    return list(envpool.list_all_envs())


def make_envpool(
    task: str,
    *,
    max_episode_steps: int | str | None = "default",
    num_threads: float = 0,
    **params: Any,
) -> Environment:
    """A task of EnvPool, for one agent.

    Pictures have their channels last here. A bound that is the smallest positive number of its type
    is none: it stands where the lowest number was meant.

    Args:
      task: its name, such as CartPole-v1.
      max_episode_steps: None for no limit; "default" for EnvPool's.
      num_threads: threads that step the copies of one batch; 0 takes half of the cores.
      **params: EnvPool's settings of the task, such as `frame_skip`.

    Raises:
      ConfigError: for an unknown task or setting, with the nearest ones, and for a task that cannot
        be made here.
    """
    require_task("envpool", task, list_tasks())
    name = f"envpool/{task}"
    num_threads = to_python(num_threads)
    works = "must be a whole number of threads, or 0 for half of the cores"
    require(num_threads >= 0 and num_threads == int(num_threads), "num_threads", num_threads, works)
    config, *_ = _look_up(name, task, {})
    defaults = {param: value for param, value in config.items() if param not in NO_PARAMS}
    fitted = fit_params(name, params, defaults)
    given = {param: fitted[param] for param in params}
    _, observation_space, action_space = _look_up(name, task, given)
    if config["max_num_players"] > 1:
        raise ConfigError(f"{name}: has {config['max_num_players']} players; only one is supported")
    default = config["max_episode_steps"]  # 0: the task has limits of its own, by its size
    limit = episode_limit(max_episode_steps, default if 0 < default < ENDLESS else None)
    if limit is not None:  # it is kept outside: EnvPool would call a game that ends there truncated
        given["max_episode_steps"] = limit + 1
    elif max_episode_steps is None:
        given["max_episode_steps"] = ENDLESS
    theirs = observations_of(observation_space, f"{name}: the observation space")
    observations = Observations(_corrected(theirs.space), theirs.starts)
    actions = actions_of(action_space, f"{name}: the action space")
    make = partial(_make, name, (task, given, int(num_threads)), observations, actions)
    part = registered.specs[task][0].removeprefix("envpool.")
    # A lost life that ends an episode does not end the game, so that a reset goes on with it.
    depends = fitted.get("repeat_action_probability", 0.0) > 0 or fitted.get("episodic_life")
    space: Any = observations.space
    env = on_host(
        name,
        HostEnvironment(
            make=partial(make, False),
            replays=part in REPLAYED and not depends,
            make_drawn=partial(make, True),
        ),
        channels_last_space(space) if is_channels_first(space) else space,
        actions.space,
    )
    return env if limit is None else limited(env, limit)


def _look_up(name: str, task: str, given: dict[str, Any]) -> tuple[dict[str, Any], Any, Any]:
    """`(settings, observation_space, action_space)` of a task, without making a copy."""
    try:
        with without_notes():
            spec = envpool.make_spec(task, **given)
            spaces_of = spec.gymnasium_observation_space, spec.gymnasium_action_space
    except Exception as error:  # of many kinds: a package, a file or a setting
        raise ConfigError(f"{name}: EnvPool cannot make it: {error}") from error
    return spec.config._asdict(), *spaces_of


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Without Gymnasium's warnings that bounds of double precision become single precision."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*precision lowered by casting", UserWarning)
        yield


def _corrected(space: spaces.ObservationSpace) -> Any:
    """The space with true bounds where EnvPool has the smallest positive or the largest number."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: _corrected(inner) for key, inner in space.items})
    if not isinstance(space, spaces.Box) or space.dtype.kind != "f":
        return space
    low, high, none = space.low, space.high, np.finfo(space.dtype)
    # The same number of double precision is 0 in single precision, where no bound of theirs is.
    is_none = ((low == none.tiny) | (low == 0)) & (high >= none.max)
    return spaces.Box(
        np.where(is_none, -np.inf, low),
        np.where(high >= none.max, np.inf, high),
        space.shape,
        space.dtype,
    )


def _make(
    name: str,
    how: tuple[str, dict[str, Any], int],
    observations: Observations,
    actions: Actions,
    is_drawn: bool,
    num_envs: int,
) -> HostBatch:
    make_pool = partial(_make_pool, *how, is_drawn)
    batch = copies_in_pool(name, make_pool, observations, actions, num_envs)
    return batch if is_drawn else batch._replace(draw=None)


def _make_pool(
    task: str,
    given: dict[str, Any],
    num_threads: int,
    is_drawn: bool,
    seeds: np.ndarray,
) -> Any:
    num_envs = len(seeds)
    with without_notes():
        pool = envpool.make_gymnasium(
            task,
            num_envs=num_envs,
            num_threads=num_threads or max(1, min(num_envs, (os.cpu_count() or 1) // 2)),
            env_seed=[int(seed) & ENDLESS for seed in seeds],
            **({"render_mode": "rgb_array"} if is_drawn else {}),
            **given,
        )
        _ = pool.observation_space  # which is made, with those notes, when it is first asked for
    return pool


SUITE = Suite(make=make_envpool, list_tasks=list_tasks, on_host=True)
