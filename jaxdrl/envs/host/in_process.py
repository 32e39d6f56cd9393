"""Copies of a Gymnasium environment that one process steps one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxdrl.envs.host.in_use import InUse
from jaxdrl.envs.host.protocol import CopyError, HostBatch
from jaxdrl.envs.host.spaces import Actions, Observations, empty_batch, put_row
from jaxdrl.errors import ConfigError


def step_in_process(
    name: str,
    make_env: Callable[[], Any],
    observations: Observations,
    actions: Actions,
    num_envs: int,
) -> HostBatch:
    """Copies in this process; for environments whose step is short.

    Args:
      name: of the environment, for messages.
      make_env: makes one copy.
      observations: how they are converted.
      actions: likewise.
      num_envs: number of copies.
    """
    copies = _Copies(name, make_env, observations, actions, num_envs)
    can_draw = copies.envs[0].render_mode == "rgb_array"
    return HostBatch(
        reset=copies.reset,
        step=copies.step,
        close=copies.in_use.close,
        draw=copies.draw if can_draw else None,
    )


class _Copies:
    """The copies and their last observations."""

    def __init__(
        self,
        name: str,
        make_env: Callable[[], Any],
        observations: Observations,
        actions: Actions,
        num_envs: int,
    ) -> None:
        self.name, self.observations, self.actions = name, observations, actions
        self.envs = [make_env() for _ in range(num_envs)]
        if len({id(env.unwrapped) for env in self.envs}) < num_envs:
            raise ConfigError(
                f"{name}: make_env returned the same environment twice; it must make a new one at "
                "each call, such as lambda: MyEnv()"
            )
        self.obs = empty_batch(observations.space, num_envs)
        self.in_use = InUse(name, self.end)

    def reset(self, rows: np.ndarray, seeds: np.ndarray) -> Any:
        with self.in_use.call():
            batch = jax.tree.map(np.copy, self.obs)
            for row in np.flatnonzero(rows).tolist():
                try:
                    obs, _ = self.envs[row].reset(seed=int(seeds[row]))
                except Exception as error:
                    raise self.failed(row, "reset", error) from error
                put_row(batch, row, obs, self.observations.starts)
            self.obs = batch
        return batch

    def step(self, action: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
        num_envs, starts = len(self.envs), self.observations.starts
        reward = np.empty(num_envs, np.float32)
        terminated, truncated = np.empty(num_envs, bool), np.empty(num_envs, bool)
        given = self.actions.convert(np.asarray(action))
        # Python's own numbers, which environments expect where an action is a number.
        each = given.tolist() if given.ndim == 1 else list(given)
        row = 0
        with self.in_use.call():
            batch = jax.tree.map(np.empty_like, self.obs)
            try:
                for row, env in enumerate(self.envs):
                    obs, reward[row], terminated[row], truncated[row], _ = env.step(each[row])
                    put_row(batch, row, obs, starts)
            except Exception as error:
                raise self.failed(row, "step", error) from error
            self.obs = batch
        return batch, reward, terminated, truncated & ~terminated

    def draw(self, row: int) -> np.ndarray:
        with self.in_use.call():
            return np.asarray(self.envs[row].render(), np.uint8)

    def end(self) -> None:
        for env in self.envs:
            with contextlib.suppress(Exception):  # the others are to be closed all the same
                env.close()

    def failed(self, row: int, function: str, error: Exception) -> CopyError:
        return CopyError(
            f"{self.name}: copy {row} raised {type(error).__name__} in {function}: {error}"
        )
