"""The lines of `metrics.jsonl`, and digests of states."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxdrl.distributed.spread import pieces
from jaxdrl.evaluation.episodes import Evaluation, best_of
from jaxdrl.io.json_files import finite
from jaxdrl.io.log_files import LogFile
from jaxdrl.runs.stopwatch import Stopwatch

EPISODE_SUMS = ("episode_return_sum", "episode_length_sum", "num_episodes")
OF_AGENT = re.compile(r"agent_\d+_return_sum")
OF_POOL = ("pool_return_sum", "num_pool_episodes")
"""Sums over the episodes against past selves, which an algorithm with a pool of them has."""


class MetricsLog:
    """Turns the metrics of updates into lines of `metrics.jsonl`, one every `log_every` updates.

    A line is written when the next one begins, so that an evaluation can still be added to it.
    Episode figures are means over all episodes that ended since the previous line, null where none
    did. Lines that cannot be written, as on a full disk, are kept and written with a later one.

    Args:
      path: of the file; None where another process writes it.
      stopwatch: which measures the speed.
      env_steps_per_update: of one agent.
      log_every: updates between lines.
      num_members: number of agents, whose steps all count for the speed.
      warn: takes warnings.
      on_line: takes each line once nothing can be added to it.
      memory: gives the peak use of memory in bytes.
      beside: other logs of the run, to which a checkpoint is bound as well.
    """

    def __init__(
        self,
        path: Path | None,
        stopwatch: Stopwatch,
        *,
        env_steps_per_update: int,
        log_every: int,
        num_members: int = 1,
        warn: Callable[[str], None] = print,
        on_line: Callable[[dict[str, Any]], Any] = lambda record: None,
        memory: Callable[[], int] | None = None,
        beside: Sequence[LogFile] = (),
    ) -> None:
        self.path = path
        self.file = None if path is None else LogFile(path, warn)
        self.logs = [*([] if self.file is None else [self.file]), *beside]
        self.on_line, self.memory = on_line, memory
        self.env_steps_per_update = env_steps_per_update
        self.log_every, self.num_members = log_every, num_members
        self.record: dict[str, Any] | None = None
        self.latest: dict[str, Any] | None = None
        self.sums = dict.fromkeys(EPISODE_SUMS, 0.0)
        self.stopwatch, self.updates_timed = stopwatch, 0
        self.last_line = self.last_add = stopwatch.seconds

    def add(self, update: int, metrics: dict[str, Any]) -> None:
        """Takes the metrics of an update; a hook of `jaxdrl.train`."""
        self.update = update
        sums, self.metrics = split(metrics)
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.updates_timed += 1
        self.last_add = self.stopwatch.seconds
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
        timed_steps = self.num_members * self.env_steps_per_update * self.updates_timed
        self.record = self.latest = {
            "update": self.update,
            "env_steps": self.env_steps_per_update * self.update,
            **episode_figures(self.sums),
            **self.metrics,
            "steps_per_second": timed_steps / (self.last_add - self.last_line),
        }
        if self.memory is not None:
            self.record["memory_bytes"] = self.memory()
        self.sums = dict.fromkeys(EPISODE_SUMS, 0.0)
        self.last_line, self.updates_timed = self.last_add, 0

    def flush(self, *, is_final: bool = True) -> None:
        """Writes the line that is waiting; it `is_final` unless a resumed run may add to it."""
        record, self.record = finite(self.record), None
        if self.file is None:
            return
        # Without a line, what could not be written earlier is tried again.
        self.file.append(b"" if record is None else (json.dumps(record) + "\n").encode())
        if record is not None and is_final:
            self.on_line(record)

    def finish(self) -> None:
        """Writes what could not be written earlier, of all logs, or warns of what is lost."""
        for log in self.logs:
            log.finish()

    def snapshot(self) -> dict[str, Any]:
        """The state of the log, as JSON for a checkpoint; `resume` continues from it."""
        return {
            "record": finite(self.record),
            "sums": dict(self.sums),
            "files": {log.path.name: log.snapshot() for log in self.logs},
        }

    def resume(self, snapshot: dict[str, Any]) -> None:
        """Takes the files and the sums back to a snapshot.

        Lines of later updates are dropped, and an incomplete one too: they will be written again.

        Raises:
          ConfigError: if the lines before are not those that were written.
        """
        numbers = {n: math.nan if x is None else x for n, x in snapshot["sums"].items()}
        self.record, self.sums = snapshot["record"], numbers
        if self.record is not None:
            self.latest = self.record
        for log in self.logs:
            log.restore(snapshot["files"][log.path.name])


def split(metrics: dict[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """`(sums over episodes, the other metrics)` of an update, as plain numbers and lists."""
    plain = {name: value.tolist() for name, value in metrics.items()}
    others = [name for name in plain if OF_AGENT.fullmatch(name) or name in OF_POOL]
    return {name: plain.pop(name) for name in (*EPISODE_SUMS, *others)}, plain


def episode_figures(sums: dict[str, float]) -> dict[str, Any]:
    """Means over the episodes that ended, None where none did, and their number."""
    count = sums["num_episodes"]
    of_agents = {
        name.removesuffix("_sum"): total / count if count else None
        for name, total in sums.items()
        if OF_AGENT.fullmatch(name)
    }
    return {
        "episode_return": sums["episode_return_sum"] / count if count else None,
        "episode_length": sums["episode_length_sum"] / count if count else None,
        "num_episodes": int(count),
        **of_agents,
        **_pool_figures(sums),
    }


def _pool_figures(sums: dict[str, float]) -> dict[str, Any]:
    """The same of the episodes against past selves, of the learner's return in them."""
    if "num_pool_episodes" not in sums:
        return {}
    count = sums["num_pool_episodes"]
    mean = sums["pool_return_sum"] / count if count else None
    return {"pool_return": mean, "num_pool_episodes": int(count)}


def evaluation_figures(evaluation: Evaluation) -> dict[str, Any]:
    """The figures of an evaluation as the files have them."""
    names = ("num_episodes", "mean_return", "ci95_low", "ci95_high", "mean_length", "num_cut")
    found = {name: getattr(evaluation, name) for name in names}
    if evaluation.members:
        returns = [member.mean_return for member in evaluation.members]
        found |= {"best_member": best_of(returns), "member_returns": returns}
        found["member_ci95"] = [[one.ci95_low, one.ci95_high] for one in evaluation.members]
    return found


def sha256(tree: Any) -> str:
    """Hex digest over the bytes of the arrays of a pytree in tree order, keys included.

    Where the tree is spread over processes, all of them must call this, as in `fetch`.
    """
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        for piece in pieces(leaf):
            digest.update(piece.tobytes())
    return digest.hexdigest()
