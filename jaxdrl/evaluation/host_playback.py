"""Plays whole episodes in an environment of the host, and draws them on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import jax
import numpy as np

from jaxdrl.core.keys import pinned
from jaxdrl.core.programs import program
from jaxdrl.core.types import LearnerState, Policy
from jaxdrl.envs.host.protocol import HostBatch
from jaxdrl.envs.protocol import Environment
from jaxdrl.errors import ConfigError
from jaxdrl.evaluation.host_episodes import Rounds, decide_rows, draw_seeds
from jaxdrl.evaluation.moments import Moment, Picture, Recording, packed, require_picture


@pinned()
def play_drawn(
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
    """As `jaxdrl.evaluation.playback.record`, in copies that can be drawn and are closed after it.

    A copy can only be drawn as it is now, so pictures are made while the episodes are played.
    """
    seeds, play_key = draw_seeds(key, num_envs)
    decide = program(decide_rows, ("greedy",), policy)
    carry = policy.initial_carry(num_envs)
    rounds, recording, now = Rounds(seeds, num_envs, num_steps), Recording(max_frames), 0
    with closing(_make_drawn(env)(num_envs)) as batch:
        rounds.begin(batch)
        pictures = [_draw(env, batch, row) for row in range(num_envs)]
        recording.add(_moment(now, pictures, rounds), is_last=False)
        while not rounds.are_over:
            action, carry = decide(learner, play_key, carry, *rounds.seen, greedy=greedy)
            rounds.step(batch, np.asarray(action))
            now += 1
            is_last = bool((rounds.starts | ~rounds.counts).all())
            wanted = rounds.counts if recording.keeps(now) else rounds.counts & rounds.starts
            for row in np.flatnonzero(wanted).tolist():
                pictures[row] = _draw(env, batch, row)
            recording.add(_moment(now, pictures, rounds), is_last=is_last)
            rounds.begin_next(batch)
    return recording.moments


def require_drawn(env: Environment) -> None:
    """Refuses an environment of the host of which there is no picture.

    One copy is made and drawn, because nothing else tells.

    Raises:
      ConfigError: if it has no picture, or cannot draw it here.
    """
    with _drawing(env), closing(_make_drawn(env)(1)) as batch:
        batch.reset(np.ones(1, bool), np.zeros(1, np.uint32))
        if batch.draw is None:
            raise ConfigError(
                f"env = {env.name!r}: has no picture, so there is no film of it; jaxdrl evaluate "
                "plays the same episodes"
            )
        _draw(env, batch, 0)


@contextmanager
def _drawing(env: Environment) -> Iterator[None]:
    """Says in one sentence why there is no picture: a library or a display may be missing."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # of any kind, from any package
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        hint = "; without a display, MuJoCo draws with MUJOCO_GL=egl" if "GL" in str(error) else ""
        raise ConfigError(f"env = {env.name!r}: could not be drawn: {why}{hint}") from error


def _make_drawn(env: Environment) -> Callable[[int], HostBatch]:
    return env.host.make_drawn or env.host.make


def _draw(env: Environment, batch: HostBatch, row: int) -> Picture:
    """The picture of one copy."""
    assert batch.draw is not None
    with _drawing(env):
        drawn = batch.draw(row)
    return packed(require_picture(env.name, drawn))


def _moment(num_steps: int, pictures: list[Picture], rounds: Rounds) -> Moment:
    names = ("returns", "lengths", "terminated", "truncated")
    figures = {name: getattr(rounds, name).copy() for name in names}
    return Moment(num_steps=num_steps, env_state=tuple(pictures), **figures)
