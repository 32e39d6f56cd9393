"""An agent: a network in an environment, what it observes, how it acts, and its values."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh

from jaxdrl.algorithms import rollout
from jaxdrl.config.execution import ExecutionConfig
from jaxdrl.config.network import NetworkConfig
from jaxdrl.core import control_flow, running_statistics
from jaxdrl.core.distributions import ActionHead, Distribution, action_head, mask_logits
from jaxdrl.core.preprocessing import prepare_observation, prepared_shapes, zeros
from jaxdrl.core.running_statistics import RunningStatistics, init_statistics
from jaxdrl.core.trees import merge_leading_axes
from jaxdrl.core.types import Acting, ActorState, LearnerState, Network, Policy, Transition
from jaxdrl.distributed.groups import map_groups, merge_groups, split_groups
from jaxdrl.distributed.layout import Layout, make_layout, shard_ids
from jaxdrl.envs.protocol import Environment, check_types
from jaxdrl.errors import ConfigError
from jaxdrl.networks import actor_critic
from jaxdrl.networks.actor_critic import from_module
from jaxdrl.networks.build import check_mask, check_network, make_network


class Agent(NamedTuple):
    """A network that acts in an environment, on the devices of a layout.

    Attributes:
      env: the environment.
      network: the policy and value network.
      head: turns the outputs of the policy into a distribution of actions.
      layout: how the logical shards lie on the devices.
      sequence_length: length of the sequences that a recurrent network learns from, 1 for a
        feed-forward one.
      observation_clip: magnitude to which normalised observations are clipped; None does not clip.
        Observations are normalised where the learner has running statistics of them.
      matmul_precision: precision of the network's matrix products, as in
        `jax.default_matmul_precision`.
    """

    env: Environment
    network: Network
    head: ActionHead
    layout: Layout
    sequence_length: int = 1
    observation_clip: Any = None
    matmul_precision: str = "default"


def make_agent(
    env: Environment,
    settings: NetworkConfig,
    execution: ExecutionConfig,
    *,
    mesh: Mesh | None = None,
    network: nn.Module | Network | None = None,
    sequence_length: int = 1,
    observation_clip: Any = None,
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

    Raises:
      ConfigError: if the mesh does not divide the shards, or environment and network do not fit.
    """
    layout = make_layout(execution.num_shards, execution.reproducible, mesh)
    check_types(env)
    check_mask(env)
    if network is None:
        network = make_network(
            env.observation_space, env.action_space, settings, execution.network_dtype
        )
    elif not isinstance(network, Network):
        network = from_module(network)
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
    shard_envs = num_envs // layout.num_shards
    first = shard_ids(layout).reshape(-1, 1) * shard_envs
    ids = (first + jnp.arange(shard_envs, dtype=jnp.int32)[None]).reshape(-1)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, ids)
    init = partial(rollout.init_actor, agent.env, agent.network.initial_carry)
    actor = map_groups(layout, init, split_groups(layout, keys))
    return merge_groups(layout, actor)


def collect_rollout(
    agent: Agent, learner: LearnerState, actor: ActorState, *, num_steps: int, gamma: Any
) -> tuple[ActorState, Transition]:
    """Acts `num_steps` times in the environments of this device.

    Args:
      agent: the agent.
      learner: holds the parameters that the policy acts with.
      actor: state of the environments, `[N, ...]`.
      num_steps: number of steps, `T`.
      gamma: discount of `Transition.discounted_return`.

    Returns:
      `(actor, trajectory)`, the trajectory a `Transition [T, N, ...]`.
    """
    layout = agent.layout
    num_params = sum(x.size for x in jax.tree.leaves(learner.params))
    group_envs = actor.key.shape[0] // layout.num_groups
    collect = partial(
        rollout.collect,
        agent.env,
        partial(decide, agent, learner),
        partial(value_of, agent, learner),
        num_steps=num_steps,
        gamma=gamma,
        sequence_length=agent.sequence_length if agent.network.has_memory else None,
        costly_value=group_envs * num_params > control_flow.WORTH_A_TEST,
    )
    groups = split_groups(layout, actor)
    actor, trajectory = map_groups(layout, collect, groups)
    actor = merge_groups(layout, actor)
    return actor, merge_groups(layout, trajectory, axis=1)


def acting_of(agent: Agent, num_steps: int, gamma: Any) -> Acting:
    """How the agent acts outside a program, in trajectories of `num_steps` steps."""
    return Acting(
        decide=partial(decide, agent),
        value_of=partial(value_of, agent),
        num_steps=num_steps,
        gamma=gamma,
        sequence_length=agent.sequence_length if agent.network.has_memory else None,
    )


def acting_part(learner: LearnerState) -> LearnerState:
    """What acting reads of a learner; everything else is `()`."""
    return replace(learner, opt_state=(), return_statistics=None, key=())  # type: ignore[arg-type]


def policy_of(agent: Agent) -> Policy:
    """The policy of the agent, which takes any of its learners."""
    return Policy(initial_carry=agent.network.initial_carry, act=partial(act, agent))


def evaluate_step(
    agent: Agent, learner: LearnerState, carry: Any, obs: Any, episode_start: jax.Array
) -> tuple[Distribution, jax.Array, Any]:
    """Evaluates one step: `(distribution of actions, value [N], carry)`."""
    x = _prepare(agent, learner.obs_statistics, obs)
    with _precision(agent):
        outputs, value, carry = agent.network.apply(learner.params, carry, x, episode_start)
    return _distribution(agent, outputs, obs), value, carry


def evaluate_sequences(
    agent: Agent, params: Any, statistics: Any, carry: Any, obs: Any, episode_start: jax.Array
) -> tuple[Distribution, jax.Array]:
    """Evaluates whole sequences of a rollout again, with other parameters.

    Args:
      agent: the agent.
      params: network parameters.
      statistics: running statistics of the observations, or None.
      carry: recurrent state before the first step, `[N, ...]`.
      obs: observations, `[T, N, ...]`.
      episode_start: bool `[T, N]`.

    Returns:
      `(distribution, value)`, each with one leading axis of `T * N` steps.
    """
    flat = merge_leading_axes(obs)
    x = _prepare(agent, statistics, flat)
    x = jax.tree.map(lambda x: x.reshape(*episode_start.shape, *x.shape[1:]), x)
    with _precision(agent):
        outputs, value = actor_critic.unroll(agent.network, params, carry, x, episode_start)
    outputs, value = merge_leading_axes((outputs, value))
    return _distribution(agent, outputs, flat), value


def decide(
    agent: Agent, learner: LearnerState, carry: Any, obs: Any, episode_start: Any, keys: jax.Array
) -> rollout.Decision:
    """Samples an action for each of `N` environments, each with its own key of `keys [N]`."""
    distribution, value, carry = evaluate_step(agent, learner, carry, obs, episode_start)
    action = jax.vmap(lambda row, key: row.sample(key))(distribution, keys)
    log_prob = distribution.log_prob(action)
    return rollout.Decision(action, agent.head.to_env(action), log_prob, value, carry)


def act(
    agent: Agent,
    learner: LearnerState,
    carry: Any,
    obs: Any,
    episode_start: Any,
    key: jax.Array,
    *,
    deterministic: bool = False,
) -> tuple[Any, Any]:
    """The `act` of a `jaxdrl.core.types.Policy`."""
    if not deterministic:
        keys = jax.random.split(key, episode_start.shape[0])
        decision = decide(agent, learner, carry, obs, episode_start, keys)
        return decision.env_action, decision.carry
    distribution, _, carry = evaluate_step(agent, learner, carry, obs, episode_start)
    return agent.head.to_env(distribution.mode()), carry


def value_of(
    agent: Agent, learner: LearnerState, carry: Any, obs: Any, episode_start: Any
) -> jax.Array:
    """V(obs), float32 `[N]`."""
    return evaluate_step(agent, learner, carry, obs, episode_start)[1]


def _prepare(agent: Agent, statistics: Any, obs: Any) -> Any:
    """Prepares and normalises observations `[N, ...]` for the network."""
    x = prepare_observation(agent.env.observation_space, obs)
    if statistics is None:
        return x
    return running_statistics.normalize(x, statistics, agent.observation_clip)


def _distribution(agent: Agent, outputs: Any, obs: Any) -> Distribution:
    """The distribution that outputs `[N, ...]` describe, over the actions that are allowed."""
    if agent.env.action_mask is not None:
        allowed = jax.vmap(agent.env.action_mask)(obs)
        outputs = mask_logits(outputs, allowed, agent.env.action_space)
    return agent.head.distribution(outputs)


def _precision(agent: Agent) -> AbstractContextManager:
    precision = agent.matmul_precision
    return nullcontext() if precision == "default" else jax.default_matmul_precision(precision)
