"""Environments of several agents: each agent is a row of the batch.

States and keys are those of environments, `[N, ...]`. Observations, actions, rewards and flags are
those of agents, `[N * A, ...]`, in which the agents of one environment follow each other. Without
agents (`num_agents` is None) a row is an environment, and nothing here changes anything.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.core.keys import abstract_key
from jaxdrl.envs.protocol import Environment, random_action


def num_rows(num_agents: int | None, num_envs: int) -> int:
    """How many rows `num_envs` environments have."""
    return num_envs * (num_agents or 1)


def to_rows(num_agents: int | None, tree: Any) -> Any:
    """Arrays of environments and their agents, `[N, A, ...]`, as rows `[N * A, ...]`."""
    if num_agents is None:
        return tree
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def by_env(num_agents: int | None, tree: Any) -> Any:
    """Undoes `to_rows`: `[N * A, ...]` to `[N, A, ...]`."""
    if num_agents is None:
        return tree
    return jax.tree.map(lambda x: x.reshape(-1, num_agents, *x.shape[1:]), tree)


def for_each_agent(num_agents: int | None, tree: Any) -> Any:
    """What all agents of an environment have alike, `[N, ...]`, as rows `[N * A, ...]`."""
    if num_agents is None:
        return tree
    return jax.tree.map(lambda x: jnp.repeat(x, num_agents, axis=0), tree)


def keys_of_step(num_agents: int | None, keys: jax.Array) -> tuple[jax.Array, ...]:
    """Keys of one step from one for each environment, `[N]`; consumed.

    They are split once, because small splits take most of the time of a fast environment.

    Returns:
      `(next keys [N], of the rows [N * A], of the step [N], of the reset [N])`.
    """
    num_rows = num_agents or 1
    split = jax.vmap(lambda key: jax.random.split(key, 3 + num_rows))(keys)
    of_rows = split[:, 1] if num_agents is None else split[:, 1:-2].reshape(-1)
    return split[:, 0], of_rows, split[:, -2], split[:, -1]


def activity(env: Environment, obs: Any) -> Any:
    """1.0 for active agents and 0.0 for others, float32 `[T, rows]`, of `obs [T, rows, ...]`.

    `()` where all always are.
    """
    if env.active is None:
        return ()
    return jax.vmap(jax.vmap(env.active))(obs).astype(jnp.float32)


def of_one_agent(env: Environment, obs: Any) -> Any:
    """Shapes of one agent's observation, of the shapes that `reset` gives."""
    if env.num_agents is None:
        return obs
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), obs)


def sample_actions(env: Environment, key: jax.Array) -> jax.Array:
    """A uniformly random action, `[A, ...]` of several agents; the key is consumed."""
    if env.num_agents is None:
        return env.action_space.sample(key)
    return jax.vmap(env.action_space.sample)(jax.random.split(key, env.num_agents))


def random_actions(env: Environment, key: jax.Array, obs: Any) -> tuple[jax.Array, jax.Array]:
    """`random_action` of each agent, and the fewest logits that one is allowed."""
    if env.num_agents is None:
        return random_action(env, key, obs)
    keys = jax.random.split(key, env.num_agents)
    actions, num_allowed = jax.vmap(lambda key, obs: random_action(env, key, obs))(keys, obs)
    return actions, num_allowed.min()


def abstract_actions(env: Environment) -> Any:
    """Shape and dtype of what `step` takes as an action."""
    return jax.eval_shape(lambda key: sample_actions(env, key), abstract_key())
