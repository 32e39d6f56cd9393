"""The stages of one update of jaxdrl, each by itself.

All that the benchmark takes from the inside of jaxdrl is here: `decide` of acting, `_make_batch`
of PPO and its `loss` of objective, `minibatch_rows` and `take` of sgd, `value_and_gradient` of
sharding, and the parts that an agent is made of.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxdrl
from benchmarks.cases import Case
from jaxdrl.algorithms import agent, minibatch_sgd
from jaxdrl.algorithms.ppo import algorithm, objective
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.distributed import sharding
from jaxdrl.distributed.microbatches import num_parts
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
    """The parts of an agent, and the data of one of its updates."""

    parts: Any
    state: Any
    trajectory: Any
    batch: Any
    minibatches: Any


def take_apart(case: Case, agent: jaxdrl.Algorithm, state: Any) -> Pieces:
    """The pieces of an agent on one device, in its next update."""
    parts = agent.policy.act.args[0]  # type: ignore[attr-defined]
    state, trajectory = jax.jit(agent.rollout)(state)
    statistics = state.learner.return_statistics
    batch = jax.jit(partial(algorithm._make_batch, parts))(statistics, trajectory)
    rows = jax.jit(partial(minibatch_rows, parts, case))(jax.random.key(1))
    return Pieces(parts, state, trajectory, batch, jax.jit(minibatch_sgd.take)(batch, rows))


def make_stages(case: Case, pieces: Pieces) -> dict[str, Stage]:
    """The stages by name, in the order of the update."""
    parts, state, trajectory, batch, minibatches = pieces
    learner, actor = state.learner, state.actor
    # Donation of the whole update must not take what the stages read.
    keys = jax.random.split(jax.random.key(2), case.num_envs)
    epoch_keys = jax.random.split(jax.random.key(3), case.num_epochs)
    minibatch = jax.tree.map(lambda x: x[0], minibatches)
    fitting = (learner.params, learner.obs_statistics)
    optimizing = (learner.params, learner.opt_state)
    return {
        "environment": Stage(
            partial(step_environments, parts),
            (actor.env_state, keys),
            trajectory.action,
            case.num_steps,
        ),
        "policy": Stage(partial(decide, parts), (learner, keys), trajectory.obs, case.num_steps),
        "advantages": Stage(
            partial(make_batch, parts), (learner.return_statistics, trajectory), jnp.zeros(1), 1
        ),
        "shuffle and gather": Stage(
            partial(shuffle, parts, case), (batch, minibatch), epoch_keys, case.num_epochs
        ),
        "gradients": Stage(partial(gradient, parts), fitting, minibatches, case.gradient_steps),
        "optimiser": Stage(
            partial(optimize, parts),
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


def step_environments(parts: Any, carry: tuple, action: Any) -> tuple[tuple, Any]:
    """A step of every environment with a given action, its resets and its keys."""
    env_state, keys = carry
    keys = jax.vmap(lambda key: jax.random.split(key, 3))(keys)
    action = parts.head.to_env(action)
    stepped = vector.step(parts.env, keys[:, 0], keys[:, 1], env_state, action)
    flags = (stepped.terminated, stepped.truncated)
    return (stepped.env_state, keys[:, 2]), (stepped.obs, stepped.reward, flags)


def decide(parts: Any, carry: tuple, obs: Any) -> tuple[tuple, Any]:
    """Actions for given observations, with log-probabilities and values."""
    learner, keys = carry
    keys = jax.vmap(lambda key: jax.random.split(key, 2))(keys)
    start = jnp.zeros(keys.shape[:1], jnp.bool)
    decision = agent.decide(parts, learner, (), obs, start, keys[:, 0])
    return (learner, keys[:, 1]), (decision.action, decision.log_prob, decision.value)


def make_batch(parts: Any, carry: tuple, _: Any) -> tuple[tuple, Any]:
    """Advantages and value targets of a given rollout."""
    return carry, algorithm._make_batch(parts, *carry)


def minibatch_rows(parts: Any, case: Case, key: jax.Array) -> jax.Array:
    """Rows of each minibatch of an epoch, `[num_minibatches, minibatch_size]`."""
    counts = (case.num_steps, case.num_minibatches, case.env_steps)
    rows = minibatch_sgd.minibatch_rows(parts.layout, key, *counts)
    return rows.reshape(case.num_minibatches, case.minibatch_size)


def shuffle(parts: Any, case: Case, carry: tuple, key: jax.Array) -> tuple[tuple, None]:
    """The minibatches of an epoch, gathered one after the other."""
    batch, minibatch = carry

    def gather(_: Any, rows: jax.Array) -> tuple[Any, None]:
        return minibatch_sgd.take(batch, rows), None

    minibatch, _ = jax.lax.scan(gather, minibatch, minibatch_rows(parts, case, key))
    return (batch, minibatch), None


def gradient(parts: Any, carry: tuple, minibatch: Any) -> tuple[tuple, None]:
    """The gradient of a minibatch, and a small step along it: else it would not be needed."""
    params, statistics = carry
    loss = partial(objective.loss, parts, statistics)
    group = jax.tree.map(lambda x: x[None], minibatch)
    num_parts = parts.config.execution.num_accumulation_steps
    slope, metrics = sharding.value_and_gradient(parts.layout, loss, params, group, num_parts)
    # The metrics are part of the work as well, and used where they cannot be left out.
    small = 1e-6 + 1e-12 * sum(jax.tree.leaves(metrics))
    return (jax.tree.map(lambda x, g: x - small * g, params, slope), statistics), None


def gradient_rows(parts: Any, case: Case) -> int:
    """Samples whose gradient is computed at a time."""
    given = parts.config.execution.num_accumulation_steps
    num = given or num_parts(case.minibatch_size, jax.devices()[0], reproducible=False)
    return case.minibatch_size // num


def optimize(parts: Any, carry: tuple, _: Any) -> tuple[tuple, None]:
    """A step of the optimiser, the parameters in place of their gradient."""
    params, opt_state = carry
    rate = parts.config.learning_rate
    with default_promotion():
        updates, opt_state = parts.optimizer.update(params, opt_state, params, learning_rate=rate)
        return (optax.apply_updates(params, updates), opt_state), None
