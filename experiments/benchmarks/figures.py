"""Medians and ratios of what was measured in turn."""

import statistics
from collections.abc import Sequence
from typing import Any


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """`spread` of ours / theirs, round by round: what disturbs a whole round cancels."""
    return spread([own / other for own, other in zip(ours, theirs, strict=True)])


def speeds(runs: Sequence[dict[str, Any]]) -> list[float]:
    """Environment steps per second of each run."""
    return [run["env_steps"] / run["seconds"] for run in runs]
