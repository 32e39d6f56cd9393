"""The worker's end of the line to the benchmark: JSON lines out, the word `run` in.

A worker says once that it is ready, compiled and warm, and then answers every `run`. So several of
them are compiled at once, and only the one that is asked computes.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple, TextIO

import jax

PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "gymnax", "jaxdrl", "rejax", "distrax", "brax"),
    *("gymnasium", "envpool", "mujoco", "sbx-rl", "stable-baselines3", "torch"),
)


def open_channel() -> TextIO:
    """The standard output for answers alone: what libraries print goes to standard error."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return channel


def say(channel: TextIO, line: dict[str, Any]) -> None:
    """Sends one line."""
    print(json.dumps(line), file=channel, flush=True)


def wait_for_run() -> bool:
    """Whether another run is wanted; false at the end of the input."""
    return sys.stdin.readline().strip() == "run"


def facts(compile_seconds: float) -> dict[str, Any]:
    """What every worker says of itself when it is ready."""
    devices = jax.devices()
    return {
        "compile_seconds": compile_seconds,
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "num_devices": len(devices),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of those `PACKAGES` that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def memory() -> dict[str, Any]:
    """Bytes in use: live arrays, the peak of the process, and the device's own peak if it says."""
    stats = jax.devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "live_bytes": sum(array.nbytes for array in jax.live_arrays()),
        "peak_process_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "peak_device_bytes": stats.get("peak_bytes_in_use"),
    }


class Clocks(NamedTuple):
    """Time on the wall, and that of the processor in all threads of this process."""

    seconds: float
    cpu_seconds: float

    @classmethod
    def now(cls) -> "Clocks":
        """Both of them now."""
        return cls(time.perf_counter(), time.process_time())

    def passed(self) -> dict[str, float]:
        """What has passed since then, by name."""
        return {
            name: now - then for name, now, then in zip(self._fields, self.now(), self, strict=True)
        }


def serve(channel: TextIO, run: Callable[[], Any], env_steps: int, ready: dict[str, Any]) -> None:
    """Says `ready`, then times `run`, which does `env_steps` steps, as often as it is asked to."""
    say(channel, ready)
    while wait_for_run():
        started = Clocks.now()
        jax.block_until_ready(run())
        say(channel, {**started.passed(), "env_steps": env_steps, **memory()})
