"""Tasks of Jumanji, such as `jumanji/Snake-v1`.

Jumanji reports its time limits as terminations, so they are replaced by limits of jaxdrl's own.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import jumanji
import numpy as np
from jumanji import registration, specs

from jaxdrl.core import spaces
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.envs.protocol import Environment, strong_types
from jaxdrl.envs.suites.registry import Suite, episode_limit, fit_params, require_task
from jaxdrl.envs.truncation import time_limit
from jaxdrl.errors import ConfigError

DOWNLOADS = {"Sokoban-v0": "jumanji.environments.routing.sokoban.generator.SimpleSolveGenerator()"}
"""Tasks that download their levels, and a generator that does not."""

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

DEADLINES = {"SearchAndRescue-v0"}
"""Tasks whose rewards shrink with every step, down to 0 at the limit, which is a termination."""

SIZED = {"MMST-v0"}
"""Tasks whose state has an array with one entry for each step."""

ENDLESS = 2**30
"""The value that Jumanji's own limit is set to, so that it is never reached."""

MAX_TILE = 18
"""The largest exponent on a board of 2048 with a label of its own; larger ones share it."""


def list_tasks() -> list[str]:
    """Every task except those that need a generator from the user (`DOWNLOADS`)."""
    return sorted(jumanji.registered_environments() - set(DOWNLOADS))


def make_jumanji(
    task: str, *, max_episode_steps: int | str | None = "default", **params: Any
) -> Environment:
    """A Jumanji environment whose episodes are truncated after `max_episode_steps`.

    Observations are dictionaries of its fields except `LEFT_OUT`. Rewards of several agents are
    summed. If the mask of one part of an action depends on another part, such as row and column,
    there is one Discrete action for each combination.

    Args:
      task: name of the task, such as Snake-v1.
      max_episode_steps: None for no limit; "default" for Jumanji's, if it has one.
      **params: arguments of its constructor, such as `num_rows` or `generator`.

    Raises:
      ConfigError: for an unknown task or parameter, with the nearest ones; and if levels would have
        to be downloaded, with a generator that needs no download.
    """
    require_task("jumanji", task, sorted(jumanji.registered_environments()))
    name = f"jumanji/{task}"
    if task in DOWNLOADS and params.get("generator") is None:
        raise ConfigError(
            f"env = {name!r}: would have to download its levels; make it in Python with a "
            f"generator: jaxdrl.make({name!r}, generator={DOWNLOADS[task]})"
        )
    if max_episode_steps is None and task in DEADLINES | SIZED:
        raise ConfigError(
            f"max_episode_steps = None: {name} needs a limit; leave it out to keep the task's own"
        )
    suite_env, viewed_env, limit = _construct(task, max_episode_steps, params)

    def draw(env_state: Any, params: Any) -> np.ndarray:
        del params
        from jaxdrl.envs.drawing.jumanji_boards import draw_task

        return draw_task(task, viewed_env, env_state)

    env = _adapt(name, suite_env)._replace(draw=draw)
    if task in DEADLINES:
        return env._replace(max_episode_steps=limit)
    return env if limit is None else time_limit(env, limit)


def _construct(task: str, max_episode_steps: Any, params: Mapping[str, Any]) -> tuple:
    """`(environment, function that makes it with its viewer, limit to set)`.

    The environment has no limit of its own, unless it is a deadline. The function makes it only
    once; its viewer draws states.
    """
    name, registered = f"jumanji/{task}", registration._REGISTRY[task]
    constructor = registration.load(registered.entry_point)
    signature = inspect.signature(constructor.__init__).parameters.values()
    defaults = {p.name: p.default for p in signature if p.default is not p.empty}
    defaults |= registered.kwargs
    del defaults["viewer"]
    own_limit = {"time_limit": defaults.pop("time_limit")} if "time_limit" in defaults else {}
    if "time_limit" in params:
        given = params["time_limit"]
        raise ConfigError(f"env_params.time_limit = {given!r}: use max_episode_steps instead")
    kwargs = fit_params(name, params, defaults)
    limit = episode_limit(max_episode_steps, own_limit.get("time_limit"))
    if limit is not None:
        own_limit = dict.fromkeys(own_limit, limit)  # some tasks have arrays of that size
    make_env = partial(constructor, **kwargs, **own_limit)
    with _inside():
        # Without its viewer, which opens files and changes how notebooks show films.
        suite_env = make_env(viewer=object())
    if max_episode_steps == "default":
        limit = getattr(suite_env, "time_limit", None)  # for some tasks it depends on their size
    if own_limit and task not in DEADLINES:
        suite_env.time_limit = ENDLESS
    return suite_env, cache(make_env), limit


@contextlib.contextmanager
def _inside() -> Iterator[None]:
    """The context that Jumanji's code runs in, because it does not work in JAX's strict modes."""
    with default_promotion(), warnings.catch_warnings():
        # BinPack writes floats into an array of integers.
        words = "scatter inputs have incompatible types"
        warnings.filterwarnings("ignore", words, category=FutureWarning)
        yield


def _adapt(name: str, suite_env: Any) -> Environment:
    """Adapts Jumanji's environment to the protocol, without a limit."""
    with _inside():
        observation_spec, action_spec = suite_env.observation_spec, suite_env.action_spec
    observation_space, observe = _observation(observation_spec)
    mask_spec = observation_spec._specs.get("action_mask")
    action_space, to_suite = _action(action_spec, mask_spec and mask_spec.shape)

    def reset(key: jax.Array, params: Any) -> tuple[Any, Any]:
        del params
        with _inside():
            # Untyped, because some states keep a used key, which the key-reuse checker refuses.
            state, timestep = suite_env.reset(jax.random.key_data(key))
            return strong_types((observe(timestep.observation), state))

    def step(key: jax.Array, env_state: Any, action: Any, params: Any) -> tuple:
        del key, params
        with _inside():
            state, timestep = suite_env.step(env_state, to_suite(action))
            reward = jnp.sum(timestep.reward).astype(jnp.float32)  # over the agents
            terminated = timestep.last() & (jnp.max(timestep.discount) == 0)
            truncated = timestep.last() & ~terminated
            obs, state = strong_types((observe(timestep.observation), state))
        return obs, state, reward, terminated, truncated, {}

    return Environment(
        name=name,
        reset=reset,
        step=step,
        observation_space=observation_space,
        action_space=action_space,
        action_mask=None if mask_spec is None else partial(_allowed, action_space),
    )


def _allowed(space: spaces.Space, obs: Any) -> jax.Array:
    """The mask in an observation; one that forbids everything, as on a full board, is ignored."""
    num_parts = len(space.nvec) if isinstance(space, spaces.MultiDiscrete) else 1
    parts = obs["action_mask"].reshape(num_parts, -1)
    return (parts | ~parts.any(axis=1, keepdims=True)).reshape(-1)


def _action(spec: Any, mask_shape: tuple[int, ...] | None) -> tuple[spaces.Space, Callable]:
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


def _observation(spec: Any) -> tuple[spaces.Dict, Callable]:
    """The space of a nested observation, and the function from Jumanji's to a dictionary."""
    parts = {
        name: (_observation if child._specs else partial(_part, name))(child)
        for name, child in spec._specs.items()
        if name not in LEFT_OUT
    }

    def observe(obs: Any) -> dict[str, Any]:
        return {name: convert(getattr(obs, name)) for name, (_, convert) in parts.items()}

    return spaces.Dict({name: space for name, (space, _) in parts.items()}), observe


def _part(name: str, spec: Any) -> tuple[spaces.Space, Callable]:
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


SUITE = Suite(make=make_jumanji, list_tasks=list_tasks)
