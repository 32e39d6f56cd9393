"""Collects trajectories in environments of the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdrl.actors import episodes
from jaxdrl.actors.collector import Collected, Collector
from jaxdrl.actors.decisions import Outcome, Programs, Record, programs_of
from jaxdrl.core.keys import pinned
from jaxdrl.core.types import Acting, ActorState, LearnerState
from jaxdrl.envs.host.protocol import HostBatch, HostState
from jaxdrl.envs.protocol import Environment


@dataclass
class _Place:
    """Copies of an environment, and where they are between two trajectories.

    Attributes:
      batch: the copies; None until they are made.
      closed: whether the copies are to be ended.
      actor: the state on the device, without `env_state`; None while it is unknown.
      obs: the same observations as the copies gave them.
      base: what the seeds are drawn from, `[n]`.
      episode: number of the running episodes, `[n]`.
      num_steps: steps in all episodes, `[n]`.
      length: steps in the running episodes, `[n]`.
      actions: actions of the running episodes, `[n, M, ...]`.
    """

    batch: HostBatch | None = None
    closed: bool = False
    actor: ActorState | None = None
    obs: Any = None
    base: Any = None
    episode: Any = None
    num_steps: Any = None
    length: Any = None
    actions: Any = None


@dataclass
class _Host:
    """What a collector works with, and the place where its copies now are."""

    env: Environment
    acting: Acting
    device: jax.Device
    num_envs: int
    programs: Programs
    env_ids: jax.Array
    place: _Place = field(default_factory=_Place)


def host_collector(
    env: Environment, acting: Acting, device: jax.Device, num_envs: int, first: int = 0
) -> Collector:
    """A collector in copies of an environment of the host.

    After `close`, or after an error, `begin` makes its environments anew; a call that is still
    under way in another thread keeps the earlier ones, and cannot disturb these.

    Args:
      env: the environment, with a `host`.
      acting: of the algorithm.
      device: where the decisions are computed.
      num_envs: number of copies, `n`.
      first: global index of the first of them.
    """
    env_ids = jax.device_put(np.arange(first, first + num_envs, dtype=np.int32), device)
    host = _Host(env, acting, device, num_envs, programs_of(acting), env_ids)
    return Collector(
        begin=partial(_begin, host), collect=partial(_collect, host), close=partial(_close, host)
    )


def _close(host: _Host) -> None:
    place = host.place
    place.closed = True
    if place.batch is not None:
        place.batch.close()


def _begin(host: _Host, actor: ActorState, *, anew: bool = False) -> int:
    """The `begin` of a `Collector`."""
    _close(host)
    place = host.place = _Place()
    batch = place.batch = host.env.host.make(host.num_envs)
    if place.closed:  # meanwhile, by another thread, which may not have seen the batch
        batch.close()
        raise RuntimeError(f"{host.env.name}: its copies were closed while they were made")
    state: HostState = jax.device_get(actor.env_state)
    place.base = episodes.seed_bases(actor.key)
    place.actions, place.num_steps = state.actions, state.num_steps
    length = jax.device_get(actor.episode_length)
    place.obs, is_running = _resume(host, place, state, length, anew)
    if is_running.any():
        is_running &= episodes.equal_rows(place.obs, jax.device_get(actor.obs))
    place.episode = np.where(is_running, state.episode, state.episode + 1)
    place.length = np.where(is_running, length, 0)
    if not is_running.all():
        place.obs = batch.reset(~is_running, episodes.seeds_of(place.base, place.episode))
    place.actor = _begun(host, place, actor, is_running)
    return int((~is_running & (state.episode >= 0)).sum())


def _resume(
    host: _Host, place: _Place, state: Any, length: np.ndarray, anew: bool
) -> tuple[Any, np.ndarray]:
    """Plays the running episodes again: the observations, and which of them are running."""
    batch, actions, episode = place.batch, state.actions, state.episode
    assert batch is not None
    num_kept = actions.shape[1]
    rows = (episode >= 0) & (length <= num_kept) & bool(num_kept) & (not anew)
    seeds = partial(episodes.seeds_of, place.base)
    if batch.seek is not None and (episode >= 0).all():
        first = seeds(np.zeros_like(episode))
        return batch.seek(first, episode, actions, np.where(rows, length, 0)), rows
    if not rows.any():
        return None, rows
    return episodes.replay(batch, rows, seeds(np.maximum(episode, 0)), actions, length)


def _begun(host: _Host, place: _Place, actor: ActorState, is_running: np.ndarray) -> ActorState:
    """The state on the device, at its start in rows that are not running."""

    def kept(x: jax.Array) -> np.ndarray:
        return np.where(is_running, x, np.zeros((), x.dtype))

    actor = actor.replace(  # type: ignore[attr-defined]
        env_state=(),
        obs=jax.tree.map(lambda obs, x: np.asarray(obs, x.dtype), place.obs, actor.obs),
        episode_start=np.where(is_running, actor.episode_start, True),
        episode_return=kept(actor.episode_return),
        episode_length=kept(actor.episode_length),
        discounted_return=kept(actor.discounted_return),
    )
    return jax.device_put(actor, host.device, may_alias=False)


def _collect(host: _Host, learner: LearnerState, alive: Callable[[], None]) -> Collected:
    """The `collect` of a `Collector`."""
    place, begun = host.place, perf_counter()
    before, place.actor = place.actor, None  # stays unknown if this does not come to its end
    if before is None:
        raise RuntimeError(f"{host.env.name}: its environments have to begin first")
    with pinned():
        learner = jax.device_put(learner, host.device)
        played = _play(host, place, learner, before, alive)
        after: Any = replace(before, obs=place.obs, carry=played.carry)
        trajectory, actor = host.programs.finish(learner, played.record, played.outcome, after)
        env_state = jax.device_put(_count(place, played), host.device)
        jax.block_until_ready(trajectory)
    place.actor = actor
    seconds = dict(played.seconds)
    seconds["transfer"] = perf_counter() - begun - sum(seconds.values())
    return Collected(
        trajectory=trajectory, actor=replace(actor, env_state=env_state), seconds=seconds
    )


class _Played(NamedTuple):
    """A trajectory: what the device recorded, what the environments answered, and actions taken."""

    record: Record
    outcome: Outcome
    taken: np.ndarray
    carry: Any
    seconds: dict[str, float]


def _play(
    host: _Host, place: _Place, learner: LearnerState, actor: ActorState, alive: Callable[[], None]
) -> _Played:
    """Takes the steps of a trajectory, through the episodes of a place."""
    assert place.batch is not None
    programs, step_batch, reset_batch = host.programs, place.batch.step, place.batch.reset
    record, final_value = programs.start(learner, actor)
    num_steps = jax.device_put(place.num_steps, host.device)
    final_obs = _empty_like(place.obs, host.acting)
    taken, reward, terminated, truncated = _empty(host.acting.num_steps, place.actions)
    carry, obs, ended = actor.carry, place.obs, np.asarray(actor.episode_start)
    in_environment = in_inference = 0.0
    now = perf_counter()
    for t in range(len(taken)):
        alive()
        record, carry, action = programs.decide(
            learner, record, actor.key, host.env_ids, num_steps, carry, obs, ended
        )
        taken[t] = np.asarray(action)  # waits
        before, now = now, perf_counter()
        in_inference += now - before
        obs, reward[t], terminated[t], truncated[t] = step_batch(taken[t].copy())
        ended, last_obs = terminated[t] | truncated[t], obs
        if ended.any():
            place.episode = place.episode + ended
            obs = reset_batch(ended, episodes.seeds_of(place.base, place.episode))
        before, now = now, perf_counter()
        in_environment += now - before
        if truncated[t].any():
            final_value = programs.look(learner, final_value, np.int32(t), carry, last_obs)
            _keep(final_obs, t, truncated[t], last_obs)
    place.obs = obs
    seconds = {"environment": in_environment, "inference": in_inference}
    outcome = Outcome(
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        final_value=final_value,
        final_obs=final_obs,
    )
    return _Played(record, outcome, taken, carry, seconds)


def _empty(num_steps: int, actions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Actions, rewards and both flags of a trajectory, all still to be filled.

    They are new for each trajectory, since a device may use their memory without copying it.
    """
    shape, of_action = (num_steps, len(actions)), actions.shape[2:]
    taken = np.empty((*shape, *of_action), actions.dtype)
    return taken, np.empty(shape, np.float32), np.empty(shape, np.bool), np.empty(shape, np.bool)


def _empty_like(obs: Any, acting: Acting) -> Any:
    """Final observations of a trajectory, all still to be filled; `()` where they are not kept."""
    if not acting.keep_final_obs:
        return ()
    return jax.tree.map(lambda x: np.zeros((acting.num_steps, *x.shape), x.dtype), obs)


def _keep(final_obs: Any, t: int, truncated: np.ndarray, obs: Any) -> None:
    """Fills in the final observations of the episodes that were truncated in step `t`."""
    for rows, row in zip(jax.tree.leaves(final_obs), jax.tree.leaves(obs), strict=False):
        rows[t, truncated] = row[truncated]


def _count(place: _Place, played: _Played) -> HostState:
    """The episodes of a place after a trajectory."""
    ended = played.outcome.terminated | played.outcome.truncated
    place.actions, place.length = episodes.extend(place.actions, place.length, played.taken, ended)
    place.num_steps = place.num_steps + np.int32(len(ended))
    return HostState(episode=place.episode, num_steps=place.num_steps, actions=place.actions)  # type: ignore[arg-type]
