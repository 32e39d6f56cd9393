"""An agent: a network in an environment, what it observes, how it acts, and its values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh

from jaxdrl.algorithms import rollout
from jaxdrl.algorithms.seating import Seating
from jaxdrl.checks import require
from jaxdrl.config.execution import ExecutionConfig
from jaxdrl.config.network import NetworkConfig
from jaxdrl.core.distributions import ActionHead, Distribution, action_head
from jaxdrl.core.preprocessing import prepared_shapes, zeros
from jaxdrl.core.running_statistics import RunningStatistics, init_statistics
from jaxdrl.core.types import ActorState, LearnerState, Network
from jaxdrl.distributed.groups import map_groups, merge_groups, split_groups
from jaxdrl.distributed.layout import Layout, make_layout, shard_ids
from jaxdrl.envs.protocol import Environment
from jaxdrl.envs.type_checks import check_types
from jaxdrl.errors import ConfigError
from jaxdrl.networks.actor_critic import from_module
from jaxdrl.networks.build import check_mask, check_network, make_network


class Agent(NamedTuple):
    """A network that acts in an environment, on the devices of a layout.

    Attributes:
      env: the environment.
      network: the policy and value network.
      head: turns the outputs of the policy into a distribution of actions, and these into actions
        of the environment.
      layout: how the logical shards lie on the devices.
      sequence_length: length of the sequences that a recurrent network learns from, 1 for a
        feed-forward one.
      observation_clip: magnitude to which normalised observations are clipped; None does not clip.
        Observations are normalised where the learner has running statistics of them.
      matmul_precision: precision of the network's matrix products, as in
        `jax.default_matmul_precision`.
      interpret: `(num_updates, outputs, value) -> (distribution, V)` of what the network gives,
        `[N, ...]`, with -inf for forbidden actions; None takes them as those of an actor and a
        critic.
      explore: `(distribution, learner, env_ids [N]) -> distribution` that acts in a rollout, by the
        global index of each environment; None acts with the distribution itself.
      seating: which agents of a rollout past selves of the learner decide for; None: none.
    """

    env: Environment
    network: Network
    head: ActionHead
    layout: Layout
    sequence_length: int = 1
    observation_clip: Any = None
    matmul_precision: str = "default"
    interpret: Callable[[jax.Array, Any, jax.Array], tuple[Distribution, jax.Array]] | None = None
    explore: Callable[[Any, LearnerState, jax.Array], Distribution] | None = None
    seating: Seating | None = None


def make_agent(
    env: Environment,
    settings: NetworkConfig,
    execution: ExecutionConfig,
    *,
    mesh: Mesh | None = None,
    network: nn.Module | Network | None = None,
    sequence_length: int = 1,
    observation_clip: Any = None,
    action_values: bool = False,
) -> Agent:
    """Makes an agent, after checking that environment and network fit each other.

    Args:
      env: the environment.
      settings: describe the network and the distribution of its actions.
      execution: how the step is computed.
      mesh: the devices; None computes on one device.
      network: a flax module or a `Network` that replaces the one the settings describe.
      sequence_length: as in `Agent`, used where the network is recurrent.
      observation_clip: as in `Agent`.
      action_values: whether the settings describe a network of action values, as in `make_network`.

    Raises:
      ConfigError: if the mesh does not divide the shards, or environment and network do not fit.
    """
    layout = make_layout(execution.num_shards, execution.reproducible, mesh)
    check_types(env)
    if network is None:
        network = make_network(
            env.observation_space,
            env.action_space,
            settings,
            execution.network_dtype,
            action_values=action_values,
        )
    else:
        names, works = settings.critic_only, "must be () with a network of your own, which decides"
        require(not names, "critic_only", names, f"{works} by itself what its policy reads")
        network = network if isinstance(network, Network) else from_module(network)
    check_mask(env, settings.critic_only)
    try:
        head = action_head(env.action_space, settings.action_distribution)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{env.name}: {error}") from error
    check_network(env, network, head)
    return Agent(
        env=env,
        network=network,
        head=head,
        layout=layout,
        sequence_length=sequence_length if network.has_memory else 1,
        observation_clip=observation_clip,
        matmul_precision=execution.matmul_precision,
    )


# The functions below run on every device, each over its own environments.


def init_params(agent: Agent, key: jax.Array) -> Any:
    """Initial parameters of the network."""
    return agent.network.init(key, zeros(prepared_shapes(agent.env.observation_space, 1)))


def init_obs_statistics(agent: Agent) -> RunningStatistics:
    """Running statistics of the observations, before any observation was seen."""
    shapes = prepared_shapes(agent.env.observation_space, 1)
    return init_statistics(
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), shapes)
    )


def init_actor(agent: Agent, key: jax.Array, num_envs: int) -> ActorState:
    """The environments of this device at the start of their first episode, `[N, ...]`.

    Args:
      agent: the agent.
      key: folded with the global index of each environment, so that the environments are the same
        on any number of devices.
      num_envs: number of environments over all devices.
    """
    layout = agent.layout
    ids = env_ids(layout, num_envs // layout.num_devices)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, ids)
    init = partial(rollout.init_actor, agent.env, agent.network.initial_carry)
    actor = map_groups(layout, init, split_groups(layout, keys))
    return merge_groups(layout, actor)


def env_ids(layout: Layout, num_envs: int) -> jax.Array:
    """Global indices of the `num_envs` environments of this device, int32 `[num_envs]`."""
    first = shard_ids(layout).reshape(-1, 1) * (num_envs // shard_ids(layout).size)
    ids = first + jnp.arange(num_envs // first.size, dtype=jnp.int32)[None]
    return ids.reshape(-1)
