"""Self-play against a pool of past selves, which is part of the learner and so of checkpoints.

Of the `n` environments of every logical shard, the last `p` are played against the pool: number `j`
of them against slot `j % K`, with the learner at agent `(j // K) % A` and the policy of the slot at
all others. None of this depends on the devices. A trajectory has no rows of opponents. A slot is
renewed between two updates, and its environments are then reset, so that no game ever has its
opponent exchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdrl.algorithms import rollout
from jaxdrl.algorithms.seating import NOBODY, Seating
from jaxdrl.core.types import ActorState, LearnerState, Reduction, Transition
from jaxdrl.envs import vector
from jaxdrl.envs.agents import by_env, to_rows
from jaxdrl.envs.protocol import Environment

METRICS: dict[str, Reduction] = {"pool_return_sum": "sum", "num_pool_episodes": "sum"}
"""Metrics of the games against the pool: the sum of the learner's returns, and their number.

With a pool, the metrics of episodes in `update_metrics.METRICS` are those of all other games."""


@struct.dataclass
class Pool:
    """Past selves of a learner, in `K` slots.

    Attributes:
      params: network parameters, `[K, ...]`.
      obs_statistics: running moments of the observations, `[K, ...]`, None where the learner has
        none.
      taken_at: the number of updates that the learner had seen, int32 `[K]`.
      renewed: the slot that the last update renewed, whose environments begin anew, int32; or
        `NOBODY`.
    """

    params: Any
    obs_statistics: Any
    taken_at: jax.Array
    renewed: jax.Array


def full_pool(num_slots: int, params: Any, obs_statistics: Any) -> Pool:
    """A pool with the same policy in each slot, before the first update."""

    def each(x: Any) -> jax.Array:
        return jnp.tile(x, (num_slots, *(1,) * jnp.ndim(x)))

    return Pool(
        params=jax.tree.map(each, params),
        obs_statistics=jax.tree.map(each, obs_statistics),
        taken_at=jnp.zeros((num_slots,), jnp.int32),
        renewed=jnp.full((), NOBODY, jnp.int32),
    )


def refilled(learner: LearnerState) -> LearnerState:
    """The learner with its own policy in each slot of its pool, if it has one."""
    if isinstance(learner.pool, tuple):
        return learner
    num_slots = learner.pool.taken_at.shape[0]
    return replace(learner, pool=full_pool(num_slots, learner.params, learner.obs_statistics))


# The functions below run on every device.


def renew(seating: Seating, learner: LearnerState) -> Pool:
    """The pool after an update, with the new policy in the oldest slot when it is time."""
    pool, count = learner.pool, learner.num_updates // seating.every
    is_due = learner.num_updates % seating.every == 0
    slot = (count - 1) % seating.num_slots

    def put(old: jax.Array, new: jax.Array) -> jax.Array:
        return old.at[slot].set(jnp.where(is_due, new, old[slot]))

    return Pool(
        params=jax.tree.map(put, pool.params, learner.params),
        obs_statistics=jax.tree.map(put, pool.obs_statistics, learner.obs_statistics),
        taken_at=put(pool.taken_at, learner.num_updates),
        renewed=jnp.where(is_due, slot, NOBODY),
    )


def restart_renewed(
    seating: Seating,
    num_shards: int,
    env: Environment,
    initial_carry: Callable[[int], Any],
    pool: Pool,
    actor: ActorState,
) -> ActorState:
    """Begins the environments anew that are played against the slot which was renewed.

    Nothing is lost, since a trajectory ends in the value of the last observation. Each environment
    begins from its own key, and hardly any other is reset (`vector.update_rows`).

    Args:
      seating: who plays where.
      num_shards: logical shards that the environments are from.
      env: the environment.
      initial_carry: as in `rollout.init_actor`.
      pool: the pool.
      actor: state of the environments.
    """
    slots = jnp.asarray(np.tile(seating.slot, num_shards), jnp.int32)
    is_new = (slots == pool.renewed) & (pool.renewed != NOBODY)
    nothing: Any = ()
    # As data, for the same reason as in `vector.step`.
    key_data, impl = jax.random.key_data(actor.key), jax.random.key_impl(actor.key)

    def by_envs(actor: ActorState) -> ActorState:
        rows = by_env(env.num_agents, replace(actor, env_state=nothing, key=nothing))
        return replace(rows, env_state=actor.env_state, key=jax.random.key_data(actor.key))

    def begin(chosen: jax.Array) -> ActorState:
        keys = jax.random.wrap_key_data(key_data.at[chosen].get(mode="clip"), impl=impl)
        return by_envs(rollout.init_actor(env, initial_carry, keys))

    found = vector.update_rows(is_new, begin, by_envs(actor), is_costly=env.costly_reset)
    rows = to_rows(env.num_agents, replace(found, env_state=nothing, key=nothing))
    keys = jax.random.wrap_key_data(found.key, impl=impl)
    return replace(rows, env_state=found.env_state, key=keys)


def decide(
    seating: Seating,
    num_shards: int,
    of_learner: Callable[..., rollout.Decision],
    of_slot: Callable[..., rollout.Decision],
    pool: Pool,
    carry: Any,
    obs: Any,
    episode_start: Any,
    keys: jax.Array,
) -> rollout.Decision:
    """The decisions for all rows: of the learner for its own, and of each slot for its own.

    Args:
      seating: who plays where.
      num_shards: logical shards that the rows are from.
      of_learner: `(carry, obs, episode_start, keys) -> decision` of the learner, for any number of
        rows.
      of_slot: the same of a slot, after its `(params, obs_statistics)`.
      pool: the pool.
      carry: recurrent state of all rows.
      obs: observations of all rows.
      episode_start: bool, for all rows.
      keys: a key for each row; consumed.
    """
    own, others = seating.learner_rows(num_shards), seating.slot_rows(num_shards)
    # As data, because the key-reuse checker cannot see that both take other rows.
    seen = carry, obs, episode_start, jax.random.key_data(keys)

    def rows(indices: np.ndarray) -> tuple[Any, ...]:
        *chosen, data = jax.tree.map(lambda x: x[indices], seen)
        return *chosen, jax.random.wrap_key_data(data, impl=jax.random.key_impl(keys))

    decision = of_learner(*rows(own))
    against = jax.vmap(of_slot)(pool.params, pool.obs_statistics, *rows(others))
    # Where each row is among those of the learner and then those of the slots.
    order = np.argsort(np.concatenate([own, others.reshape(-1)]))

    def join(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.concatenate([x, y.reshape(-1, *y.shape[2:])])[order]

    return jax.tree.map(join, decision, against)


def without_opponents(seating: Seating, num_shards: int, trajectory: Transition) -> Transition:
    """A trajectory of the rows that the learner decided for, `[T, rows, ...]`."""
    own = seating.learner_rows(num_shards)
    return jax.tree.map(lambda x: x[:, own], trajectory)
