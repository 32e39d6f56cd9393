"""Copies of a task in a pool of EnvPool.

EnvPool seeds a copy when it is made, and ignores the seeds of later resets. So the pool is made at
the first reset, and what decides an episode is the first seed of its copy and its number. EnvPool
would reset a copy in the step after the end of an episode; a reset right after the end is in its
place, so that no such step is ever taken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxdrl.envs.host.images import channels_last, is_channels_first
from jaxdrl.envs.host.in_use import InUse
from jaxdrl.envs.host.protocol import CopyError, HostBatch
from jaxdrl.envs.host.spaces import Actions, Observations, cast_batch, empty_batch


def copies_in_pool(
    name: str,
    make_pool: Callable[[np.ndarray], Any],
    observations: Observations,
    actions: Actions,
    num_envs: int,
) -> HostBatch:
    """Copies that the threads of a pool step.

    Args:
      name: of the environment, for messages.
      make_pool: `(seeds) -> pool` with a copy for each seed, which draws if it was told to.
      observations: how they are converted; pictures get their channels last besides.
      actions: likewise.
      num_envs: number of copies.
    """
    copies = _Copies(name, make_pool, observations, actions, num_envs)
    return HostBatch(
        reset=copies.reset,
        step=copies.step,
        close=copies.in_use.close,
        draw=copies.draw,
        seek=copies.seek,
    )


class _Copies:
    """The pool, once there are seeds for it, and the last observations."""

    def __init__(
        self,
        name: str,
        make_pool: Callable[[np.ndarray], Any],
        observations: Observations,
        actions: Actions,
        num_envs: int,
    ) -> None:
        self.name, self.make_pool, self.num_envs = name, make_pool, num_envs
        self.pool: Any = None
        self.observations, self.actions = observations, actions
        self.moves_channels = is_channels_first(observations.space)
        self.obs = self.look(empty_batch(observations.space, num_envs))
        self.in_use = InUse(name, self.end)

    def reset(self, rows: np.ndarray, seeds: np.ndarray) -> Any:
        with self.in_use.call(), self.named():
            self.reset_rows(rows, seeds)
            return self.obs

    def step(self, action: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
        given = self.actions.convert(np.asarray(action))
        if len(given) != self.num_envs:  # EnvPool would abort the process
            raise ValueError(f"{self.name}: {len(given)} actions for {self.num_envs} copies")
        with self.in_use.call(), self.named():
            obs, reward, terminated, truncated, _ = self.pool.step(given)
            self.obs = self.look(obs)
        return self.obs, reward.astype(np.float32, copy=False), terminated, truncated

    def seek(
        self, seeds: np.ndarray, episodes: np.ndarray, actions: np.ndarray, num_actions: np.ndarray
    ) -> Any:
        with self.in_use.call(), self.named():
            for episode in range(int(episodes.max(initial=0)) + 1):
                self.reset_rows(episodes >= episode, seeds)
            for step in range(int(num_actions.max(initial=0))):
                rows = num_actions > step
                given = self.actions.convert(actions[rows, step])
                obs, *_, info = self.pool.step(given, np.flatnonzero(rows))
                self.put(info["env_id"], obs)
            return self.obs

    def draw(self, row: int) -> np.ndarray:
        with self.in_use.call(), self.named():
            return np.asarray(self.pool.render(row)[0], np.uint8)

    def reset_rows(self, rows: np.ndarray, seeds: np.ndarray) -> None:
        if self.pool is None:
            self.pool = self.make_pool(seeds)
        if rows.any():
            obs, info = self.pool.reset(np.flatnonzero(rows))
            self.put(info["env_id"], obs)

    def put(self, ids: np.ndarray, obs: Any) -> None:
        """Puts the observations of some copies into a new batch of all."""

        def scattered(batch: np.ndarray, part: np.ndarray) -> np.ndarray:
            batch = batch.copy()
            batch[ids] = part
            return batch

        self.obs = jax.tree.map(scattered, self.obs, self.look(obs))

    def look(self, obs: Any) -> Any:
        """Observations as they come from the pool in our types."""
        space, starts = self.observations
        obs = cast_batch(space, obs, starts)
        return channels_last(obs) if self.moves_channels else obs

    def end(self) -> None:
        pool, self.pool = self.pool, None
        if pool is not None:
            pool.close()

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Says which environment failed."""
        try:
            yield
        except Exception as error:
            raise CopyError(f"{self.name}: {type(error).__name__}: {error}") from error
