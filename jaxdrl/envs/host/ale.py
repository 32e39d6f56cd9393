"""Games of the Arcade Learning Environment, such as `ale/Breakout-v5`.

`AtariVectorEnv` steps all copies in threads of its own. It would reset a copy in the step after the
end of an episode; a reset right after the end, with a seed for each row, is in its place, so that
no such step is ever taken.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import ale_py
import gymnasium
import numpy as np
from ale_py.vector_env import AtariVectorEnv

from jaxdrl.annotations import to_python
from jaxdrl.checks import require
from jaxdrl.core import spaces
from jaxdrl.envs.host.images import channels_last
from jaxdrl.envs.host.in_use import InUse
from jaxdrl.envs.host.protocol import CopyError, HostBatch, HostEnvironment, on_host
from jaxdrl.envs.host.spaces import Actions, actions_of
from jaxdrl.envs.host.truncation import limited
from jaxdrl.envs.protocol import Environment
from jaxdrl.envs.suites.registry import Suite, episode_limit, fit_params, require_task
from jaxdrl.errors import ConfigError

MAX_FRAMES = 108_000
"""The limit of an episode in frames, half an hour of play."""

SEEDS = 2**31 - 1
"""The largest seed that ALE takes."""

NO_PARAMS = {
    "self",
    "game",
    "num_envs",
    "batch_size",
    "num_threads",
    "thread_affinity_offset",
    "max_num_frames_per_episode",
    "autoreset_mode",
    "life_loss_info",
}
"""Arguments of `AtariVectorEnv` that are set here, or that have no meaning here."""

gymnasium.register_envs(ale_py)


def list_tasks() -> list[str]:
    """Every game for one player, as Gymnasium's registry calls it."""
    return sorted(_games())


def _games() -> dict[str, str]:
    """The names of ROMs by the names of tasks."""
    registered = gymnasium.registry.values()
    return {
        spec.id.removeprefix("ALE/"): spec.kwargs["game"]
        for spec in registered
        if spec.namespace == "ALE" and spec.version == 5
    }


def make_ale(
    task: str,
    *,
    max_episode_steps: int | str | None = "default",
    num_threads: float = 0,
    **params: Any,
) -> Environment:
    """A game of Atari.

    Observations are the last `stack_num` pictures, uint8 `[height, width, stack_num]`, or three
    times as many channels in colour.

    Args:
      task: its name, such as Breakout-v5.
      max_episode_steps: None for no limit; "default" for as many as there are in 108,000 frames.
      num_threads: threads that step the copies of one batch; 0 takes half of the cores.
      **params: arguments of `ale_py.vector_env.AtariVectorEnv` with its defaults, such as
        `frameskip`, `repeat_action_probability` or `full_action_space`.

    Raises:
      ConfigError: for an unknown task or parameter, with the nearest ones, and for lives that count
        as episodes.
    """
    games = _games()
    require_task("ale", task, sorted(games))
    name = f"ale/{task}"
    num_threads = to_python(num_threads)
    works = "must be a whole number of threads, or 0 for half of the cores"
    require(num_threads >= 0 and num_threads == int(num_threads), "num_threads", num_threads, works)
    signature = inspect.signature(AtariVectorEnv.__init__).parameters
    defaults = {p: x.default for p, x in signature.items() if p not in NO_PARAMS}
    fitted = fit_params(name, params, defaults)
    if fitted["episodic_life"]:
        raise ConfigError(
            "env_params.episodic_life = True: a reset begins a new game, so that no life after the "
            "first would ever be played; leave it out"
        )
    how = {"num_threads": int(num_threads), **fitted}
    actions = _look_at(games[task], how, name)
    limit = episode_limit(max_episode_steps, max(1, MAX_FRAMES // fitted["frameskip"]))
    height, width = fitted["img_height"], fitted["img_width"]
    num_channels = fitted["stack_num"] * (1 if fitted["grayscale"] else 3)
    make = partial(_make, name, games[task], how, actions)
    host = HostEnvironment(make=partial(make, False), replays=True, make_drawn=partial(make, True))
    pictures = spaces.Box(0, 255, (height, width, num_channels), "uint8")
    env = on_host(name, host, pictures, actions.space)
    return env if limit is None else limited(env, limit)


def _look_at(game: str, how: dict[str, Any], name: str) -> Actions:
    """Makes one copy to see its actions, and whether it can be made."""
    try:
        space = _vector(game, how, 1).single_action_space
    except Exception as error:  # of many kinds, all about a setting
        raise ConfigError(f"{name}: ALE cannot make it: {error}") from error
    return actions_of(space, f"{name}: the action space")


def _vector(game: str, how: dict[str, Any], num_envs: int) -> AtariVectorEnv:
    num_threads = how["num_threads"] or max(1, min(num_envs, (os.cpu_count() or 1) // 2))
    return AtariVectorEnv(
        game,
        num_envs,
        # The limit is kept outside: here it would count the frames before the first action too.
        **(how | {"num_threads": num_threads, "max_num_frames_per_episode": SEEDS}),
    )


def _make(
    name: str, game: str, how: dict[str, Any], actions: Actions, is_drawn: bool, num_envs: int
) -> HostBatch:
    copies = _Copies(name, partial(_vector, game, how, num_envs), actions)
    return HostBatch(
        reset=copies.reset,
        step=copies.step,
        close=copies.in_use.close,
        draw=copies.draw if is_drawn else None,
    )


class _Copies:
    """The copies and their last observations."""

    def __init__(self, name: str, make: Callable[[], AtariVectorEnv], actions: Actions) -> None:
        self.name, self.actions = name, actions
        self.vector: Any = make()
        self.obs: np.ndarray | None = None
        self.in_use = InUse(name, self.end)

    def reset(self, rows: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        with self.in_use.call(), self.named():
            if self.obs is None:  # ALE wants all to begin at first
                rows = np.ones_like(rows)
            if self.obs is None or rows.any():
                given = np.asarray(seeds)[rows].astype(np.int64) & SEEDS
                obs, _ = self.vector.reset(seed=given, options={"reset_mask": np.array(rows)})
                self.obs = self.look(obs)
            return self.obs

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        given = self.actions.convert(np.asarray(action))
        with self.in_use.call(), self.named():
            obs, reward, terminated, truncated, _ = self.vector.step(given)
            self.obs = self.look(obs)
        return self.obs, reward.astype(np.float32), terminated, truncated & ~terminated

    def draw(self, row: int) -> np.ndarray:
        with self.in_use.call():
            assert self.obs is not None
            num_colours = 1 if self.vector.grayscale else 3
            newest = self.obs[row, ..., -num_colours:]
        return np.broadcast_to(newest, (*newest.shape[:2], 3)).copy()

    def look(self, obs: np.ndarray) -> np.ndarray:
        """Pictures with their channels last."""
        if self.vector.grayscale:
            return channels_last(obs)
        moved = np.moveaxis(obs, 1, -2)
        return moved.reshape(*moved.shape[:3], -1)

    def end(self) -> None:
        self.vector = None

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Says which game failed."""
        try:
            yield
        except Exception as error:
            raise CopyError(f"{self.name}: {type(error).__name__}: {error}") from error


SUITE = Suite(make=make_ale, list_tasks=list_tasks, on_host=True)
