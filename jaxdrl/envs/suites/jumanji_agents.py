"""Tasks of Jumanji with several agents, each with its own observation, mask and reward."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jumanji import specs

from jaxdrl.core import spaces
from jaxdrl.envs.protocol import Environment, strong_types
from jaxdrl.envs.suites.jumanji_spaces import LEFT_OUT, allowed, inside, part_of

OF_AGENTS = {
    "Cleaner-v0": ("agents_locations", "action_mask"),
    "Connector-v3": ("action_mask",),
    "LevelBasedForaging-v0": ("agents_view", "action_mask"),
    "RobotWarehouse-v0": ("agents_view", "action_mask"),
}
"""The tasks, and those parts of their observations that have a row for each agent.

The other parts are what all agents see.
"""

CONNECTOR = "Connector-v3"

LABELS_OF_AGENT = 3
"""Labels that each agent of Connector has on the board: its path, its head and its target."""


def adapt_agents(name: str, task: str, suite_env: Any) -> Environment:
    """Adapts one of the tasks to the protocol, a row an agent, without a limit.

    A reward that is one number for all is that of each agent. Every agent observes `agent_id`,
    one-hot. On the board of Connector each sees its own cells under the first labels, and is active
    as long as it can move: neither connected nor blocked.

    Args:
      name: name of the environment.
      task: name of the task, one of `OF_AGENTS`.
      suite_env: Jumanji's environment, without a limit of its own.
    """
    num = suite_env.num_agents
    with inside():
        observation_spec, action_spec = suite_env.observation_spec, suite_env.action_spec
    observation_space, observe = _observation(task, num, observation_spec)
    action_space = spaces.Discrete(int(np.asarray(action_spec.num_values)[0]))

    def reset(key: jax.Array, params: Any) -> tuple[Any, Any]:
        del params
        with inside():
            # Untyped, because some states keep a used key, which the key-reuse checker refuses.
            state, timestep = suite_env.reset(jax.random.key_data(key))
            return strong_types((observe(timestep.observation), state))

    def step(key: jax.Array, env_state: Any, action: Any, params: Any) -> tuple:
        del key, params
        with inside():
            state, timestep = suite_env.step(env_state, action.astype(action_spec.dtype))
            reward = jnp.broadcast_to(timestep.reward, (num,)).astype(jnp.float32)
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
        action_mask=partial(allowed, action_space),
        num_agents=num,
        active=_can_move if task == CONNECTOR else None,
    )


def _can_move(obs: Any) -> jax.Array:
    """Whether any action is allowed but the first, which does nothing."""
    return obs["action_mask"][1:].any()


def _observation(task: str, num_agents: int, spec: Any) -> tuple[spaces.Dict, Callable]:
    """The space of one agent's observation, and the function from Jumanji's to all `[A, ...]`."""
    parts = {}
    for name, child in spec._specs.items():
        if name in OF_AGENTS[task]:
            space, convert = part_of(name, _of_one(child))
            parts[name] = space, jax.vmap(convert)
        elif name not in LEFT_OUT:
            space, convert = part_of(name, child)
            of_all = _own_first if task == CONNECTOR else _same_for_all
            parts[name] = space, partial(of_all, convert, num_agents)
    one_hot = np.eye(num_agents, dtype=bool)
    inner = {name: space for name, (space, _) in parts.items()}
    inner["agent_id"] = spaces.Box(False, True, (num_agents,), "bool")

    def observe(obs: Any) -> dict[str, Any]:
        found = {name: convert(getattr(obs, name)) for name, (_, convert) in parts.items()}
        return found | {"agent_id": jnp.asarray(one_hot)}

    return spaces.Dict(inner), observe


def _of_one(spec: Any) -> Any:
    """The spec of one agent's row."""
    if not isinstance(spec, specs.BoundedArray):
        return specs.Array(spec.shape[1:], spec.dtype, spec.name)
    low, high = (np.broadcast_to(x, spec.shape)[0] for x in (spec.minimum, spec.maximum))
    return specs.BoundedArray(spec.shape[1:], spec.dtype, low, high, spec.name)


def _same_for_all(convert: Callable, num_agents: int, seen: jax.Array) -> jax.Array:
    seen = convert(seen)
    return jnp.broadcast_to(seen, (num_agents, *seen.shape))


def _own_first(convert: Callable, num_agents: int, grid: jax.Array) -> jax.Array:
    """The board for each agent, which has the first labels, and the next agents the following."""
    first = LABELS_OF_AGENT * np.arange(num_agents, dtype=np.int32)[:, None, None]
    turned = (grid - 1 - first) % (LABELS_OF_AGENT * num_agents) + 1
    return jax.vmap(convert)(jnp.where(grid == 0, 0, turned))
