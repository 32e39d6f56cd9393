"""Words for the legend and the axes of learning curves."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxdrl.io.terminal import printable

LONGEST = 40
"""Letters of settings in a label; where they need more, the names of the runs stand for them."""

METRICS = {
    "episode_return": "return of training episodes",
    "episode_length": "length of training episodes (steps)",
    "num_episodes": "training episodes that ended",
    "steps_per_second": "environment steps per second",
    "memory_bytes": "memory (bytes)",
    "evaluation_mean_return": "mean return of the evaluation",
    "entropy": "entropy of the policy (nats)",
}
"""What is measured, where the name of a metric leaves it open or lacks a unit."""


def metric_in_words(metric: str) -> str:
    """A metric with its unit.

    >>> metric_in_words("episode_return"), metric_in_words("seconds_transfer")
    ('return of training episodes', 'transfer (seconds)')
    """
    if metric.startswith("seconds_"):
        return f"{metric.removeprefix('seconds_').replace('_', ' ')} (seconds)"
    return METRICS.get(metric, metric.replace("_", " "))


def run_names(groups: Sequence[Sequence[Path]]) -> list[str]:
    """A name for each group of runs: how their paths go on from the directory common to all.

    >>> run_names([[Path("runs/a")], [Path("runs/b-0"), Path("runs/b-1")]])
    ['a', 'b']
    """
    paths = [[Path(os.path.abspath(path)) for path in group] for group in groups]
    above = os.path.commonpath([path.parent for group in paths for path in group])
    names = [[os.path.relpath(path, above) for path in group] for group in paths]
    common = [_beginning(group) for group in names]
    return common if len(set(common)) == len(common) else [group[0] for group in names]


def _beginning(names: Sequence[str]) -> str:
    """What names that end in different numbers have in common; the first where it is nothing."""
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    shared = "".join(letters[0] for letters in same)
    return names[0] if len(names) == 1 else shared.rstrip("-_./0123456789") or names[0]


def label_groups(settings: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """For each group its environment, if there are several, and settings that differ within it.

    Where a setting that differs is no number or word, or where there are too many, all groups of
    the environment have the names of their runs instead.

    Args:
      settings: of each group.
      names: of the runs of each group.
    """
    envs = [own["env"] for own in settings]
    return [
        _label(own, name, settings, show_env=len(set(envs)) > 1)
        for own, name in zip(settings, names, strict=True)
    ]


def _label(
    own: dict[str, Any], name: str, settings: Sequence[dict[str, Any]], *, show_env: bool
) -> str:
    rivals = [other for other in settings if other["env"] == own["env"]]
    differing = [key for key in own if len({str(other.get(key)) for other in rivals}) > 1]
    texts = [_in_words(differing, other) for other in rivals]
    words = _in_words(differing, own) or ""
    if any(text is None or len(text) > LONGEST for text in texts):
        words = printable(name)
    return ", ".join([printable(own["env"])] * (show_env or not words) + [words] * bool(words))


def _in_words(names: Sequence[str], settings: dict[str, Any]) -> str | None:
    """Settings such as `gamma=0.99, num_envs=1,024`; None if one cannot be written like this."""
    values = {name: _value(settings.get(name)) for name in names}
    if None in values.values():
        return None
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _value(value: Any) -> str | None:
    """A number, a word or a few numbers as text; None for anything else."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, tuple | list) and all(isinstance(x, int | float) for x in value):
        return "x".join(f"{x:g}" for x in value) or "none"
    return None
