"""The evaluations of checkpoints, by which some of them are kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxdrl.errors import ConfigError
from jaxdrl.runs import checkpoint

Check = Callable[[Path, dict[str, Any]], None]
"""Refuses a checkpoint by its path and manifest, such as one of another run."""


def accept(path: Path, manifest: dict[str, Any]) -> None:
    """Accepts every checkpoint."""


def read_scores(directory: Path, check: Check = accept) -> dict[int, float | None]:
    """The mean return of every valid checkpoint, None where it was not evaluated.

    Those that `check` refuses are left out.
    """
    scores: dict[int, float | None] = {}
    for update in checkpoint.updates_in(directory):
        try:
            path = checkpoint.path_of(directory, update)
            manifest = checkpoint.read_manifest(path)
            check(path, manifest)
        except ConfigError:
            continue
        scores[update] = score_of(manifest)
    return scores


def score_of(manifest: dict[str, Any]) -> float | None:
    """The mean return in a manifest, None if it was not evaluated or is not finite."""
    if manifest["evaluation"] is None:
        return None
    score = manifest["evaluation"]["mean_return"]
    return score if score is not None and math.isfinite(score) else None


def expendable(scores: dict[int, float | None], keep: int) -> list[int]:
    """The updates that are neither among the last `keep` nor the best by evaluation."""
    best = best_of(scores)
    return [update for update in sorted(scores)[:-keep] if update != best]


def best_of(scores: dict[int, float | None]) -> int | None:
    """The update with the best evaluation, the first of equals; None without evaluations."""
    scored = {update: score for update, score in sorted(scores.items()) if score is not None}
    return max(scored, key=lambda update: scored[update]) if scored else None
