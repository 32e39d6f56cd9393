"""The metrics of a run as `jaxdrl watch` shows them: columns, last values, and warnings."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxdrl.core.magnitude import UNUSABLE
from jaxdrl.io.line_reader import LineReader, Thinned
from jaxdrl.io.numerals import short
from jaxdrl.runs.checkpoint_binding import doubt_about
from jaxdrl.runs.run_dir import METRICS_FILE, read_line

SHOWN_FIRST = ("episode_return", "episode_length", "steps_per_second")
"""Columns of every run, which are shown before the metrics of its algorithm."""

OF_ACTORS = (
    *("staleness_mean", "staleness_max", "queue_depth", "actor_idle_share", "learner_idle_share"),
    *("num_restarts", "discarded_steps", "cut_episodes"),
)
"""Metrics of actors, besides the seconds of what they do; `watch_asynchronous` shows them."""

NOT_SHOWN = ("update", "env_steps", "num_episodes", "memory_bytes", "skipped_steps", *OF_ACTORS)
"""Columns that are shown elsewhere, as are evaluations and counts of faults."""

WINDOW = 10
"""How many of the last lines of the metrics warnings depend on."""

FAULTS = {
    "skipped_steps": "gradient steps were not finite",
    "nonfinite_values": f"numbers were {UNUSABLE}",
}
"""Metrics that count faults, and what they count."""


@dataclass(frozen=True)
class Limits:
    """Limits beyond which a metric causes a warning.

    Attributes:
      entropy: fraction of the first entropy below which a discrete policy has collapsed.
      approx_kl: median KL (nats) of the last updates above which updates are too large.
      explained_variance: median below which the values are worse than a constant.
    """

    entropy: float = 0.02
    approx_kl: float = 0.1
    explained_variance: float = -0.1


class History:
    """A summary of the metrics of a run, in memory that does not grow with their number.

    Attributes:
      reader: the reader of the lines.
      num_lines: number of lines.
      recent: the last lines.
      evaluation: the last line with an evaluation, None if there is none.
      shown: names of the columns that are shown.
      thinned: these columns.
      first: the first value of each metric, by name.
      last: the last value of each metric, by name.
      faults: sums of the metrics in `FAULTS`.
      doubt: how the lines differed from those that a checkpoint recorded, when first read.
    """

    def __init__(self, run_dir: Path) -> None:
        self.reader = LineReader(run_dir / METRICS_FILE, read_line)
        self.doubt = doubt_about(run_dir, METRICS_FILE)
        self.begin()

    def begin(self) -> None:
        """Forgets everything."""
        self.num_lines = 0
        self.shown: list[str] = []
        self.evaluation: dict[str, Any] | None = None
        self.recent: deque[dict[str, Any]] = deque(maxlen=WINDOW)
        self.thinned, self.faults = Thinned(), dict.fromkeys(FAULTS, 0.0)
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}

    def add(self, record: dict[str, Any]) -> None:
        """Adds a line."""
        self.shown = self.shown or shown_of(record)
        values = [record.get(name) for name in self.shown]
        there = {name: x for name, x in zip(self.shown, values, strict=True) if x is not None}
        self.first, self.last = there | self.first, self.last | there
        numbers = [math.nan if x is None else float(x) for x in values]
        self.thinned.add((), numbers, (1.0,) * len(numbers))
        for name in FAULTS:
            self.faults[name] += record.get(name) or 0
        if "evaluation_mean_return" in record:
            self.evaluation = record
        self.recent.append(record)
        self.num_lines += 1

    def update(self) -> None:
        """Reads new lines."""
        self.reader.read(self.begin, self.add)

    def columns(self) -> dict[str, np.ndarray]:
        """Each metric over the lines, or over means of a few, NaN where it has no value."""
        columns = enumerate(self.shown)
        return {name: self.thinned.values(i) for i, name in columns if name in self.last}

    def median(self, name: str) -> float | None:
        """The median of a metric over the recent lines; None if they have no value."""
        found = [record[name] for record in self.recent if record.get(name) is not None]
        return float(np.median(found)) if found else None


def shown_of(record: dict[str, Any]) -> list[str]:
    """The columns that are shown of a run with lines like `record`."""
    elsewhere = ("evaluation_", "nonfinite_", "states_without_action", "members/", "seconds_")
    of_algorithm = [
        name
        for name in record
        if name not in (*SHOWN_FIRST, *NOT_SHOWN) and not name.startswith(elsewhere)
    ]
    return [*SHOWN_FIRST, *of_algorithm]


def find_warnings(history: History) -> list[str]:
    """Warnings about the last lines, each with a likely remedy."""
    limits = Limits()
    found = [] if history.doubt is None else [history.doubt]
    if history.num_lines < WINDOW:
        return found
    entropy, kl = history.median("entropy"), history.median("approx_kl")
    explained = history.median("explained_variance")
    first = history.first.get("entropy", 0.0)
    if "temperature" in history.last:  # which keeps the entropy where it is to be
        entropy = None
    if entropy is not None and first > 0 and 0 <= entropy < limits.entropy * first:
        found.append(
            f"entropy has collapsed (from {short(first)} to {short(entropy)}): the policy no "
            "longer explores; raise entropy_coef"
        )
    if kl is not None and kl > limits.approx_kl:
        found.append(
            f"approx_kl is {short(kl)}: updates of the policy are too large; lower learning_rate, "
            "or set target_kl"
        )
    if explained is not None and explained < limits.explained_variance:
        remedy = "reward_scale" if "q_value" in history.last else "normalize_rewards"
        found.append(
            f"explained_variance is {short(explained)}: the values are worse than a constant; "
            f"{remedy} may help"
        )
    for name, words in FAULTS.items():
        if num := history.faults[name]:
            found.append(f"{num:,.0f} {words}; --debug-nans finds the operation")
    return found
