"""From the spaces of Gymnasium to those of jaxdrl, and how values go from one to the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium.spaces as theirs
import jax
import numpy as np

from jaxdrl.core import spaces
from jaxdrl.envs.host.protocol import shapes_of
from jaxdrl.errors import ConfigError


class Observations(NamedTuple):
    """How observations of a Gymnasium space become those of `space`.

    Attributes:
      space: ours.
      starts: what is subtracted from a value, since ours begin at 0, None for nothing; a dictionary
        where the space is one.
    """

    space: spaces.ObservationSpace
    starts: Any


class Actions(NamedTuple):
    """How actions of `space` become those of a Gymnasium space.

    Attributes:
      space: ours.
      convert: `(action [N, ...]) -> [N, ...]`, in their types, in memory of its own.
    """

    space: spaces.Space
    convert: Callable[[np.ndarray], np.ndarray]


def observations_of(space: Any, what: str) -> Observations:
    """How observations of a Gymnasium space are converted.

    float64 becomes float32, and 64-bit integers become 32-bit ones where JAX has no other.

    Args:
      space: theirs.
      what: the environment and the part of it, for messages.

    Raises:
      ConfigError: for a space that has no counterpart, with the nearest that works.
    """
    if isinstance(space, theirs.Dict):
        if not space.spaces:
            raise ConfigError(f"{what} is a Dict without entries; give it at least one")
        parts = {
            _name(key, what): observations_of(inner, f"{what}[{key!r}]")
            for key, inner in space.spaces.items()
        }
        inner_spaces = {key: part.space for key, part in parts.items()}
        return Observations(
            spaces.Dict(inner_spaces), {key: part.starts for key, part in parts.items()}
        )
    if isinstance(space, theirs.Discrete):
        return Observations(spaces.Discrete(int(space.n)), int(space.start) or None)
    if isinstance(space, theirs.MultiDiscrete):
        return Observations(_multi_discrete(space, what), _starts(space))
    if isinstance(space, theirs.MultiBinary):
        return Observations(spaces.Box(0, 1, space.shape, "int8"), None)
    if isinstance(space, theirs.Box):
        return Observations(_box(space, what), None)
    raise _no_counterpart(space, what, "gymnasium.wrappers.FlattenObservation makes it a Box")


def actions_of(space: Any, what: str) -> Actions:
    """How actions are converted to those of a Gymnasium space.

    Args:
      space: theirs.
      what: the environment and the part of it, for messages.

    Raises:
      ConfigError: for a space that has no counterpart, with the nearest that works.
    """
    if isinstance(space, theirs.Discrete):
        return Actions(spaces.Discrete(int(space.n)), _shifted(space.start, space.dtype))
    if isinstance(space, theirs.MultiDiscrete):
        return Actions(_multi_discrete(space, what), _shifted(space.start, space.dtype))
    if isinstance(space, theirs.MultiBinary):
        if len(space.shape) != 1:
            raise ConfigError(f"{what} is a {space}; only one with a single axis is supported")
        return Actions(spaces.MultiDiscrete((2,) * space.shape[0]), _shifted(0, space.dtype))
    if isinstance(space, theirs.Box):
        low, high, dtype = space.low, space.high, space.dtype
        # Numbers of single precision may lie just outside of a bound in double precision.
        return Actions(
            _box(space, what), lambda action: np.clip(action.astype(dtype), low, high, dtype=dtype)
        )
    raise _no_counterpart(space, what, "gymnasium.wrappers.TransformAction converts actions")


def empty_batch(space: spaces.ObservationSpace, num_envs: int) -> Any:
    """Zeros for the observations of `num_envs` copies."""
    return jax.tree.map(lambda x: np.zeros((num_envs, *x.shape), x.dtype), shapes_of(space))


def put_row(batch: Any, row: int, obs: Any, starts: Any) -> None:
    """Writes the observation of one copy into its row of a batch."""
    if isinstance(batch, dict):
        for name, part in batch.items():
            put_row(part, row, obs[name], starts[name])
    elif starts is None:
        batch[row] = obs
    else:
        batch[row] = np.subtract(obs, starts)


def cast_batch(space: spaces.ObservationSpace, obs: Any, starts: Any) -> Any:
    """The observations of many copies at once, in our types; what is of our type is not copied."""
    if isinstance(space, spaces.Dict):
        return {key: cast_batch(inner, obs[key], starts[key]) for key, inner in space.items}
    dtype = jax.dtypes.canonicalize_dtype(space.dtype)
    return np.asarray(obs if starts is None else obs - starts).astype(dtype, copy=False)


def require_fit(obs: Any, space: spaces.ObservationSpace, what: str) -> None:
    """Refuses an observation that has not the shape of its space, or not the kind of its type.

    NumPy would broadcast it, or cut off its fractions, when it is written into a batch.

    Raises:
      ConfigError: naming both.
    """
    if isinstance(space, spaces.Dict):
        names = [name for name, _ in space.items]
        if not isinstance(obs, dict) or sorted(obs) != names:
            given = sorted(obs) if isinstance(obs, dict) else type(obs).__name__
            raise ConfigError(f"{what} is {given}, but its space is a Dict of {names}")
        for name, inner in space.items:
            require_fit(obs[name], inner, f"{what}[{name!r}]")
        return
    found = np.asarray(obs)
    if found.shape != space.shape or not _is_safe(found.dtype, space.dtype):
        raise ConfigError(
            f"{what} is {found.dtype}{list(found.shape)}, but its space says "
            f"{space.dtype}{list(space.shape)}; correct the space"
        )


def _is_safe(given: Any, kept: Any) -> bool:
    return {"b": 0, "u": 1, "i": 1, "f": 2}.get(given.kind, 3) <= {"b": 0, "f": 2}.get(kept.kind, 1)


def _box(space: Any, what: str) -> spaces.Box:
    if space.dtype.kind == "f":
        dtype = np.dtype(np.float32) if space.dtype.itemsize > 4 else space.dtype
        with np.errstate(over="ignore"):
            return spaces.Box(space.low.astype(dtype), space.high.astype(dtype), space.shape, dtype)
    dtype = jax.dtypes.canonicalize_dtype(space.dtype)
    if dtype != space.dtype:
        limits = np.iinfo(dtype)
        if (space.low < limits.min).any() or (space.high > limits.max).any():
            raise ConfigError(
                f"{what} has bounds of {space.dtype} that do not fit {dtype}, the largest type "
                "that JAX has; give it bounds that do, or make it float32 with "
                "gymnasium.wrappers.TransformObservation"
            )
    return spaces.Box(space.low, space.high, space.shape, dtype)


def _multi_discrete(space: Any, what: str) -> spaces.MultiDiscrete:
    if len(space.shape) != 1:
        raise ConfigError(
            f"{what} is a MultiDiscrete with {len(space.shape)} axes; only one with a single axis "
            "is supported"
        )
    return spaces.MultiDiscrete(tuple(map(int, space.nvec)))


def _starts(space: Any) -> Any:
    return space.start if np.any(space.start) else None


def _shifted(start: Any, dtype: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda action: np.add(action, start, dtype=dtype)


def _name(key: Any, what: str) -> str:
    if not isinstance(key, str):
        raise ConfigError(f"{what} has an entry {key!r}; names of entries must be strings")
    return key


def _no_counterpart(space: Any, what: str, nearest: str) -> ConfigError:
    kinds: Sequence[str] = ("Discrete", "MultiDiscrete", "MultiBinary", "Box")
    return ConfigError(
        f"{what} is a {type(space).__name__}, which has no counterpart; {', '.join(kinds)} and, "
        f"for observations, a Dict of them are supported; {nearest}"
    )
