"""Games of JaxMARL, such as `jaxmarl/MPE_simple_spread_v3`: several agents in one environment."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.core import spaces
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.core.keys import abstract_key
from jaxdrl.envs.protocol import Environment, strong_types
from jaxdrl.envs.suites.jaxmarl_games import Game, list_games, make_game
from jaxdrl.envs.suites.registry import Suite, episode_limit, fit_params, require_task
from jaxdrl.envs.truncation import time_limit
from jaxdrl.errors import ConfigError

VIEW = {"agent_ids": True, "world_state": False}
"""Parameters of all tasks, with their defaults."""


def make_jaxmarl(
    task: str, *, max_episode_steps: int | str | None = "default", **params: Any
) -> Environment:
    """A game of JaxMARL, whose agents are stacked in the order of its `agents`.

    Observations are dictionaries: `obs`, an agent's own, padded with zeros to the largest;
    `agent_id`, which agent it is, one-hot; `action_mask` where not every agent may always do
    everything; and `world_state`, the same for all, if it is asked for.

    Args:
      task: name of the task.
      max_episode_steps: None for no limit; "default" for JaxMARL's, if it has one.
      **params: `agent_ids` and `world_state`, 0 or 1, and arguments of its constructor.

    Raises:
      ConfigError: for an unknown task or parameter, with the nearest ones.
    """
    require_task("jaxmarl", task, list_games())
    name = f"jaxmarl/{task}"
    for old in ("max_steps", "num_inner_steps"):
        if old in params:
            raise ConfigError(f"env_params.{old} = {params[old]!r}: use max_episode_steps instead")
    view = fit_params(name, {k: v for k, v in params.items() if k in VIEW}, VIEW)
    game = make_game(name, task, {k: v for k, v in params.items() if k not in VIEW})
    limit = episode_limit(max_episode_steps, game.limit)
    env = _adapt(name, game, **view)
    return env if limit is None else time_limit(env, limit)


def _adapt(name: str, game: Game, *, agent_ids: bool, world_state: bool) -> Environment:
    """Adapts a game to the protocol, without a limit."""
    suite_env, agents = game.suite_env, list(game.suite_env.agents)
    action_space, to_suite, counts = _actions([suite_env.action_space(agent) for agent in agents])
    observe = _observer(game, counts, agent_ids=agent_ids, world_state=world_state)

    def reset(key: jax.Array, params: Any) -> tuple[Any, Any]:
        del params
        with default_promotion():
            # Untyped, because some games use a key twice, which the key-reuse checker refuses.
            obs, state = suite_env.reset(jax.random.key_data(key))
            return strong_types((observe(obs, state), state))

    def step(key: jax.Array, env_state: Any, action: jax.Array, params: Any) -> tuple:
        with default_promotion():
            if game.effective is not None:
                action = game.effective(env_state, action)
            actions = {agent: to_suite(action, i) for i, agent in enumerate(agents)}
            # `step` would reset the environment and lose the last observation.
            untyped = jax.random.key_data(key)
            obs, state, rewards, dones, info = suite_env.step_env(untyped, env_state, actions)
            reward = _rows(rewards, agents)
            if "shaped_reward" in info:
                reward = reward + params.shaped_reward * _rows(info["shaped_reward"], agents)
            obs, state = strong_types((observe(obs, state), state))
            terminated = jnp.asarray(dones["__all__"], jnp.bool)
        return obs, state, reward.astype(jnp.float32), terminated, jnp.zeros((), jnp.bool), {}

    def draw(env_state: Any, params: Any) -> Any:
        del params
        return game.draw(suite_env, env_state)  # type: ignore[misc]

    obs, _ = jax.eval_shape(lambda key: reset(key, ()), abstract_key())
    return Environment(
        name=name,
        reset=reset,
        step=step,
        observation_space=_observation_space(game, obs),
        action_space=action_space,
        default_params=game.default_params,
        action_mask=_mask_of if "action_mask" in obs else None,
        draw=game.draw and draw,
        num_agents=len(agents),
        active=game.active,
    )


def _mask_of(obs: Any) -> jax.Array:
    return obs["action_mask"]


def _rows(by_agent: Any, agents: Sequence[str]) -> jax.Array:
    """Rewards of all agents, float32 `[A]`; some of JaxMARL's are integers."""
    return jnp.stack([jnp.asarray(by_agent[agent], jnp.float32) for agent in agents])


def _actions(given: Sequence[Any]) -> tuple[spaces.Space, Callable, list[int] | None]:
    """The space of all agents' actions, from those to JaxMARL's, and how many each agent has."""
    if hasattr(given[0], "n"):
        counts = [int(space.n) for space in given]
        return spaces.Discrete(max(counts)), lambda action, i: action[i], counts
    sizes = [math.prod(space.shape) for space in given]
    low, high = (float(np.min([getattr(space, end) for space in given])) for end in ("low", "high"))
    space = spaces.Box(low, high, (max(sizes),))
    return space, lambda action, i: action[i, : sizes[i]], None


def _observer(
    game: Game, counts: list[int] | None, *, agent_ids: bool, world_state: bool
) -> Callable[[Any, Any], dict[str, jax.Array]]:
    """`(JaxMARL's observations, state) -> observations [A, ...]`."""
    agents, num = list(game.suite_env.agents), len(game.suite_env.agents)
    most = max(counts or [0])
    of_roles = np.arange(most) < np.array(counts or [most] * num)[:, None]

    def mask(state: Any) -> jax.Array:
        legal = game.legal(state)  # type: ignore[misc]
        return jnp.stack([_padded(legal[agent] > 0, (most,)) for agent in agents])

    def observe(obs: Any, state: Any) -> dict[str, jax.Array]:
        parts = [obs[agent].astype(game.dtype) for agent in agents]
        largest = max((part.shape for part in parts), key=math.prod)
        found = {"obs": jnp.stack([_padded(part, largest) for part in parts])}
        if agent_ids:
            found["agent_id"] = jnp.eye(num, dtype=jnp.bool)
        if game.legal is not None:
            found["action_mask"] = mask(state)
        elif not of_roles.all():
            found["action_mask"] = jnp.asarray(of_roles)
        if world_state:
            own = obs.get("world_state")
            of_all = jnp.concatenate(parts, axis=-1) if own is None else own.astype(game.dtype)
            found["world_state"] = jnp.broadcast_to(of_all, (num, *of_all.shape))
        return found

    return observe


def _padded(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`x` with zeros after it."""
    return jnp.pad(x, [(0, size - given) for size, given in zip(shape, x.shape, strict=True)])


def _observation_space(game: Game, obs: dict[str, Any]) -> spaces.Dict:
    """The space of one agent's observation, of the shapes of all agents'."""
    found: dict[str, spaces.Space] = {}
    for name, part in obs.items():
        low, high = (False, True) if part.dtype == jnp.bool else game.bounds
        found[name] = spaces.Box(low, high, part.shape[1:], str(part.dtype))
    return spaces.Dict(found)


SUITE = Suite(make=make_jaxmarl, list_tasks=list_games)
