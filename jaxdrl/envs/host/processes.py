"""Copies of a Gymnasium environment in processes of their own, by Gymnasium's `AsyncVectorEnv`."""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from jaxdrl.envs.host.in_use import InUse
from jaxdrl.envs.host.protocol import CopyError, HostBatch
from jaxdrl.envs.host.spaces import Actions, Observations, cast_batch
from jaxdrl.io.env_worker import ERROR, make_reporting

SECONDS_TO_CLOSE = 1.0
"""How long the environments may take to close, before their processes are killed."""


def step_in_processes(
    name: str,
    make_env: Callable[[], Any],
    observations: Observations,
    actions: Actions,
    timeout: float,
    num_envs: int,
) -> HostBatch:
    """One process for each copy; for environments that are slow, or that crash.

    Args:
      name: of the environment, for messages.
      make_env: makes one copy; it is sent to the processes.
      observations: how they are converted.
      actions: likewise.
      timeout: seconds that a step or reset may take.
      num_envs: number of copies.
    """
    workers = _Workers(name, make_env, observations, actions, timeout, num_envs)
    can_draw = workers.vector.render_mode == "rgb_array"
    return HostBatch(
        reset=workers.reset,
        step=workers.step,
        close=workers.in_use.close,
        draw=workers.draw if can_draw else None,
    )


class _Workers:
    """The processes and the last observations."""

    def __init__(
        self,
        name: str,
        make_env: Callable[[], Any],
        observations: Observations,
        actions: Actions,
        timeout: float,
        num_envs: int,
    ) -> None:
        self.name, self.observations, self.actions = name, observations, actions
        self.timeout, self.has_failed = timeout, False
        self.in_use = InUse(name, self.end, self.kill)
        # What all of them import is imported once, by the server that they are forked from.
        server = multiprocessing.get_context("forkserver")
        server.set_forkserver_preload(["__main__", make_reporting.__module__])
        try:
            self.vector = AsyncVectorEnv(
                [partial(make_reporting, make_env, os.getpid())] * num_envs,
                context="forkserver",  # a fork after JAX has started may wait for ever
                autoreset_mode=AutoresetMode.DISABLED,
            )
        except (EOFError, OSError) as error:
            _release(error)
            raise CopyError(
                f"{name}: a process of a copy ended while it started ({type(error).__name__}); see "
                "above what it said. A script that makes processes begins its work below "
                'if __name__ == "__main__":'
            ) from error

    def reset(self, rows: np.ndarray, seeds: np.ndarray) -> Any:
        how = {"seed": [int(seed) for seed in seeds], "options": {"reset_mask": rows.copy()}}
        with self.in_use.call(), self.named("reset"):
            if not rows.any():  # which Gymnasium refuses
                return self.cast(copy.deepcopy(self.vector.observations))
            self.vector.reset_async(**how)  # type: ignore[arg-type]
            found: Any = self.vector.reset_wait(timeout=self.timeout)
            obs, info = found
            self.require_none(info, "reset")
        return self.cast(obs)

    def step(self, action: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
        given = self.actions.convert(np.asarray(action))
        with self.in_use.call(), self.named("step"):
            self.vector.step_async(given)
            found: Any = self.vector.step_wait(timeout=self.timeout)
            obs, reward, terminated, truncated, info = found
            self.require_none(info, "step")
        return self.cast(obs), reward.astype(np.float32), terminated, truncated & ~terminated

    def draw(self, row: int) -> np.ndarray:
        with self.in_use.call(), self.named("render"):
            self.vector.call_async("render")
            return np.asarray(self.vector.call_wait(timeout=self.timeout)[row], np.uint8)

    def cast(self, obs: Any) -> Any:
        return cast_batch(self.observations.space, obs, self.observations.starts)

    def require_none(self, info: dict, function: str) -> None:
        """Raises what the first copy has raised that raised anything."""
        if ERROR in info:
            row = int(np.flatnonzero(info[f"_{ERROR}"])[0])
            kind, message, frames = info[ERROR][row]
            error = CopyError(f"{self.name}: copy {row} raised {kind} in {function}: {message}")
            error.add_note(frames)
            raise error

    @contextlib.contextmanager
    def named(self, function: str) -> Iterator[None]:
        """Says of which copy a failure is."""
        try:
            yield
        except Exception as error:
            self.has_failed = True
            if isinstance(error, CopyError):
                raise
            _release(error)
            if self.in_use.is_closed:
                raise RuntimeError(f"{self.name}: was closed during a {function}") from error
            raise CopyError(f"{self.name}: {self.cause(function, error)}") from error

    def cause(self, function: str, error: Exception) -> str:
        """Which copy failed, and how, in words."""
        if isinstance(error, multiprocessing.TimeoutError):
            pipes = enumerate(self.vector.parent_pipes)
            late = [str(row) for row, pipe in pipes if not pipe.poll(0)]
            rows = f"copy {late[0]}" if len(late) == 1 else f"copies {', '.join(late)}"
            return f"{rows}: no answer to a {function} within {self.timeout:g} s (step_timeout)"
        for row, process in enumerate(self.vector.processes):
            process.join(0.1)  # it may still be ending
            code = process.exitcode
            if code is not None:
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else "ended"
                return f"the process of copy {row} {how} (exit code {code}) before a {function}"
        return f"{function} failed: {type(error).__name__}: {error}"

    def kill(self) -> None:
        for process in self.vector.processes:
            with contextlib.suppress(ValueError):  # it has ended, and is closed
                process.kill()

    def end(self) -> None:
        for pipe in self.vector.parent_pipes:
            with contextlib.suppress(OSError):  # its process has ended
                pipe.send(("close", None))
        deadline = time.monotonic() + (0.0 if self.has_failed else SECONDS_TO_CLOSE)
        for process in self.vector.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        self.kill()
        for pipe, process in zip(self.vector.parent_pipes, self.vector.processes, strict=True):
            pipe.close()
            process.join()
            process.close()
        self.vector.closed = True  # or it would end them again when it is collected


def _release(error: Exception) -> None:
    """Lets go of what failed to reach a process.

    The frames of a pipe hold it in a buffer, and where such a buffer is collected in a cycle,
    Python 3.13 prints an error.
    """
    traceback.clear_frames(error.__traceback__)
