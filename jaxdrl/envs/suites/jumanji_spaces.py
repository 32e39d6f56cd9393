"""Observations and actions of Jumanji's tasks as spaces, and how they are converted."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jumanji import specs

from jaxdrl.core import spaces
from jaxdrl.core.dtype_promotion import default_promotion

LEFT_OUT = {"num_mines", "score", "step_count", "trajectory"}
"""Parts of observations that neither the dynamics nor the rewards depend on.

Among them is the number of steps: it shows how near the limit is, which is not part of the task.
"""

LABELS = {
    "agents_locations",
    "blocks",
    "board",
    "colors",
    "cube",
    "current_node_index",
    "empty_tile_position",
    "grid",
    "machines_job_ids",
    "node_types",
    "ops_machine_ids",
    "position",
    "positions",
    "puzzle",
    "row",
    "col",
    "x",
    "y",
}
"""Integers that are labels, not quantities; they become one-hot."""

IMAGES = {"board", "grid", "puzzle"}
"""Parts with spatial structure, which keep the shape `[height, width, channels]`."""

MAX_TILE = 18
"""The largest exponent on a board of 2048 with a label of its own; larger ones share it."""


@contextlib.contextmanager
def inside() -> Iterator[None]:
    """The context that Jumanji's code runs in, because it does not work in JAX's strict modes."""
    with default_promotion(), warnings.catch_warnings():
        # BinPack writes floats into an array of integers.
        words = "scatter inputs have incompatible types"
        warnings.filterwarnings("ignore", words, category=FutureWarning)
        yield


def allowed(space: spaces.Space, obs: Any) -> jax.Array:
    """The mask in an observation; one that forbids everything, as on a full board, is ignored."""
    num_parts = len(space.nvec) if isinstance(space, spaces.MultiDiscrete) else 1
    parts = obs["action_mask"].reshape(num_parts, -1)
    return (parts | ~parts.any(axis=1, keepdims=True)).reshape(-1)


def action_of(spec: Any, mask_shape: tuple[int, ...] | None) -> tuple[spaces.Space, Callable]:
    """The action space, and the function from its elements to Jumanji's actions."""

    def cast(action: jax.Array) -> jax.Array:
        return action.astype(spec.dtype)

    if isinstance(spec, specs.DiscreteArray):
        return spaces.Discrete(spec.num_values), cast
    low, high = np.asarray(spec.minimum), np.asarray(spec.maximum)
    if spec.dtype.kind == "f":
        return spaces.Box(low, high, spec.shape, spec.dtype.name), cast
    nvec = tuple(int(n) for n in np.broadcast_to(high, spec.shape) + 1)
    if mask_shape == nvec:
        # One bool for each combination, which a policy with independent components cannot obey.
        return spaces.Discrete(int(np.prod(nvec))), lambda action: cast(
            jnp.stack(jnp.unravel_index(action, nvec))
        )
    if mask_shape is not None:  # [agents, choices]: MultiCVRP's bound is one choice too many
        nvec = (mask_shape[1],) * len(nvec)
    return spaces.MultiDiscrete(nvec), cast


def observation_of(spec: Any) -> tuple[spaces.Dict, Callable]:
    """The space of a nested observation, and the function from Jumanji's to a dictionary."""
    parts = {
        name: (observation_of if child._specs else partial(part_of, name))(child)
        for name, child in spec._specs.items()
        if name not in LEFT_OUT
    }

    def observe(obs: Any) -> dict[str, Any]:
        return {name: convert(getattr(obs, name)) for name, (_, convert) in parts.items()}

    return spaces.Dict({name: space for name, (space, _) in parts.items()}), observe


def part_of(name: str, spec: Any) -> tuple[spaces.Space, Callable]:
    """The space of one array, and the function that converts it."""
    low, high = _bounds(spec)
    if name in LABELS and spec.dtype.kind == "i":  # the grid of Snake has floats
        is_bounded = isinstance(spec, specs.BoundedArray)
        return _one_hot(name, spec.shape, low.min(), high.max() if is_bounded else MAX_TILE)
    shape = _observed_shape(name, spec.shape)
    low, high = (np.broadcast_to(x, spec.shape).reshape(shape) for x in (low, high))
    return spaces.Box(low, high, shape, spec.dtype.name), lambda x: jnp.asarray(x).reshape(shape)


def _one_hot(
    name: str, shape: tuple[int, ...], least: int, most: int
) -> tuple[spaces.Space, Callable]:
    labels = np.arange(least, most + 1, dtype=np.int32)
    observed = _observed_shape(name, (*shape, labels.size))

    def convert(x: jax.Array) -> jax.Array:
        return (jnp.minimum(x, most)[..., None] == labels).reshape(observed)

    return spaces.Box(False, True, observed, "bool"), convert


def _observed_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Flat for masks, and for three axes that are not an image but would be taken for one."""
    is_flat = name not in IMAGES and (len(shape) > 2 or name == "action_mask")
    return (math.prod(shape),) if is_flat else shape


def _bounds(spec: Any) -> tuple[np.ndarray, np.ndarray]:
    if spec.dtype.kind == "b":
        return np.asarray(False), np.asarray(True)
    if isinstance(spec, specs.BoundedArray):
        return np.asarray(spec.minimum), np.asarray(spec.maximum)
    if spec.dtype.kind == "f":
        return np.asarray(-np.inf), np.asarray(np.inf)
    return np.asarray(0), np.asarray(np.iinfo(spec.dtype).max)  # such as counts and positions
