"""Observations as callers give them, checked by their space before a policy sees them."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxdrl.core.spaces import Box, Dict, Discrete, MultiDiscrete, ObservationSpace, Space
from jaxdrl.errors import ConfigError


class Rows(NamedTuple):
    """Observations with a leading axis.

    Attributes:
      obs: `[N, ...]` in the dtypes that the policy takes; a dictionary for a space of that kind.
      num: `N`.
      is_single: whether one observation was given, without that axis.
    """

    obs: Any
    num: int
    is_single: bool


def to_rows(space: ObservationSpace, dtypes: Any, given: Any) -> Rows:
    """One observation, or a batch of them, as rows.

    Integers are taken for floats, as everywhere in Python, but not the other way round. A float
    outside the bounds of its space is accepted, as environments leave them too.

    Args:
      space: of one observation.
      dtypes: of each array, as a tree like the observation.
      given: arrays or nested lists.

    Raises:
      ConfigError: naming the entry, what was given and what works.
    """
    found = _entry("obs", space, dtypes, given)
    kinds = {(len(rows), is_single) for _, rows, is_single in found}
    if len(kinds) > 1:
        shapes = ", ".join(f"{name}{list(np.shape(rows))}" for name, rows, _ in found)
        raise ConfigError(
            f"obs: its entries have different numbers of rows ({shapes}); give one observation, or "
            "batches of the same size"
        )
    (num, is_single) = kinds.pop()
    return Rows(_tree(space, iter(found)), num, is_single)


def _tree(space: ObservationSpace, found: Any) -> Any:
    """The arrays, in the order of `_entry`, as a tree like the space."""
    if isinstance(space, Dict):
        return {name: _tree(part, found) for name, part in space.items}
    return next(found)[1]


def _entry(
    name: str, space: ObservationSpace, dtypes: Any, given: Any
) -> list[tuple[str, np.ndarray, bool]]:
    """`(name, rows, whether one was given)` of each array."""
    if not isinstance(space, Dict):
        return [(name, *_array(name, space, np.dtype(dtypes), given))]
    keys = [key for key, _ in space.items]
    if not isinstance(given, Mapping):
        raise ConfigError(f"{name} = {_short(given)}: must be a dictionary with {_list(keys)}")
    if missing := [key for key in keys if key not in given]:
        raise ConfigError(f"{name}: lacks {_list(missing)}; it must have {_list(keys)}")
    if unknown := [key for key in given if key not in keys]:
        words = _list([_short(key) for key in unknown[:3]])
        raise ConfigError(f"{name}: has {words}, which is unknown; it must have {_list(keys)}")
    return [
        entry
        for key, part in space.items
        for entry in _entry(f"{name}[{key!r}]", part, dtypes[key], given[key])
    ]


def _array(name: str, space: Space, dtype: np.dtype, given: Any) -> tuple[np.ndarray, bool]:
    works = f"must be {_words(space)}, or a batch [N{_inner(space.shape)}] of them"
    try:
        array = np.asarray(given)
    except (ValueError, TypeError, OverflowError, RecursionError):  # ragged, or nested too deep
        array = np.empty(0, object)
    fitting = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}[np.dtype(space.dtype).kind]
    if array.dtype.kind not in fitting:
        raise ConfigError(f"{name} = {_short(given)}: {works}")
    is_single = array.shape == space.shape
    if (not is_single and array.shape[1:] != space.shape) or array.ndim < len(space.shape):
        raise ConfigError(f"{name}: has the shape {list(array.shape)}; it {works}")
    fitted = _fitted(name, space, dtype, array, works)
    return (fitted[None] if is_single else fitted), is_single


def _fitted(name: str, space: Space, dtype: np.dtype, given: np.ndarray, works: str) -> np.ndarray:
    """One observation or several in `dtype`; refused where one of them has no place in it."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = given.astype(dtype)
    if dtype.kind == "f":
        is_wrong, why = ~np.isfinite(found), "is not finite"
    elif np.dtype(space.dtype).kind == "f":  # observations that are not of their space's type
        is_wrong, why = found != given, f"has no place in {dtype}, in which they are integers"
    else:
        low, high = _bounds(space)
        is_wrong, why = (given < low) | (given > high), "is out of range"
    if is_wrong.any():
        at = tuple(int(i) for i in np.argwhere(is_wrong)[0])
        where = f"{name}{list(at)}" if at else name
        raise ConfigError(f"{where} = {given[at].item()!r}: {why}; {name} {works}")
    return found


def _bounds(space: Space) -> tuple[Any, Any]:
    """The least and the greatest integer of each element."""
    if isinstance(space, Discrete):
        return 0, space.n - 1
    if isinstance(space, MultiDiscrete):
        return 0, np.array(space.nvec) - 1
    return space.low, space.high


def _words(space: Space) -> str:
    """What one observation is."""
    if isinstance(space, Discrete):
        return f"an integer from 0 to {space.n - 1}"
    kind = {"f": "finite numbers", "b": "booleans"}.get(space.dtype.kind, "integers")
    limits = ""
    if isinstance(space, MultiDiscrete):
        limits = f" from 0 to {list(n - 1 for n in space.nvec)}"
    elif isinstance(space, Box) and space.dtype.kind in "iu":
        limits = f" from {space.low.min()} to {space.high.max()}"
    return f"{kind}{limits} of shape {list(space.shape)}"


def _inner(shape: tuple[int, ...]) -> str:
    return "".join(f", {n}" for n in shape)


def _list(names: list[str]) -> str:
    return ", ".join(names)


_BEGINNING = reprlib.Repr()
_BEGINNING.maxlist = _BEGINNING.maxtuple = _BEGINNING.maxdict = 30
_BEGINNING.maxstring = _BEGINNING.maxlong = _BEGINNING.maxother = 100
"""Writes the beginning of a value, since the whole of one that a client sends may be long."""


def _short(value: Any) -> str:
    """The beginning of a value on one line, whatever it is."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    try:
        words = " ".join(_BEGINNING.repr(value)[:1000].split())
    except Exception:  # of an object of somebody else
        words = f"a {type(value).__name__}"
    return words if len(words) <= 60 else f"{words[:57]}..."
