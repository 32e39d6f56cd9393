"""Plays whole episodes again and records them step by step, for pictures and films."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.core.programs import program
from jaxdrl.core.trees import is_key, match_rank
from jaxdrl.core.types import LearnerState, Policy
from jaxdrl.envs import Environment
from jaxdrl.evaluation.episode_loop import (
    Episodes,
    Rules,
    begin_episodes,
    of_policy,
    player_of,
    rules_of,
    step_episodes,
)
from jaxdrl.evaluation.episodes import first_device
from jaxdrl.evaluation.host_playback import play_drawn
from jaxdrl.evaluation.moments import Moment, Recording

CHUNK = 64
"""How many steps one compiled call plays."""


def record(
    env: Environment,
    policy: Policy,
    learner: LearnerState,
    key: jax.Array,
    *,
    num_envs: int,
    num_steps: int,
    max_frames: int,
    greedy: bool,
) -> list[Moment]:
    """Plays one episode in each environment, and records the start, the steps and the end.

    The episodes are those of `jaxdrl.evaluate` with the same key and number of episodes.

    Args:
      env: the environment.
      policy: `algorithm.policy`.
      learner: `state.learner`.
      key: PRNG key, consumed.
      num_envs: number of environments.
      num_steps: the step limit at which episodes are cut.
      max_frames: the most moments to record; beyond it, every second one is dropped, repeatedly.
      greedy: as in `jaxdrl.evaluate`.
    """
    learner, key = jax.device_put((learner, key), first_device(learner))
    if env.host is not None:
        return play_drawn(
            env,
            policy,
            learner,
            key,
            num_envs=num_envs,
            num_steps=num_steps,
            max_frames=max_frames,
            greedy=greedy,
        )
    rules, player = rules_of(env), player_of(env, policy)
    begin = program(begin_episodes, ("num_episodes",), rules, player)
    play_chunk = program(_play_chunk, ("greedy",), rules, player)
    episodes = begin(env.default_params, key, num_episodes=num_envs)
    recording = Recording(max_frames)
    begun = replace(episodes, returns=of_policy(rules, episodes.returns))
    start = _on_host(jax.tree.map(lambda x: x[None], begun))
    recording.add(_moment(start, 0), is_last=False)
    while True:
        episodes, played = play_chunk(env.default_params, learner, episodes, greedy=greedy)
        played = _on_host(played)
        for i in range(CHUNK):
            moment = _moment(played, i)
            is_last = moment.num_steps == num_steps or bool(moment.ended.all())
            recording.add(moment, is_last=is_last)
            if is_last:
                return recording.moments


def _play_chunk(
    rules: Rules,
    policy: Policy,
    params: Any,
    learner: LearnerState,
    episodes: Episodes,
    *,
    greedy: bool,
) -> tuple[Episodes, Episodes]:
    """Plays `CHUNK` steps: `(the last, all [CHUNK, ...])`; an ended episode keeps its state."""

    def body(episodes: Episodes, _: None) -> tuple[Episodes, Episodes]:
        before = _key_data(episodes.env_state)
        after = step_episodes(rules, policy, params, learner, episodes, greedy=greedy)
        held = _hold(episodes.ended, before, after.env_state)
        after = after.replace(env_state=held)  # type: ignore[attr-defined]
        returns = of_policy(rules, after.returns)
        # Without what pictures do not need.
        return after, after.replace(obs=(), carry=(), key=(), returns=returns)

    return jax.lax.scan(body, episodes, length=CHUNK)


def _key_data(tree: Any) -> Any:
    """Replaces keys by their data, because the key-reuse checker counts these keys as used."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree)


def _hold(ended: jax.Array, before: Any, after: Any) -> Any:
    """States `after [N, ...]`, or `before`, whose keys are data, where `ended [N]`."""

    def hold(old: jax.Array, new: jax.Array) -> jax.Array:
        if not is_key(new):
            return jnp.where(match_rank(ended, new), old, new)
        data = jax.random.key_data(new)
        kept = jnp.where(match_rank(ended, data), old, data)
        return jax.random.wrap_key_data(kept, impl=jax.random.key_impl(new))

    return jax.tree.map(hold, before, after)


def _on_host(episodes: Episodes) -> Episodes:
    """The same with NumPy arrays, except for keys, which NumPy does not have."""
    return jax.tree.map(lambda x: x if is_key(x) else np.asarray(x), episodes)


def _moment(played: Episodes, i: int) -> Moment:
    """A copy of row `i` of `played [steps, ...]`, so that `played` can be freed."""
    names = ("returns", "lengths", "terminated", "truncated")
    return Moment(
        num_steps=int(played.num_steps[i]),
        env_state=jax.tree.map(lambda x: x[i].copy(), played.env_state),
        **{name: getattr(played, name)[i].copy() for name in names},
    )
