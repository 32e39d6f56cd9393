"""Refuses environments whose functions do not have the types that the protocol requires."""

from __future__ import annotations

import math
from typing import Any

import jax

from jaxdrl.core.keys import abstract_key
from jaxdrl.core.spaces import Box, Dict, ObservationSpace
from jaxdrl.envs.agents import abstract_actions, of_one_agent
from jaxdrl.envs.protocol import Environment
from jaxdrl.errors import ConfigError

STEP = ("obs", "env_state", "reward", "terminated", "truncated", "info")
"""What `step` returns."""


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
    _check_agents(env)
    key = abstract_key()
    started = jax.eval_shape(env.reset, key, env.default_params)
    obs, env_state = _require_parts(env.name, "reset", started, ("obs", "env_state"))
    _require_in_space(env.name, "observation", _of_agent(env, obs), env.observation_space)
    action = abstract_actions(env)
    stepped = jax.eval_shape(env.step, key, env_state, action, env.default_params)
    next_obs, next_state, reward, terminated, truncated, _ = _require_parts(
        env.name, "step", stepped, STEP
    )
    _require_same(env.name, "observation", obs, next_obs)
    _check_active(env, obs)
    _require_same(env.name, "state", env_state, next_state)
    of_agents = () if env.num_agents is None else (env.num_agents,)
    _require_array(env.name, "reward", reward, of_agents, "float32")
    _require_array(env.name, "terminated", terminated, (), "bool")
    _require_array(env.name, "truncated", truncated, (), "bool")


def _require_array(name: str, part: str, leaf: Any, shape: tuple[int, ...], dtype: str) -> None:
    """Refuses anything but an array of one shape and dtype."""
    must = f"must be a scalar of {dtype}"
    if shape:
        must = f"must be {dtype}{list(shape)}, a number for each agent"
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        raise ConfigError(f"{name}: {part} is a {type(leaf).__name__}; {must}")
    if leaf.shape != shape or str(leaf.dtype) != dtype:
        raise ConfigError(
            f"{name}: {part} has shape {leaf.shape} and dtype {leaf.dtype}; {must}{_x64()}"
        )


def _check_agents(env: Environment) -> None:
    """Refuses a number of agents that is none, and settings that only several agents have."""
    num = env.num_agents
    if num is None:
        for name in ("active", "is_competitive"):
            if getattr(env, name):
                raise ConfigError(
                    f"{env.name}: {name} is set, but num_agents is None; say how many agents there "
                    "are"
                )
        return
    if isinstance(num, bool) or not isinstance(num, int) or num < 1:
        raise ConfigError(f"{env.name}: num_agents = {num!r}; must be an integer of at least 1")
    if env.host is not None:
        raise ConfigError(
            f"{env.name}: num_agents = {num}, but environments of the host have one agent; several "
            "agents need an environment in JAX"
        )
    if env.is_competitive and num < 2:
        raise ConfigError(f"{env.name}: is_competitive, but num_agents = {num}; must be at least 2")


def _of_agent(env: Environment, obs: Any) -> Any:
    """The shapes of one agent's observation; refuses agents whose observations are not stacked."""
    num = env.num_agents
    if num is None:
        return obs
    leaves, treedef = jax.tree.flatten(obs)
    for leaf in leaves:
        shape = getattr(leaf, "shape", ())
        if not shape or shape[0] != num:
            raise ConfigError(
                f"{env.name}: the observation has an array of shape {shape}, but num_agents = "
                f"{num}; stack the observations of all agents along the first axis, [{num}, ...], "
                "and pad those that are smaller"
            )
    if isinstance(obs, tuple | list):
        raise ConfigError(
            f"{env.name}: the observation is a {type(obs).__name__} of {len(obs)}; stack the "
            f"observations of all agents along the first axis, [{num}, ...], and pad those that "
            "are smaller"
        )
    return jax.tree.unflatten(treedef, [of_one_agent(env, leaf) for leaf in leaves])


def _check_active(env: Environment, obs: Any) -> None:
    """Refuses an `active` that is not one bool, or that one agent's observation does not tell."""
    if env.active is None:
        return
    found = of_observation(env, "active", env.active, obs)
    _require_array(env.name, "active", found, (), "bool")


def of_observation(env: Environment, name: str, function: Any, obs: Any) -> Any:
    """The shapes of what `function` gives for one agent's observation, of those of all agents.

    Raises:
      ConfigError: if the function cannot be traced with it.
    """
    try:
        return jax.eval_shape(function, of_one_agent(env, obs))
    except Exception as error:
        shapes = jax.tree.map(lambda x: x.shape, of_one_agent(env, obs))
        raise ConfigError(
            f"{env.name}: {name} cannot be computed from the observation of one agent, of shape "
            f"{shapes}: {type(error).__name__}: {error}; everything it depends on has to be part "
            "of obs"
        ) from error


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
