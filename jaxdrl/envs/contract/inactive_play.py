"""Random play in which agents that are not active do something else: nothing may change."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.core.trees import raw
from jaxdrl.envs import vector
from jaxdrl.envs.agents import by_env, random_actions
from jaxdrl.envs.protocol import Environment, strong_types


def play_inactive(env: Environment, keys: jax.Array, num_steps: int) -> tuple[jax.Array, jax.Array]:
    """Plays random allowed actions, and takes each step again with others of inactive agents.

    Args:
      env: an environment of several agents with `active`.
      keys: `[N]`, consumed.
      num_steps: `T`.

    Returns:
      `(active bool [T, N, A], differs bool [T, N])`: who was active before each step, and whether
      the other actions have led to another state, observation, reward or end.
    """
    keys = jax.vmap(jax.random.split)(keys)
    obs, env_state = vector.reset(env, keys[:, 0])
    assert env.active is not None
    keys, active_of = keys[:, 1], jax.vmap(jax.vmap(env.active))

    def one_step(carry: tuple, _: None) -> tuple[tuple, tuple]:
        obs, env_state, keys = carry
        keys = jax.vmap(lambda key: jax.random.split(key, 5))(keys)
        drawn = jax.vmap(lambda key, obs: random_actions(env, key, obs)[0])
        # Drawn freely: the mask of an inactive agent usually allows a single action.
        freely = jax.vmap(lambda key: _free_actions(env, key))
        action, other = drawn(keys[:, 1], by_env(env.num_agents, obs)), freely(keys[:, 2])
        active = active_of(by_env(env.num_agents, obs))
        other = jnp.where(active.reshape(*active.shape, *[1] * (other.ndim - 2)), action, other)
        step = jax.vmap(env.step, in_axes=(0, 0, 0, None))
        first, second = (
            strong_types(step(keys[:, 3], env_state, chosen, env.default_params)[:5])
            for chosen in (action, other)
        )
        stepped = vector.step(
            env, keys[:, 3], keys[:, 4], env_state, action.reshape(-1, *action.shape[2:])
        )
        carry = stepped.obs, stepped.env_state, keys[:, 0]
        return carry, (active, _differs(first, second))

    return jax.lax.scan(one_step, (obs, env_state, keys), length=num_steps)[1]


def _free_actions(env: Environment, key: jax.Array) -> jax.Array:
    """An action of each agent, whatever the mask says."""
    return random_actions(env._replace(action_mask=None), key, ())[0]


def _differs(first: Any, second: Any) -> jax.Array:
    """Where two trees `[N, ...]` differ in any number, bool `[N]`; NaN equals NaN."""
    found = []
    for x, y in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        x, y = raw(x), raw(y)
        same = (x == y) | ((x != x) & (y != y))
        found.append(~same.reshape(same.shape[0], -1).all(axis=1))
    return jnp.stack(found).any(axis=0)
