"""Action values of a network: how PQN and DQN read and explore with them."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh

from jaxdrl.algorithms import agent
from jaxdrl.algorithms.agent import Agent
from jaxdrl.core import spaces
from jaxdrl.core.exploration import EpsilonGreedy
from jaxdrl.core.schedules import linear
from jaxdrl.core.types import Network
from jaxdrl.envs.protocol import Environment
from jaxdrl.errors import ConfigError


def require_discrete(env: Environment, algorithm: str) -> None:
    """Refuses actions that are not numbered.

    Raises:
      ConfigError: naming the actions, and algorithms that take them.
    """
    if isinstance(env.action_space, spaces.Discrete):
        return
    others = "sac or td3" if isinstance(env.action_space, spaces.Box) else "ppo or impala"
    raise ConfigError(
        f"{env.name}: actions are {env.action_space}, and {algorithm} learns a value for each of a "
        f"Discrete number of actions; {others} can learn this task"
    )


def make_agent(
    env: Environment,
    config: Any,
    algorithm: str,
    *,
    mesh: Mesh | None,
    network: nn.Module | Network | None,
    sequence_length: int = 1,
    action_values: bool = True,
) -> Agent:
    """An agent that acts by the action values which its network gives.

    Args:
      env: the environment.
      config: the settings of the algorithm.
      algorithm: its name, for messages.
      mesh: as in `agent.make_agent`.
      network: likewise; its policy outputs are action values.
      sequence_length: likewise.
      action_values: likewise; False for a dueling network, which has advantages and a value.

    Raises:
      ConfigError: if actions are not Discrete, or as `agent.make_agent`.
    """
    require_discrete(env, algorithm)
    made = agent.make_agent(
        env,
        config.network,
        config.execution,
        mesh=mesh,
        network=network,
        sequence_length=sequence_length,
        observation_clip=config.observation_clip,
        action_values=action_values,
    )
    return made._replace(interpret=partial(interpret, config))


def epsilon(config: Any, num_updates: jax.Array) -> jax.Array:
    """The probability of exploring after `num_updates`, float32 `[]`.

    It falls linearly from `initial_epsilon` to `final_epsilon` over `exploration_env_steps`, and is
    `final_epsilon` from the start where these are None.
    """
    if config.exploration_env_steps is None:
        return jnp.asarray(config.final_epsilon, jnp.float32)
    updates = config.exploration_env_steps / config.env_steps_per_update
    return linear(config.initial_epsilon, config.final_epsilon, updates, num_updates)


def interpret(
    config: Any, num_updates: jax.Array, q_values: jax.Array, value: jax.Array
) -> tuple[EpsilonGreedy, jax.Array]:
    """`Agent.interpret`: epsilon-greedy over action values `[N, A]`, and V = max_a Q(s, a)."""
    del value
    chance = jnp.broadcast_to(epsilon(config, num_updates), q_values.shape[:-1])
    distribution = EpsilonGreedy(q_values=q_values, epsilon=chance.astype(q_values.dtype))
    return distribution, q_values.max(axis=-1)


def dueling(advantages: jax.Array, value: jax.Array) -> jax.Array:
    """Action values from those of states and the advantages of actions.

        Q(s, a) = V(s) + A(s, a) - mean_b A(s, b)

    over the actions that are allowed. Wang et al. 2016, arXiv:1511.06581, equation 9.

    Args:
      advantages: float `[N, A]`, -inf for actions that are not allowed.
      value: float `[N]`.
    """
    allowed = ~jnp.isneginf(advantages)
    total = jnp.where(allowed, advantages, 0.0).sum(axis=-1)
    mean = total / allowed.sum(axis=-1, dtype=jnp.int32).astype(advantages.dtype)
    return advantages + (value - mean)[..., None]


def of_action(q_values: jax.Array, action: jax.Array) -> jax.Array:
    """Q(s, a) `[N]` of action values `[N, A]` and actions int32 `[N]`."""
    return jnp.take_along_axis(q_values, action[..., None], axis=-1)[..., 0]
