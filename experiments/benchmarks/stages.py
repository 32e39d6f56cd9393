"""The stages of one update of jaxdrl, each by itself.

All that the benchmark takes from the inside of jaxdrl is here: `decide` of an agent, `_make_batch`
of PPO and its `loss` of objective, `minibatch_rows` and `take` of sgd, `mean_gradient` of
sharding, and what the functions of PPO are made of.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxdrl
from benchmarks.cases import Case
from jaxdrl.algorithms import acting, minibatch_sgd
from jaxdrl.algorithms.agent import Agent
from jaxdrl.algorithms.ppo import algorithm, objective
from jaxdrl.core.types import TrainState
from jaxdrl.distributed.gradient import mean_gradient
from jaxdrl.distributed.microbatches import num_microbatches
from jaxdrl.envs import vector


class Stage(NamedTuple):
    """A part of the update: passes one after the other, as `jax.lax.scan` makes them.

    Attributes:
      once: one pass, `(carry, x) -> (carry, out)`.
      carry: what it begins with, and all large arrays that it reads, or they would be constants.
      xs: one x a pass.
      times: passes in one update; more than there are xs where it goes through them again.
    """

    once: Callable[..., tuple[Any, Any]]
    carry: Any
    xs: Any
    times: int


class Pieces(NamedTuple):
    """What an algorithm on one device is made of, and the data of one of its updates."""

    ppo: objective.PPO
    state: Any
    trajectory: Any
    batch: Any
    minibatches: Any


def take_apart(case: Case, agent: jaxdrl.Algorithm, state: Any) -> Pieces:
    """The pieces of an agent on one device, in its next update."""
    ppo: objective.PPO = agent.learn.args[0]  # type: ignore[attr-defined]
    actor, trajectory = jax.jit(agent.rollout)(state.learner, state.actor)
    state = TrainState(learner=state.learner, actor=actor)
    batch = jax.jit(partial(algorithm._make_batch, ppo))(state.learner, trajectory)
    rows = jax.jit(partial(minibatch_rows, ppo, case))(jax.random.key(1))
    return Pieces(ppo, state, trajectory, batch, jax.jit(minibatch_sgd.take)(batch, rows))


def make_stages(case: Case, pieces: Pieces) -> dict[str, Stage]:
    """The stages by name, in the order of the update."""
    ppo, state, trajectory, batch, minibatches = pieces
    agent = ppo.agent
    learner, actor = state.learner, state.actor
    # Donation of the whole update must not take what the stages read.
    keys = jax.random.split(jax.random.key(2), case.num_envs)
    epoch_keys = jax.random.split(jax.random.key(3), case.num_epochs)
    minibatch = jax.tree.map(lambda x: x[0], minibatches)
    fitting = (learner.params, learner.obs_statistics)
    optimizing = (learner.params, learner.opt_state)
    return {
        "environment": Stage(
            partial(step_environments, agent),
            (actor.env_state, keys),
            trajectory.action,
            case.num_steps,
        ),
        "policy": Stage(partial(decide, agent), (learner, keys), trajectory.obs, case.num_steps),
        "advantages": Stage(partial(make_batch, ppo), (learner, trajectory), jnp.zeros(1), 1),
        "shuffle and gather": Stage(
            partial(shuffle, ppo, case), (batch, minibatch), epoch_keys, case.num_epochs
        ),
        "gradients": Stage(partial(gradient, ppo), fitting, minibatches, case.gradient_steps),
        "optimiser": Stage(
            partial(optimize, ppo),
            optimizing,
            jnp.zeros(case.gradient_steps),
            case.gradient_steps,
        ),
    }


def run(stage: Stage, carry: Any, xs: Any) -> Any:
    """All passes of one update."""
    repeats = stage.times // len(jax.tree.leaves(xs)[0])
    if repeats == 1:
        return jax.lax.scan(stage.once, carry, xs)

    def again(carry: Any, _: None) -> tuple[Any, None]:
        return jax.lax.scan(stage.once, carry, xs)[0], None

    return jax.lax.scan(again, carry, length=repeats)


# One pass of each stage.


def step_environments(agent: Agent, carry: tuple, action: Any) -> tuple[tuple, Any]:
    """A step of every environment with a given action, its resets and its keys."""
    env_state, keys = carry
    keys = jax.vmap(lambda key: jax.random.split(key, 3))(keys)
    action = agent.head.to_env(action)
    stepped = vector.step(agent.env, keys[:, 0], keys[:, 1], env_state, action)
    flags = (stepped.terminated, stepped.truncated)
    return (stepped.env_state, keys[:, 2]), (stepped.obs, stepped.reward, flags)


def decide(agent: Agent, carry: tuple, obs: Any) -> tuple[tuple, Any]:
    """Actions for given observations, with log-probabilities and values."""
    learner, keys = carry
    keys = jax.vmap(lambda key: jax.random.split(key, 2))(keys)
    start = jnp.zeros(keys.shape[:1], jnp.bool)
    decision = acting.decide(agent, learner, (), obs, start, keys[:, 0])
    return (learner, keys[:, 1]), (decision.action, decision.log_prob, decision.value)


def make_batch(ppo: objective.PPO, carry: tuple, _: Any) -> tuple[tuple, Any]:
    """Advantages and value targets of a given rollout."""
    return carry, algorithm._make_batch(ppo, *carry)


def minibatch_rows(ppo: objective.PPO, case: Case, key: jax.Array) -> jax.Array:
    """Rows of each minibatch of an epoch, `[num_minibatches, minibatch_size]`."""
    counts = (case.num_steps, case.num_minibatches, case.env_steps)
    rows = minibatch_sgd.minibatch_rows(ppo.agent.layout, key, *counts)
    return rows.reshape(case.num_minibatches, case.minibatch_size)


def shuffle(ppo: objective.PPO, case: Case, carry: tuple, key: jax.Array) -> tuple[tuple, None]:
    """The minibatches of an epoch, gathered one after the other."""
    batch, minibatch = carry

    def gather(_: Any, rows: jax.Array) -> tuple[Any, None]:
        return minibatch_sgd.take(batch, rows), None

    minibatch, _ = jax.lax.scan(gather, minibatch, minibatch_rows(ppo, case, key))
    return (batch, minibatch), None


def gradient(ppo: objective.PPO, carry: tuple, minibatch: Any) -> tuple[tuple, None]:
    """The gradient of a minibatch, and a small step along it: else it would not be needed."""
    params, statistics = carry
    loss = partial(objective.loss, ppo, statistics)
    group = jax.tree.map(lambda x: x[None], minibatch)
    num_parts = ppo.config.execution.num_accumulation_steps
    slope, metrics = mean_gradient(ppo.agent.layout, loss, params, group, num_parts)
    # The metrics are part of the work as well, and used where they cannot be left out.
    small = 1e-6 + 1e-12 * sum(jax.tree.leaves(metrics))
    return (jax.tree.map(lambda x, g: x - small * g, params, slope), statistics), None


def gradient_rows(ppo: objective.PPO, case: Case) -> int:
    """Samples whose gradient is computed at a time."""
    given = ppo.config.execution.num_accumulation_steps
    num = given or num_microbatches(case.minibatch_size, jax.devices()[0], reproducible=False)
    return case.minibatch_size // num


def optimize(ppo: objective.PPO, carry: tuple, _: Any) -> tuple[tuple, None]:
    """A step of the optimiser, the parameters in place of their gradient."""
    params, opt_state = carry
    rate = {"learning_rate": ppo.config.learning_rate}
    return ppo.optimizer.step(params, rate, params, opt_state), None
