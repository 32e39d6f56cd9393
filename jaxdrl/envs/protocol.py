"""The environment protocol: pure functions of a single environment, which never resets itself."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.core.spaces import Discrete, ObservationSpace, Space
from jaxdrl.core.trees import is_key
from jaxdrl.errors import ConfigError


class Environment(NamedTuple):
    """One environment as a bundle of pure functions; the vectoriser maps it over many.

    With `num_agents = A`, several agents act in it at once. Then `obs`, `action` and `reward` have
    a leading axis `[A, ...]`, while `terminated` and `truncated` stay scalars: an episode begins
    and ends for all agents together. Spaces, `action_mask` and `active` are those of one agent.

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
      num_agents: how many agents there are, `A`; None for an environment of a single one, whose
        arrays have no axis of agents.
      active: `(obs) -> bool` of one agent: whether what it does now has any effect, which it has
        not while it is dead or another one is on turn. The policy learns from active agents alone,
        the value from all. Everything it depends on has to be part of `obs`. None: always.
      is_competitive: whether agents play against each other, so that the mean of their returns says
        nothing. An evaluation then seats the policy at one agent, in turn, and random players at
        all others, and returns are those of that agent.
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
    num_agents: int | None = None
    active: Callable[[Any], jax.Array] | None = None
    is_competitive: bool = False


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
    """`random_allowed` of an environment, for the observation of one agent."""
    return random_allowed(env.action_space, env.action_mask, key, obs)


def random_allowed(
    action_space: Space, action_mask: Callable[[Any], jax.Array] | None, key: jax.Array, obs: Any
) -> tuple[jax.Array, jax.Array]:
    """A uniformly random action that `obs` allows, and how many logits are allowed.

    Of a MultiDiscrete action this is the smallest number over its components. The key is consumed.
    """
    if action_mask is None:
        return action_space.sample(key), jnp.ones((), jnp.int32)
    mask = action_mask(obs)
    logits = jnp.where(mask, 0.0, -jnp.inf)
    if isinstance(action_space, Discrete):
        return jax.random.categorical(key, logits).astype(jnp.int32), mask.sum(dtype=jnp.int32)
    ends = np.cumsum(action_space.nvec)[:-1]  # type: ignore[union-attr]
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
