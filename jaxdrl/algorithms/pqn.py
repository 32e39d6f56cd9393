"""The parallelised Q-network, PQN (Gallici et al. 2024, arXiv:2407.04811).

environment -> epsilon-greedy rollout -> Q(lambda) -> loss -> all-reduced gradient -> params

It keeps no old experience and no target network: layer normalisation and many environments at once
take their places.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import optax
from flax import linen as nn
from jax.sharding import Mesh

from jaxdrl.algorithms import optimizers, q_learning, rollout_learner
from jaxdrl.algorithms.agent import Agent
from jaxdrl.algorithms.batch import Batch
from jaxdrl.algorithms.rollout_learner import Learning
from jaxdrl.checks import checked
from jaxdrl.config.pqn import PQNConfig
from jaxdrl.config.rollout_sizes import check_minibatches
from jaxdrl.core import losses
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
    agent = q_learning.make_agent(
        env,
        config,
        "PQN",
        mesh=mesh,
        network=network,
        sequence_length=config.sequence_length or config.num_steps,
    )
    check_minibatches(config, agent.sequence_length)
    if optimizer is not None:
        chosen = optimizers.of_own(optimizer, shapes_of_params(env, agent.network))
    else:
        make = {"adam": optimizers.adam, "radam": optimizers.radam}[config.optimizer]
        chosen = make(config.max_grad_norm, config.optimizer_epsilon)
    schedule = rollout_learner.schedule_of(agent, config, num_epochs=config.num_epochs)
    parts = (partial(_make_batch, agent, config), partial(loss, agent, config))
    learn = partial(_learn, Learning(agent, config, chosen, schedule, *parts))
    return rollout_learner.as_algorithm(agent, config, chosen, learn=learn, metrics=METRICS)


# The functions below run on every device, each over its own environments.


def _learn(learning: Learning, learner: LearnerState, trajectory: Transition) -> tuple:
    chance = q_learning.epsilon(learning.config, learner.num_updates)
    learner, metrics = rollout_learner.learn(learning, learner, trajectory)
    return learner, metrics | {"epsilon": chance}


@jax.named_scope("advantages")
def _make_batch(
    agent: Agent, config: PQNConfig, learner: LearnerState, trajectory: Transition
) -> Batch:
    """Q(lambda) of one group, in rows of `L` steps: `[T / L * N, L, ...]`.

        G_t = r_t + gamma [(1 - lambda) max_a Q(s_{t+1}, a) + lambda G_{t+1}]

    as in `lambda_returns`, with the action values of the network that acted.
    """
    reward = config.reward_scale * rollout_learner.scaled_reward(config, learner, trajectory)
    target = rollout_learner.targets_of(config, trajectory, reward, config.q_lambda)
    return rollout_learner.make_rows(agent, trajectory, trajectory.value, target)


def loss(
    agent: Agent, config: PQNConfig, statistics: Any, params: Any, batch: Batch
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The mean of (Q(s_t, a_t) - G_t)^2 / 2, with targets that are constants.

    Args:
      agent: the agent.
      config: the settings.
      statistics: running statistics of the observations, or None.
      params: network parameters.
      batch: a minibatch, `[rows, L, ...]`.

    Returns:
      `(loss, metrics)`.
    """
    remat = config.execution.remat
    found: Any = rollout_learner.evaluate_rows(agent, params, statistics, batch, remat=remat)
    distribution, _, steps = found
    q_value = q_learning.of_action(distribution.q_values, steps.action)
    td_loss = losses.squared_value(q_value, steps.target).mean()
    return td_loss, {"td_loss": td_loss, "q_value": q_value.mean()}
