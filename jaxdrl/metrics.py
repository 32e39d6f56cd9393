"""What a run writes down: `config.json`, `metrics.jsonl` and `result.json`."""

from __future__ import annotations

import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.config import ConfigError

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
RESULT_FILE = "result.json"

EPISODE_SUMS = ("episode_return_sum", "episode_length_sum", "num_episodes")


def require_free(run_dir: Path) -> None:
    """Raises `ConfigError` if `run_dir` holds a run already."""
    for name in (CONFIG_FILE, METRICS_FILE, RESULT_FILE):
        try:
            is_there = (run_dir / name).exists()
        except OSError as error:
            raise ConfigError(
                f"run_dir = {str(run_dir)!r}: cannot be read ({error.strerror}); "
                "name a directory that can"
            ) from error
        if is_there:
            raise ConfigError(
                f"run_dir = {str(run_dir)!r}: already holds a run ({name}), which is not "
                "overwritten; name another directory, or remove this one"
            )


def make_run_dir(run_dir: Path) -> None:
    """Creates `run_dir`; raises `ConfigError` if it cannot be written."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        probe = run_dir / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"run_dir = {str(run_dir)!r}: cannot be written ({error.strerror}); "
            "name a directory that can"
        ) from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes `content` as indented JSON; a number that is not finite becomes null."""
    path.write_text(json.dumps(_finite(content), indent=2) + "\n")


class MetricsLog:
    """Turns the metrics of updates into lines of `metrics.jsonl`, one each `log_every` updates.

    A line is written when the next one begins, so that an evaluation can still join it. Episode
    figures are means over all episodes that ended since the line before, null where none did.
    """

    def __init__(self, path: Path, *, env_steps_per_update: int, log_every: int) -> None:
        self.path = path
        self.env_steps_per_update = env_steps_per_update
        self.log_every = log_every
        self.record: dict[str, Any] | None = None
        self.latest: dict[str, Any] | None = None
        self.sums = dict.fromkeys(EPISODE_SUMS, 0.0)
        self.restart_clock()

    def restart_clock(self) -> None:
        """Measures speed from here on, so that what came before does not count."""
        self.clock = self.last_add = time.perf_counter()
        self.updates_timed = 0

    def add(self, update: int, metrics: dict[str, Any]) -> None:
        """Takes the metrics of an update; a hook of `jaxdrl.train`."""
        self.update = update
        self.metrics = {name: value.item() for name, value in metrics.items()}
        for name in EPISODE_SUMS:
            self.sums[name] += self.metrics.pop(name)
        self.updates_timed += 1
        self.last_add = time.perf_counter()
        if update % self.log_every == 0:
            self._begin_line()

    def annotate(self, figures: dict[str, Any]) -> None:
        """Adds figures to the line of the last update, which gets one if it has none yet."""
        if self.updates_timed:
            self._begin_line()
        if self.record is not None:
            self.record |= figures

    def _begin_line(self) -> None:
        self.flush()
        timed_steps = self.env_steps_per_update * self.updates_timed
        count = self.sums["num_episodes"]
        self.record = self.latest = {
            "update": self.update,
            "env_steps": self.env_steps_per_update * self.update,
            "episode_return": self.sums["episode_return_sum"] / count if count else None,
            "episode_length": self.sums["episode_length_sum"] / count if count else None,
            "num_episodes": int(count),
            **self.metrics,
            "steps_per_second": timed_steps / (self.last_add - self.clock),
        }
        self.sums = dict.fromkeys(EPISODE_SUMS, 0.0)
        self.clock, self.updates_timed = self.last_add, 0

    def flush(self) -> None:
        """Writes the line that is waiting."""
        if self.record is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(_finite(self.record)) + "\n")
        self.record = None


def sha256(tree: Any) -> str:
    """Hex digest over the bytes of the arrays of a pytree in tree order, keys included."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic | jax.Array):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
