"""Loads states that are finite; others are refused with the last checkpoint that is finite."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxdrl.core.finiteness import find_nonfinite
from jaxdrl.errors import ConfigError
from jaxdrl.runs import checkpoint


def load(
    path: Path, abstract: Any, what: str, member: int | None = None, complete: tuple[str, ...] = ()
) -> Any:
    """`checkpoint.load` of a state, or of parts of its learner, without NaN or infinity.

    Its random keys may be of any kind.

    Args:
      path: of a verified checkpoint.
      abstract: as in `checkpoint.load`.
      what: likewise.
      member: for a population, the one that must be finite; None: any one.
      complete: as in `checkpoint.load`.

    Raises:
      ConfigError: as `checkpoint.load`; and if the learner is not finite, naming the array, the
        checkpoint, and the last checkpoint beside it that is finite.
    """
    abstract = checkpoint.with_stored_keys(path, abstract)
    read = partial(checkpoint.load, abstract=abstract, what=what, complete=complete)
    state = read(path)
    name = _nonfinite(state, member)
    if name is None:
        return state
    whose = "" if member is None else f" of member {member}"
    beside = "no other checkpoint beside it is finite"
    for update in reversed(checkpoint.updates_in(path.parent)):
        other = checkpoint.path_of(path.parent, update)
        if other != path and _is_finite(other, read, member):
            beside = f"the last one beside it that is finite is that of update {update}"
            break
    raise ConfigError(
        f"{path}: the learner{whose} in it is not finite: {name} holds NaN or infinity; {beside}"
    )


def _nonfinite(state: Any, member: int | None) -> str | None:
    """The first array with a number that is not finite; None where all are finite."""
    names, is_bad = find_nonfinite(checkpoint.to_host(state))
    return names[0] if np.all(is_bad if member is None else is_bad[member]) else None


def _is_finite(path: Path, read: Callable[[Path], Any], member: int | None) -> bool:
    try:
        checkpoint.read_manifest(path)
        return _nonfinite(read(path), member) is None
    except ConfigError:
        return False
