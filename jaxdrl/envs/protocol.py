"""The environment protocol: pure functions of a single environment, which never resets itself."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.core.keys import abstract_key
from jaxdrl.core.spaces import Box, Dict, Discrete, ObservationSpace, Space
from jaxdrl.core.trees import is_key
from jaxdrl.errors import ConfigError

STEP = ("obs", "env_state", "reward", "terminated", "truncated", "info")
"""What `step` returns."""


class Environment(NamedTuple):
    """One environment as a bundle of pure functions; the vectoriser maps it over many.

    Attributes:
      name: its name in messages and files.
      reset: `(key, params) -> (obs, env_state)`.
      step: `(key, env_state, action, params) -> (obs, env_state, reward, terminated, truncated,
        info)`. `obs` is the true successor, also at the end of an episode; `reward` is a float32
        scalar; `terminated` means that no reward can follow, `truncated` that a limit cut the
        episode short; both are bool and never true together.
      observation_space: space of `obs`, which is an array or a dictionary of arrays.
      action_space: space of `action`.
      default_params: pytree of the parameters that `reset` and `step` take.
      max_episode_steps: the longest possible episode, None if there is no limit.
      action_mask: `(obs) -> bool`, true for the actions that are allowed after `obs`: `[n]` for
        Discrete and `[sum(nvec)]` for MultiDiscrete actions. The policy never takes any other
        action. Everything the mask depends on has to be part of `obs`. None allows every action.
      derive_params: `(params) -> params` that recomputes parameters that depend on others; None if
        there are none.
      costly_reset: whether a reset takes as long as tens of steps or more. Ended environments are
        then reset fewer at a time, so that hardly any reset is wasted, but in more iterations of
        the loop. The results are equal.
      draw: `(env_state, params) -> uint8 [height, width, 3]`, a picture of one state, always of the
        same size, for `jaxdrl.render_run`. It runs on the host, for one state at a time, whose
        arrays are NumPy's. The state is that of the environment itself, without the wrappers of
        `time_limit` and `randomize`, whose drawn parameters are in `params`. None if there is no
        picture.
      host: makes copies of an environment that does not run in JAX, a
        `jaxdrl.envs.host.protocol.HostEnvironment`, whose `reset` and `step` here only tell shapes.
        None for all others.
    """

    name: str
    reset: Callable[[jax.Array, Any], tuple[Any, Any]]
    step: Callable[
        [jax.Array, Any, Any, Any], tuple[Any, Any, jax.Array, jax.Array, jax.Array, Any]
    ]
    observation_space: ObservationSpace
    action_space: Space
    default_params: Any = ()
    max_episode_steps: int | None = None
    action_mask: Callable[[Any], jax.Array] | None = None
    derive_params: Callable[[Any], Any] | None = None
    costly_reset: bool = False
    draw: Callable[[Any, Any], Any] | None = None
    host: Any = None


def replace_params(env: Environment, changes: Mapping[str, Any]) -> Any:
    """The parameters of `env` with some changed, and those that depend on them recomputed.

    Raises:
      ConfigError: for a name that is not one of its parameters, with the nearest ones; for a
        parameter that is not a number; and for one that is derived from others.
    """
    params = env.default_params
    known = vars(params) if dataclasses.is_dataclass(params) else {}
    for name, value in changes.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            have = f"the nearest: {', '.join(close)}" if close else f"it has {', '.join(known)}"
            have = have if known else "it has none"
            raise ConfigError(f"{name} = {value!r}: {env.name} has no such parameter; {have}")
        default = known[name]
        if isinstance(default, bool) or not isinstance(default, int | float):
            raise ConfigError(
                f"{name} = {value!r}: this parameter of {env.name} is {default!r}, not a number"
            )
        if isinstance(default, int) and float(value) != round(float(value)):
            raise ConfigError(f"{name} = {value!r}: must be a whole number, such as {default}")
    typed = {n: int(v) if isinstance(known[n], int) else float(v) for n, v in changes.items()}
    params = dataclasses.replace(params, **typed)
    if env.derive_params is None:
        return params
    derived = env.derive_params(params)
    for name, value in typed.items():
        if getattr(derived, name) != value:
            raise ConfigError(
                f"{name} = {value!r}: is computed from other parameters of {env.name}; change those"
            )
    return derived


def random_action(env: Environment, key: jax.Array, obs: Any) -> tuple[jax.Array, jax.Array]:
    """A uniformly random action that `obs` allows, and how many logits are allowed.

    Of a MultiDiscrete action this is the smallest number over its components. The key is consumed.
    """
    if env.action_mask is None:
        return env.action_space.sample(key), jnp.ones((), jnp.int32)
    mask = env.action_mask(obs)
    logits = jnp.where(mask, 0.0, -jnp.inf)
    if isinstance(env.action_space, Discrete):
        return jax.random.categorical(key, logits).astype(jnp.int32), mask.sum(dtype=jnp.int32)
    ends = np.cumsum(env.action_space.nvec)[:-1]  # type: ignore[union-attr]
    parts = jnp.split(logits, ends)
    keys = jax.random.split(key, len(parts))
    drawn = [jax.random.categorical(keys[i], part) for i, part in enumerate(parts)]
    fewest = [part.sum(dtype=jnp.int32) for part in jnp.split(mask, ends)]
    return jnp.stack(drawn).astype(jnp.int32), jnp.stack(fewest).min()


def strong_types(tree: Any) -> Any:
    """The same arrays without weak types, which would recompile the step on its second call."""

    def strong(leaf: Any) -> jax.Array:
        leaf = jnp.asarray(leaf)
        return leaf if is_key(leaf) else leaf.astype(leaf.dtype)

    return jax.tree.map(strong, tree)


def check_types(env: Environment) -> None:
    """Refuses an environment whose `step` does not return the types that its `reset` returned.

    Shapes and dtypes of `obs` and `env_state` have to be the same after `reset` and `step`, and
    reward and flags have to be scalars of float32 and bool, because a compiled loop needs it. The
    functions are traced but not run.

    Raises:
      ConfigError: naming the environment and the first part that differs.
    """
    for part, space in (("observations", env.observation_space), ("actions", env.action_space)):
        if _size(space) == 0:
            raise ConfigError(
                f"{env.name}: {part} of {space} contain no number; give them at least one, such as "
                "one that is always 0"
            )
    key = abstract_key()
    started = jax.eval_shape(env.reset, key, env.default_params)
    obs, env_state = _require_parts(env.name, "reset", started, ("obs", "env_state"))
    action = jax.eval_shape(env.action_space.sample, key)
    stepped = jax.eval_shape(env.step, key, env_state, action, env.default_params)
    next_obs, next_state, reward, terminated, truncated, _ = _require_parts(
        env.name, "step", stepped, STEP
    )
    _require_in_space(env.name, "observation", obs, env.observation_space)
    _require_same(env.name, "observation", obs, next_obs)
    _require_same(env.name, "state", env_state, next_state)
    scalars = {"reward": (reward, "float32"), "terminated": (terminated, "bool")}
    scalars["truncated"] = (truncated, "bool")
    for name, (leaf, dtype) in scalars.items():
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            raise ConfigError(
                f"{env.name}: {name} is a {type(leaf).__name__}; must be a scalar of {dtype}"
            )
        if leaf.shape != () or str(leaf.dtype) != dtype:
            raise ConfigError(
                f"{env.name}: {name} has shape {leaf.shape} and dtype {leaf.dtype}; "
                f"must be a scalar of {dtype}{_x64()}"
            )


def _require_parts(name: str, function: str, given: Any, parts: tuple[str, ...]) -> tuple:
    """Refuses anything but a tuple of the parts that the protocol requires."""
    is_tuple = isinstance(given, tuple | list)
    if is_tuple and len(given) == len(parts):
        return tuple(given)
    what = f"{len(given)} values" if is_tuple else f"a {type(given).__name__}"
    ends = "; a single flag for both ends must be split in two" if len(parts) > 2 else ""
    raise ConfigError(f"{name}: {function} returns {what}; must return ({', '.join(parts)}){ends}")


def _size(space: ObservationSpace) -> int:
    if isinstance(space, Dict):
        return sum(_size(inner) for _, inner in space.items)
    return math.prod(space.shape) if isinstance(space, Box) else 1


def _require_in_space(name: str, part: str, obs: Any, space: ObservationSpace) -> None:
    """Refuses observations whose names or shapes differ from those of their space."""
    if isinstance(space, Dict):
        names, given = [key for key, _ in space.items], type(obs).__name__
        if not isinstance(obs, dict) or sorted(obs) != names:
            given = f"a dictionary of {sorted(obs)}" if isinstance(obs, dict) else f"a {given}"
            raise ConfigError(
                f"{name}: the {part} is {given}, but observation_space is a Dict of {names}; "
                "correct the space"
            )
        for key, inner in space.items:
            _require_in_space(name, f"{part}[{key!r}]", obs[key], inner)
        return
    if not isinstance(obs, jax.ShapeDtypeStruct):
        raise ConfigError(
            f"{name}: the {part} is a {type(obs).__name__}; must be a single array, or a "
            "dictionary with spaces.Dict as observation_space"
        )
    if obs.shape != space.shape:
        raise ConfigError(
            f"{name}: the {part} has shape {obs.shape}, but observation_space says "
            f"{space.shape}; correct the space"
        )


def _require_same(name: str, part: str, at_reset: Any, at_step: Any) -> None:
    reset_leaves, _ = jax.tree_util.tree_flatten_with_path(at_reset)
    step_leaves, _ = jax.tree_util.tree_flatten_with_path(at_step)
    reset_tree: Any = jax.tree.structure(at_reset)
    step_tree: Any = jax.tree.structure(at_step)
    if reset_tree != step_tree:
        raise ConfigError(
            f"{name}: the {part} has a different structure after step than after reset:\n"
            f"  reset: {reset_tree}\n  step:  {step_tree}"
        )
    for (path, before), (_, after) in zip(reset_leaves, step_leaves, strict=True):
        if (before.shape, before.dtype) != (after.shape, after.dtype):
            leaf = f"{part}{jax.tree_util.keystr(path)}"
            raise ConfigError(
                f"{name}: {leaf} is {_describe(before)} after reset and {_describe(after)} after "
                f"step; both must be the same{_x64()}"
            )


def _x64() -> str:
    """A likely reason for an unexpected dtype, in words for a message."""
    is_on = jax.config.jax_enable_x64  # type: ignore[attr-defined]
    return "; JAX_ENABLE_X64 is on: train without it" if is_on else ""


def _describe(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"
