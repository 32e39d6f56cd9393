"""Tasks of Jumanji, such as `jumanji/Snake-v1`.

Jumanji reports its time limits as terminations, so they are replaced by limits of jaxdrl's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import jumanji
import numpy as np
from jumanji import registration

from jaxdrl.envs.protocol import Environment, strong_types
from jaxdrl.envs.suites.jumanji_agents import OF_AGENTS, adapt_agents
from jaxdrl.envs.suites.jumanji_spaces import action_of, allowed, inside, observation_of
from jaxdrl.envs.suites.registry import Suite, episode_limit, fit_params, require_task
from jaxdrl.envs.truncation import time_limit
from jaxdrl.errors import ConfigError

DOWNLOADS = {"Sokoban-v0": "jumanji.environments.routing.sokoban.generator.SimpleSolveGenerator()"}
"""Tasks that download their levels, and a generator that does not."""

DEADLINES = {"SearchAndRescue-v0"}
"""Tasks whose rewards shrink with every step, down to 0 at the limit, which is a termination."""

SIZED = {"MMST-v0"}
"""Tasks whose state has an array with one entry for each step."""

ENDLESS = 2**30
"""The value that Jumanji's own limit is set to, so that it is never reached."""


def list_tasks() -> list[str]:
    """Every task except those that need a generator from the user (`DOWNLOADS`)."""
    return sorted(jumanji.registered_environments() - set(DOWNLOADS))


def make_jumanji(
    task: str,
    *,
    max_episode_steps: int | str | None = "default",
    per_agent: bool | float = False,
    **params: Any,
) -> Environment:
    """A Jumanji environment whose episodes are truncated after `max_episode_steps`.

    Observations are dictionaries of its fields except those that nothing depends on. Rewards of
    several agents are summed, unless each is an agent here, too (`per_agent`). If the mask of one
    part of an action depends on another part, such as row and column, there is one Discrete action
    for each combination.

    Args:
      task: name of the task, such as Snake-v1.
      max_episode_steps: None for no limit; "default" for Jumanji's, if it has one.
      per_agent: whether each agent of a task of `OF_AGENTS` has its own observation, action and
        reward, instead of a single one that acts for all.
      **params: arguments of its constructor, such as `num_rows` or `generator`.

    Raises:
      ConfigError: for an unknown task or parameter, with the nearest ones; for `per_agent` of a
        task that has no agents, or whose agents are not told apart; and if levels would have
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
    of_agents = fit_params(name, {"per_agent": per_agent}, {"per_agent": False})["per_agent"]
    if of_agents and task not in OF_AGENTS:
        raise ConfigError(
            f"env_params.per_agent = 1: {name} has no agents with observations of their own; use "
            f"{', '.join(OF_AGENTS)}, or leave it out"
        )
    suite_env, viewed_env, limit = _construct(task, max_episode_steps, params)

    def draw(env_state: Any, params: Any) -> np.ndarray:
        del params
        from jaxdrl.envs.drawing.jumanji_boards import draw_task

        return draw_task(task, viewed_env, env_state)

    env = adapt_agents(name, task, suite_env) if of_agents else _adapt(name, suite_env)
    env = env._replace(draw=draw)
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
    with inside():
        # Without its viewer, which opens files and changes how notebooks show films.
        suite_env = make_env(viewer=object())
    if max_episode_steps == "default":
        limit = getattr(suite_env, "time_limit", None)  # for some tasks it depends on their size
    if own_limit and task not in DEADLINES:
        suite_env.time_limit = ENDLESS
    return suite_env, cache(make_env), limit


def _adapt(name: str, suite_env: Any) -> Environment:
    """Adapts Jumanji's environment to the protocol, without a limit."""
    with inside():
        observation_spec, action_spec = suite_env.observation_spec, suite_env.action_spec
    observation_space, observe = observation_of(observation_spec)
    mask_spec = observation_spec._specs.get("action_mask")
    action_space, to_suite = action_of(action_spec, mask_spec and mask_spec.shape)

    def reset(key: jax.Array, params: Any) -> tuple[Any, Any]:
        del params
        with inside():
            # Untyped, because some states keep a used key, which the key-reuse checker refuses.
            state, timestep = suite_env.reset(jax.random.key_data(key))
            return strong_types((observe(timestep.observation), state))

    def step(key: jax.Array, env_state: Any, action: Any, params: Any) -> tuple:
        del key, params
        with inside():
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
        action_mask=None if mask_spec is None else partial(allowed, action_space),
    )


SUITE = Suite(make=make_jumanji, list_tasks=list_tasks)
