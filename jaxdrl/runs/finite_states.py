"""States of checkpoints that can be gone on with: others are refused, with the last that can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxdrl.core.finiteness import find_nonfinite
from jaxdrl.errors import ConfigError
from jaxdrl.runs import checkpoint


def load(path: Path, abstract: Any, what: str, member: int | None = None) -> Any:
    """`checkpoint.load` of a state, or of parts of its learner, that holds no NaN or infinity.

    Its keys may be of any kind.

    Args:
      path: of a verified checkpoint.
      abstract: as in `checkpoint.load`.
      what: likewise.
      member: of a population, the one that is wanted; None: any.

    Raises:
      ConfigError: as `checkpoint.load`; and where the learner is not finite, naming the array, the
        checkpoint, and the last one beside it whose learner is.
    """
    abstract = checkpoint.with_stored_keys(path, abstract)
    state = checkpoint.load(path, abstract, what)
    name = _nonfinite(state, member)
    if name is None:
        return state
    whose = "" if member is None else f" of member {member}"
    beside = "no other checkpoint beside it is finite"
    for update in reversed(checkpoint.updates_in(path.parent)):
        other = checkpoint.path_of(path.parent, update)
        if other != path and _is_finite(other, abstract, what, member):
            beside = f"the last one beside it that is finite is that of update {update}"
            break
    raise ConfigError(
        f"{path}: the learner{whose} in it is not finite: {name} holds NaN or infinity; {beside}"
    )


def _nonfinite(state: Any, member: int | None) -> str | None:
    """The first array of a learner with a number that is not finite; None where there is none."""
    names, is_bad = find_nonfinite(checkpoint.to_host(state))
    return names[0] if np.all(is_bad if member is None else is_bad[member]) else None


def _is_finite(path: Path, abstract: Any, what: str, member: int | None) -> bool:
    try:
        checkpoint.read_manifest(path)
        return _nonfinite(checkpoint.load(path, abstract, what), member) is None
    except ConfigError:
        return False
