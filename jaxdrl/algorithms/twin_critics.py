"""What SAC and TD3 share: an actor of bounded actions, two critics, and the buffer they learn from.

Actions of the critics are in half-widths of the bounds, from -1 to 1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxdrl.algorithms import optimizers, replay_learner
from jaxdrl.algorithms.agent import Agent, make_agent
from jaxdrl.algorithms.optimizers import Optimizer
from jaxdrl.algorithms.replay import Minibatch, n_step_return
from jaxdrl.core.keys import make_key
from jaxdrl.core.spaces import Box
from jaxdrl.core.types import Network
from jaxdrl.envs.protocol import Environment
from jaxdrl.errors import ConfigError
from jaxdrl.networks.critics import Parts, make_parts


class ActorCritics(NamedTuple):
    """What the functions of an algorithm with twin critics work with.

    Attributes:
      agent: the agent that acts.
      config: the settings.
      parts: actor and critics.
    """

    agent: Agent
    config: Any
    parts: Parts


def make(
    env: Environment,
    config: Any,
    *,
    mesh: Mesh | None,
    given: dict[str, Any],
    outputs_of: Any,
    has_std: bool,
    scalars: dict[str, Any],
    num_atoms: int | None = None,
) -> ActorCritics:
    """Makes agent and networks, after checking that the algorithm can learn in `env`.

    Args:
      env: the environment.
      config: the settings.
      mesh: as in `make_agent`.
      given: parts that a user gave, by name, which are refused.
      outputs_of: `(outputs of the actor) -> (mean, log_std)` of the distribution that acts.
      has_std: as in `make_parts`.
      scalars: parameters beside those of actor and critics, by name.
      num_atoms: as in `make_parts`.

    Raises:
      ConfigError: saying what the algorithm cannot learn with.
    """
    space = _space_of(env, config, given)
    parts = make_parts(
        env.observation_space,
        space,
        config.network,
        dtype=config.execution.network_dtype,
        has_std=has_std,
        critic_layer_norm=config.critic_layer_norm,
        num_atoms=num_atoms,
    )
    agent = make_agent(
        env,
        replace(config.network, critic_only=()),  # the parts have seen to it
        config.execution,
        mesh=mesh,
        network=_network(parts, outputs_of, scalars),
        observation_clip=config.observation_clip,
    )
    return ActorCritics(agent=agent, config=config, parts=parts)


def _space_of(env: Environment, config: Any, given: dict[str, Any]) -> Box:
    """The space of the actions, after the checks of `make`."""
    name = type(config).__name__.removesuffix("Config")
    for part, words in given.items():
        if words is not None:
            raise ConfigError(
                f"{part}: {name} makes its own, one for each of actor and critics; the settings "
                "describe them"
            )
    replay_learner.require_one_agent(env, name)
    space = env.action_space
    if not isinstance(space, Box) or not space.bounded.all():
        raise ConfigError(
            f"{env.name}: {name} needs actions with finite bounds, and these are {space}; ppo and "
            "impala learn with any"
        )
    return space


def _network(parts: Parts, outputs_of: Any, scalars: dict[str, Any]) -> Network:
    """What the agent acts with: the actor alone, beside which the parameters hold the critics."""

    def init(key: jax.Array, obs: Any) -> dict[str, Any]:
        return parts.init(key, obs) | {n: jnp.float32(x) for n, x in scalars.items()}

    def apply(params: Any, carry: Any, obs: Any, episode_start: jax.Array) -> Any:
        value = jnp.zeros(episode_start.shape, jnp.float32)  # nothing asks an actor for one
        return outputs_of(parts.actor(params["actor"], obs)), value, carry

    return Network(lambda num_envs: (), init, apply)


def make_optimizer(config: Any, rates: dict[str, Any], delayed: str | None = None) -> Optimizer:
    """Adam for each entry of the parameters.

    Args:
      config: the settings.
      rates: learning rate of each entry; that of the actor is annealed, and the others with it.
      delayed: as in `optimizers.of_parts`.
    """
    adam = optimizers.adam(config.max_grad_norm, config.adam_epsilon)
    parts = {name: (adam, rate / config.learning_rate) for name, rate in rates.items()}
    return optimizers.of_parts(parts, delayed)


def returns_of(made: ActorCritics, batch: Minibatch) -> tuple[jax.Array, jax.Array]:
    """`(return, discount)` of the windows, as `n_step_return`, of rewards as they are learnt."""
    returns, discount = n_step_return(batch, made.config.gamma)
    return made.config.reward_scale * returns, discount


def noise_of(made: ActorCritics, batch: Minibatch, num: int) -> tuple[jax.Array, ...]:
    """`num` draws of standard normal noise for actions, `[rows, *shape]`, by the rows' seeds."""
    shape = (num, *made.agent.env.action_space.shape)

    def draw(seed: jax.Array) -> jax.Array:
        return jax.random.normal(make_key(seed), shape, jnp.float32)

    drawn = jax.vmap(draw)(batch.seed)
    return tuple(drawn[:, i] for i in range(num))
