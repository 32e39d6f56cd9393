"""The parallelised Q-network, PQN (Gallici et al. 2024, arXiv:2407.04811).

environment -> epsilon-greedy rollout -> Q(lambda) -> loss -> all-reduced gradient -> params

It keeps no old experience and no target network: layer normalisation and many environments at once
take their places.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import optax
from flax import linen as nn
from jax.sharding import Mesh

from jaxdrl.algorithms import minibatch_sgd, optimizers, q_learning, rollout_learner
from jaxdrl.algorithms.agent import Agent, make_agent
from jaxdrl.algorithms.minibatch_sgd import Batch
from jaxdrl.algorithms.optimizers import Optimizer
from jaxdrl.algorithms.rollout_learner import Learning, evaluate_rows, in_rows
from jaxdrl.checks import checked
from jaxdrl.config.pqn import PQNConfig
from jaxdrl.config.rollout_sizes import check_minibatches
from jaxdrl.core import losses
from jaxdrl.core.returns import lambda_returns
from jaxdrl.core.trees import merge_leading_axes
from jaxdrl.core.types import Algorithm, LearnerState, Network, Reduction, Transition
from jaxdrl.envs.protocol import Environment
from jaxdrl.networks.build import shapes_of_params

METRICS: dict[str, Reduction] = {
    "td_loss": "mean",
    "q_value": "each",
    "epsilon": "each",
    "explained_variance": "each",
    "learning_rate": "each",
    "nonfinite_params": "mean",
}
"""PQN's own metrics, as `rollout_learner.METRICS`: `q_value` is that of the actions which were
taken, `epsilon` the probability of a random action in the rollout."""


class PQN(NamedTuple):
    """What the functions of PQN work with.

    Attributes:
      agent: the agent that acts.
      config: the settings.
      optimizer: the optimiser of the parameters.
    """

    agent: Agent
    config: PQNConfig
    optimizer: Optimizer


@checked
def pqn(
    env: Environment,
    config: PQNConfig,
    *,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    mesh: Mesh | None = None,
) -> Algorithm:
    """PQN as pure functions, on one device or sharded over those of a mesh.

    Args:
      env: an environment with Discrete actions, from `jaxdrl.make`, or of your own.
      config: the settings; counts in it are global.
      network: as in `jaxdrl.ppo`, but its policy outputs are action values Q(s, a), `[N, A]`. The
        value that it gives is ignored.
      optimizer: an optax optimiser, as in `jaxdrl.ppo`. None takes the one that the config
        describes.
      mesh: from `jaxdrl.make_mesh`; None computes on one device.

    Returns:
      An `Algorithm`. Its metrics are those of `jaxdrl.algorithms.update_metrics.METRICS` and of
      `jaxdrl.algorithms.pqn.METRICS`.

    Raises:
      ConfigError: if the mesh does not divide the shards, if actions are not Discrete, or if
        environment, network or optimiser break their contracts.
    """
    q_learning.require_discrete(env, "PQN")
    agent = make_agent(
        env,
        config.network,
        config.execution,
        mesh=mesh,
        network=network,
        sequence_length=config.sequence_length or config.num_steps,
        observation_clip=config.observation_clip,
        action_values=True,
    )
    agent = agent._replace(interpret=partial(q_learning.interpret, config))
    check_minibatches(config, agent.sequence_length)
    if optimizer is None:
        make = optimizers.adam if config.optimizer == "adam" else optimizers.radam
        made = PQN(agent, config, make(config.max_grad_norm, config.optimizer_epsilon))
    else:
        own = optimizers.of_own(optimizer, shapes_of_params(env, agent.network))
        made = PQN(agent, config, own)
    return rollout_learner.as_algorithm(
        agent, config, made.optimizer, learn=partial(_learn, made), metrics=METRICS
    )


# The functions below run on every device, each over its own environments.


def _learn(
    pqn: PQN, learner: LearnerState, trajectory: Transition
) -> tuple[LearnerState, dict[str, jax.Array]]:
    config = pqn.config
    schedule = minibatch_sgd.Schedule(
        rows_per_env=config.num_steps // pqn.agent.sequence_length,
        num_epochs=config.num_epochs,
        num_minibatches=config.num_minibatches,
        num_accumulation_steps=config.execution.num_accumulation_steps,
        standardize_advantages=False,
        target_kl=None,
    )
    parts = (partial(_make_batch, pqn), partial(loss, pqn))
    learning = Learning(pqn.agent, config, pqn.optimizer, schedule, *parts)
    chance = q_learning.epsilon(config, learner.num_updates)
    learner, metrics = rollout_learner.learn(learning, learner, trajectory)
    return learner, metrics | {"epsilon": chance}


@jax.named_scope("advantages")
def _make_batch(pqn: PQN, learner: LearnerState, trajectory: Transition) -> Batch:
    """Q(lambda) of one group, in rows of `L` steps: `[T / L * N, L, ...]`.

        G_t = r_t + gamma [(1 - lambda) max_a Q(s_{t+1}, a) + lambda G_{t+1}]

    as in `lambda_returns`, with the action values of the network that acted.
    """
    config = pqn.config
    reward = config.reward_scale * rollout_learner.scaled_reward(config, learner, trajectory)
    target = lambda_returns(
        reward,
        trajectory.next_value,
        trajectory.terminated,
        trajectory.truncated,
        gamma=config.gamma,
        lambda_=config.q_lambda,
    )
    batch = Batch(
        obs=trajectory.obs,
        action=trajectory.action,
        log_prob=trajectory.log_prob,
        value=trajectory.value,
        target=target,
        advantage=(),
        episode_start=trajectory.episode_start,
        carry=(),
    )
    rows = in_rows(batch, pqn.agent.sequence_length)
    return replace(rows, carry=merge_leading_axes(trajectory.carry))


def loss(
    pqn: PQN, statistics: Any, params: Any, batch: Batch
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The mean of (Q(s_t, a_t) - G_t)^2 / 2, with targets that are constants.

    Args:
      pqn: the agent and the settings.
      statistics: running statistics of the observations, or None.
      params: network parameters.
      batch: a minibatch, `[rows, L, ...]`.

    Returns:
      `(loss, metrics)`.
    """
    distribution: Any
    distribution, _, steps = evaluate_rows(
        pqn.agent, params, statistics, batch, remat=pqn.config.execution.remat
    )
    q_value = q_learning.of_action(distribution.q_values, steps.action)
    td_loss = losses.squared_value(q_value, steps.target).mean()
    return td_loss, {"td_loss": td_loss, "q_value": q_value.mean()}
