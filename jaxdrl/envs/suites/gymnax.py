"""gymnax environments, adapted to the protocol of `jaxdrl.envs.protocol`."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.annotations import is_traced, shown
from jaxdrl.checks import require_count
from jaxdrl.core import spaces
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.envs.drawing.gymnax_scenes import drawing_of
from jaxdrl.envs.protocol import Environment
from jaxdrl.errors import ConfigError
from jaxdrl.io.deferred_imports import deferred

DOWNLOADS = {"MNISTBandit-bsuite": "the MNIST data set"}
"""Registered environments that download data when they are made, and what they download."""


def make_gymnax(name: str, **params: Any) -> Environment:
    """A registered gymnax environment; `params` are its parameters or constructor arguments.

    Raises:
      ConfigError: for an unknown name or parameter (with the nearest ones) and for an environment
        that would have to download data.
    """
    gymnax = _import_gymnax()
    if name in DOWNLOADS:
        raise ConfigError(
            f"env = {name!r}: needs {DOWNLOADS[name]}, which gymnax downloads, and jaxdrl "
            "downloads nothing; every other registered environment works, such as "
            "SimpleBandit-bsuite"
        )
    registered = task_names()
    if name not in registered:
        words = nearest(name, registered)
        own = "; pass an environment of your own as jaxdrl.run(experiment, env=my_env)"
        is_near = words.startswith("the nearest")
        raise ConfigError(f"env = {name!r}: unknown; {words}{'' if is_near else own}")
    with default_promotion():
        env, env_params = gymnax.make(name)
    arguments = set(inspect.signature(type(env)).parameters)
    fields = {field.name for field in dataclasses.fields(env_params)}
    for param, value in params.items():
        if param not in fields | arguments:
            known = nearest(param, sorted(fields | arguments))
            raise ConfigError(
                f"env_params.{param} = {value!r}: {name} has no such parameter; {known}"
            )
        if not isinstance(value, int | float) and not is_traced(value):
            raise ConfigError(f"env_params.{param} = {value!r}: must be a number")
    for param, value in params.items():
        # The command line reads every number as a float.
        is_whole = isinstance(value, float) and value.is_integer()
        if is_whole and not isinstance(getattr(env_params, param, 0), float):
            params[param] = int(value)
    if "max_steps_in_episode" in params:
        limit = params["max_steps_in_episode"]
        require_count("env_params.max_steps_in_episode", limit)
    if arguments & params.keys():
        chosen = {param: params[param] for param in arguments & params.keys()}
        with default_promotion():
            env, env_params = gymnax.make(name, **chosen)
    derive = DERIVED.get(name)
    if derive is not None:
        # Derived parameters are recomputed, unless the user gives them.
        env_params = derive(dataclasses.replace(env_params, **_chosen(params, fields)))
    env_params = dataclasses.replace(env_params, **_chosen(params, fields))
    return from_gymnax(env, env_params)._replace(name=name, derive_params=derive)


def task_names() -> list[str]:
    """The names of all environments that `make_gymnax` takes."""
    return [known for known in _import_gymnax().registered_envs if known not in DOWNLOADS]


def _chosen(params: dict[str, Any], fields: set[str]) -> dict[str, Any]:
    return {name: params[name] for name in fields & params.keys()}


def _derive_cartpole(params: Any) -> Any:
    """Recomputes the total mass, and the product of the pole's mass and length."""
    return dataclasses.replace(
        params,
        total_mass=params.masscart + params.masspole,
        polemass_length=params.masspole * params.length,
    )


DERIVED = {"CartPole-v1": _derive_cartpole}
"""The functions that recompute derived parameters, by the name of the environment."""


def from_gymnax(env: Any, params: Any = None) -> Environment:
    """Adapts a gymnax environment object of your own to the protocol.

    It calls `step_env` and `is_truncated`, because `step` would reset the environment. An episode
    that ends both ways at once is terminated, not truncated. Rewards become float32, observations
    keep their dtype, and spaces are those for `params`.

    Args:
      env: a `gymnax.environments.environment.Environment`.
      params: its parameters; None takes `env.default_params`.

    Raises:
      ConfigError: if `env` is not a gymnax environment.
      TypeError: for a space that has no counterpart in `jaxdrl.spaces`, naming it.
    """
    if not hasattr(env, "step_env"):
        works = "must be a gymnax environment; jaxdrl.make('CartPole-v1') takes a name"
        raise ConfigError(f"env = {shown(env)}: {works}")
    params = env.default_params if params is None else params
    action_space = convert_space(env.action_space(params), f"action space of {env.name}")
    limit = getattr(params, "max_steps_in_episode", None)

    def reset(key: jax.Array, params: Any) -> tuple[Any, Any]:
        with default_promotion():
            return env.reset_env(key, params)

    def step(key: jax.Array, env_state: Any, action: Any, params: Any) -> tuple:
        if isinstance(action_space, spaces.MultiDiscrete):
            action = tuple(action[..., i] for i in range(len(action_space.nvec)))
        with default_promotion():
            obs, env_state, reward, terminated, info = env.step_env(key, env_state, action, params)
            terminated = jnp.asarray(terminated, jnp.bool)
            truncated = jnp.asarray(env.is_truncated(env_state, params), jnp.bool) & ~terminated
        reward = jnp.asarray(reward).astype(jnp.float32)
        return obs, env_state, reward, terminated, truncated, info

    return Environment(
        name=env.name,
        reset=reset,
        step=step,
        observation_space=convert_space(
            env.observation_space(params), f"observation space of {env.name}"
        ),
        action_space=action_space,
        default_params=params,
        max_episode_steps=None if limit is None else int(limit),
        draw=drawing_of(env),
    )


def convert_space(space: Any, what: str) -> spaces.Space:
    """The space of `jaxdrl.spaces` that equals a gymnax space.

    Raises:
      TypeError: if there is none; `what` says in the message which space it is.
    """
    gymnax_spaces = sys.modules["gymnax.environments.spaces"]
    if isinstance(space, gymnax_spaces.Discrete):
        return spaces.Discrete(int(space.n))
    if isinstance(space, gymnax_spaces.Box):
        low, high = np.asarray(space.low), np.asarray(space.high)
        return spaces.Box(low, high, tuple(space.shape), np.dtype(space.dtype).name)
    if isinstance(space, gymnax_spaces.Tuple) and all(
        isinstance(child, gymnax_spaces.Discrete) for child in space.spaces
    ):
        return spaces.MultiDiscrete(tuple(int(child.n) for child in space.spaces))
    raise TypeError(
        f"{what}: {space!r} ({type(space).__name__}) is not supported; "
        "Discrete, Box and a Tuple of Discrete are supported"
    )


def nearest(name: str, known: list[str]) -> str:
    """The `known` names that are nearest to `name`, or all of them, in words for a message."""
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), list(lowered), n=3, cutoff=0.4)
    if close:
        return "the nearest: " + ", ".join(lowered[match] for match in close)
    return "known names: " + ", ".join(known)


def _import_gymnax() -> Any:
    try:
        with deferred("matplotlib.pyplot", "seaborn"):  # for pictures of its own, a second
            import gymnax
    except ImportError as error:
        raise ConfigError(
            f"gymnax cannot be imported ({error}); install it with: pip install gymnax six"
        ) from error
    return gymnax
