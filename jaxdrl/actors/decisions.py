"""The programs of an actor whose environments run on the host: decide, record, and put together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxdrl.algorithms.rollout import add_usable
from jaxdrl.core.magnitude import MAX_MAGNITUDE
from jaxdrl.core.programs import program
from jaxdrl.core.types import Acting, ActorState, LearnerState, Transition


@struct.dataclass
class Record:
    """What a device has recorded of a trajectory; rows after `step` are not filled yet.

    Attributes:
      step: number of steps so far, int32 `[]`.
      obs: `[T, N, ...]`.
      action: `[T, N, ...]`.
      log_prob: `[T, N]`.
      value: `[T, N]`.
      carry: recurrent state before each sequence, `[T / L, N, ...]`.
    """

    step: jax.Array
    obs: Any
    action: Any
    log_prob: jax.Array
    value: jax.Array
    carry: Any


@struct.dataclass
class Outcome:
    """What the environments answered to the actions of a trajectory, `[T, N]`.

    Attributes:
      reward: float32.
      terminated: bool.
      truncated: bool.
      final_value: V of the true successor where `truncated`, float32; meaningless elsewhere.
      final_obs: the true successor where `truncated`, `[T, N, ...]`; `()` where it is not kept.
    """

    reward: Any
    terminated: Any
    truncated: Any
    final_value: Any
    final_obs: Any


class Programs(NamedTuple):
    """Compiled functions, which run where the learner's arrays are.

    Attributes:
      start: `(learner, actor) -> (record, final_value)`, empty ones.
      decide: `(learner, record, key, env_ids, num_steps, carry, obs, episode_start) -> (record,
        carry, env_action)`. `key` and `num_steps` are those of the actor before the trajectory;
        the record is donated.
      look: `(learner, final_value, step, carry, obs) -> final_value`, with V of the final
        observations of one step in its row; `final_value` is donated.
      finish: `(learner, record, outcome, actor) -> (trajectory, actor)`. `actor` has the
        observations and the carry after the trajectory, and else what it had before; its
        environment states are left out. The record is donated.
    """

    start: Callable[..., tuple[Record, jax.Array]]
    decide: Callable[..., tuple[Record, Any, Any]]
    look: Callable[..., jax.Array]
    finish: Callable[..., tuple[Transition, ActorState]]


def programs_of(acting: Acting) -> Programs:
    """The programs of an algorithm; equal ones are compiled once."""
    return Programs(
        start=program(_start, (), acting),
        decide=program(_decide, (), acting, donated=("record",)),
        look=program(_look, (), acting, donated=("final_value",)),
        finish=program(_finish, (), acting, donated=("record",)),
    )


def _sequence_length(acting: Acting) -> int:
    return acting.sequence_length or acting.num_steps


def _start(acting: Acting, learner: LearnerState, actor: ActorState) -> tuple[Record, jax.Array]:
    decide = partial(acting.decide, env_ids=jnp.zeros(actor.key.shape, jnp.int32))
    decision = jax.eval_shape(
        decide, learner, actor.carry, actor.obs, actor.episode_start, actor.key
    )

    def empty(tree: Any, num: int = acting.num_steps) -> Any:
        return jax.tree.map(lambda x: jnp.zeros((num, *x.shape), x.dtype), tree)

    record = Record(
        step=jnp.zeros((), jnp.int32),
        obs=empty(actor.obs),
        action=empty(decision.action),
        log_prob=empty(decision.log_prob),
        value=empty(decision.value),
        carry=empty(actor.carry, acting.num_steps // _sequence_length(acting)),
    )
    return record, empty(decision.value)


def _decide(
    acting: Acting,
    learner: LearnerState,
    record: Record,
    key: jax.Array,
    env_ids: jax.Array,
    num_steps: jax.Array,
    carry: Any,
    obs: Any,
    episode_start: jax.Array,
) -> tuple[Record, Any, Any]:
    step = record.step
    keys = jax.vmap(jax.random.fold_in)(key, num_steps + step)
    decision = acting.decide(learner, carry, obs, episode_start, keys, env_ids=env_ids)
    sequence, place = jnp.divmod(step, jnp.int32(_sequence_length(acting)))

    def keep_first(rows: jax.Array, row: jax.Array) -> jax.Array:
        return rows.at[sequence].set(jnp.where(place == 0, row, rows[sequence]))

    record = Record(
        step=step + 1,
        obs=_write(record.obs, step, obs),
        action=_write(record.action, step, decision.action),
        log_prob=_write(record.log_prob, step, decision.log_prob),
        value=_write(record.value, step, decision.value),
        carry=jax.tree.map(keep_first, record.carry, carry),
    )
    return record, decision.carry, decision.env_action


def _write(rows: Any, step: jax.Array, row: Any) -> Any:
    return jax.tree.map(lambda rows, row: rows.at[step].set(row), rows, row)


def _look(
    acting: Acting,
    learner: LearnerState,
    final_value: jax.Array,
    step: jax.Array,
    carry: Any,
    obs: Any,
) -> jax.Array:
    no_start = jnp.zeros(final_value.shape[1:], jnp.bool)
    return _write(final_value, step, acting.value_of(learner, carry, obs, no_start))


def _finish(
    acting: Acting, learner: LearnerState, record: Record, outcome: Outcome, actor: ActorState
) -> tuple[Transition, ActorState]:
    """The trajectory and the state after it, as in `jaxdrl.algorithms.rollout.collect`."""
    ended = outcome.terminated | outcome.truncated
    before = actor.discounted_return, actor.episode_return, actor.episode_length
    after, sums = jax.lax.scan(partial(_count, acting.gamma), before, (outcome.reward, ended))
    trajectory = Transition(
        obs=record.obs,
        action=record.action,
        log_prob=record.log_prob,
        value=record.value,
        next_value=None,  # type: ignore[arg-type]
        reward=outcome.reward,
        terminated=outcome.terminated,
        truncated=outcome.truncated,
        discounted_return=sums[0],
        episode_return=sums[1],
        episode_length=sums[2],
        episode_start=jnp.concatenate([actor.episode_start[None], ended[:-1]]),
        carry=record.carry,
        final_obs=outcome.final_obs,
    )
    actor = actor.replace(  # type: ignore[attr-defined]
        episode_start=ended[-1],
        discounted_return=after[0],
        episode_return=after[1],
        episode_length=after[2],
    )
    last_value = acting.value_of(learner, actor.carry, actor.obs, actor.episode_start)
    following = jnp.concatenate([record.value[1:], last_value[None]])
    next_value = jnp.where(outcome.truncated, outcome.final_value, following)
    return trajectory.replace(next_value=next_value), actor  # type: ignore[attr-defined]


def _count(gamma: Any, sums: tuple, step: tuple[jax.Array, jax.Array]) -> tuple[tuple, tuple]:
    """Sums over the running episodes: those that the next step goes on from, and those of this."""
    (discounted, total, length), (reward, ended) = sums, step
    discounted = jnp.clip(add_usable(gamma * discounted, reward), -MAX_MAGNITUDE, MAX_MAGNITUDE)
    counted = discounted, add_usable(total, reward), length + 1
    return tuple(jnp.where(ended, jnp.zeros_like(x), x) for x in counted), counted
