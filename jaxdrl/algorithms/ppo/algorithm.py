"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347).

environment -> rollout -> advantages -> loss -> all-reduced gradient -> params
"""

from __future__ import annotations

from functools import partial

import jax
import optax
from flax import linen as nn
from jax.sharding import Mesh

from jaxdrl.algorithms import minibatch_sgd, optimizers, rollout_learner
from jaxdrl.algorithms.agent import Agent, make_agent
from jaxdrl.algorithms.batch import Batch
from jaxdrl.algorithms.correction import correct, evaluate_again
from jaxdrl.algorithms.optimizers import Optimizer
from jaxdrl.algorithms.ppo import objective
from jaxdrl.algorithms.ppo.objective import PPO, ExtraLoss
from jaxdrl.algorithms.rollout_learner import Learning
from jaxdrl.algorithms.seating import make_seating
from jaxdrl.checks import checked
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.rollout_sizes import check_minibatches
from jaxdrl.core.returns import gae
from jaxdrl.core.types import Algorithm, LearnerState, Network, Transition
from jaxdrl.envs.agents import activity
from jaxdrl.envs.protocol import Environment
from jaxdrl.networks.build import shapes_of_params


@checked
def ppo(
    env: Environment,
    config: PPOConfig,
    *,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    extra_loss: ExtraLoss | None = None,
    mesh: Mesh | None = None,
) -> Algorithm:
    """PPO as pure functions, on one device or sharded over those of a mesh.

    Args:
      env: from `jaxdrl.make`, `jaxdrl.envs.from_gymnax`, or an `Environment` of your own.
      config: the settings; counts in it are global.
      network: a flax module `obs [N, ...] float32 -> (policy_outputs, value [N])`, where obs is an
        array, or a dictionary of arrays if the observation space is a dictionary, and the outputs
        are as in `jaxdrl.Network`; or a `Network`, which may be recurrent
        (`jaxdrl.networks.from_recurrent`). None takes the network that the config describes.
      optimizer: an optax optimiser that needs the gradient and at most the loss (`value`). It is
        used as it is: `learning_rate`, `anneal_env_steps`, `max_grad_norm` and `adam_epsilon` of
        the config are ignored. None takes Adam with these settings.
      extra_loss: your own terms of the loss, an `ExtraLoss`.
      mesh: from `jaxdrl.make_mesh`; None computes on one device.

    Returns:
      An `Algorithm`. Its metrics are those of `jaxdrl.algorithms.update_metrics.METRICS` and of
      `jaxdrl.algorithms.ppo.objective.METRICS`, and one for each term of an `extra_loss`.

    Raises:
      ConfigError: if the mesh does not divide the shards, or if environment, network, optimiser or
        extra loss break their contracts.
    """
    agent = make_agent(
        env,
        config.network,
        config.execution,
        mesh=mesh,
        network=network,
        sequence_length=config.sequence_length or config.num_steps,
        observation_clip=config.observation_clip,
    )
    check_minibatches(config, agent.sequence_length)
    agent = agent._replace(seating=make_seating(env, config, agent.sequence_length))
    made = PPO(agent, config, _optimizer(agent, config, optimizer), extra_loss)
    if extra_loss is not None:
        objective.check_extra_loss(extra_loss, agent)
    return rollout_learner.as_algorithm(
        agent, config, made.optimizer, learn=partial(_learn, made), metrics=objective.METRICS
    )


def _optimizer(
    agent: Agent, config: PPOConfig, given: optax.GradientTransformation | None
) -> Optimizer:
    if given is None:
        return optimizers.adam(config.max_grad_norm, config.adam_epsilon)
    return optimizers.of_own(given, shapes_of_params(agent.env, agent.network))


# The functions below run on every device, each over its own environments.


def _learn(
    ppo: PPO, learner: LearnerState, trajectory: Transition
) -> tuple[LearnerState, dict[str, jax.Array]]:
    make_batch, loss = partial(_make_batch, ppo), partial(objective.loss, ppo)
    learning = Learning(ppo.agent, ppo.config, ppo.optimizer, _schedule(ppo), make_batch, loss)
    return rollout_learner.learn(learning, learner, trajectory)


def _schedule(ppo: PPO) -> minibatch_sgd.Schedule:
    config = ppo.config
    return rollout_learner.schedule_of(
        ppo.agent,
        config,
        num_epochs=config.num_epochs,
        standardize_advantages=config.standardize_advantages,
        target_kl=config.target_kl,
    )


@jax.named_scope("advantages")
def _make_batch(ppo: PPO, learner: LearnerState, trajectory: Transition) -> Batch:
    """Advantages and value targets of one group, in rows of `L` steps: `[T / L * N, L, ...]`."""
    reward = rollout_learner.scaled_reward(ppo.config, learner, trajectory)
    if ppo.config.correction == "none":
        value, target, advantage = _as_acted(ppo, trajectory, reward)
    else:
        value, target, advantage = _corrected(ppo, learner, trajectory, reward)
    return rollout_learner.make_rows(ppo.agent, trajectory, value, target, advantage)


def _as_acted(ppo: PPO, trajectory: Transition, reward: jax.Array) -> tuple[jax.Array, ...]:
    """`(value, target, advantage)` of the policy that acted."""
    advantage = gae(
        reward,
        trajectory.value,
        trajectory.next_value,
        trajectory.terminated,
        trajectory.truncated,
        gamma=ppo.config.gamma,
        gae_lambda=ppo.config.gae_lambda,
    )
    return trajectory.value, advantage + trajectory.value, advantage


def _corrected(
    ppo: PPO, learner: LearnerState, trajectory: Transition, reward: jax.Array
) -> tuple[jax.Array, ...]:
    """`(value, target, advantage)` of the learner's policy, by V-trace."""
    config = ppo.config
    log_prob, value = evaluate_again(ppo.agent, learner, trajectory, config)
    found = correct(
        trajectory,
        reward,
        log_prob,
        value,
        gamma=config.gamma,
        lambda_=config.gae_lambda,
        rho_clip=config.rho_clip,
        c_clip=config.c_clip,
        active=activity(ppo.agent.env, trajectory.obs),
    )
    # Without the weight of the ratio, which is a factor of PPO's loss already.
    return value, found.targets, found.advantage
