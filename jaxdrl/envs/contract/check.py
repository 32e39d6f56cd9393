"""Checks whether an environment keeps the contract that training relies on."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxdrl.checks import Count, Seed, checked, require
from jaxdrl.core.keys import abstract_key, make_key
from jaxdrl.core.trees import is_key
from jaxdrl.envs import make
from jaxdrl.envs.agents import abstract_actions
from jaxdrl.envs.contract.check_host import check_on_host, most_steps
from jaxdrl.envs.contract.findings import (
    EnvironmentReport,
    Finding,
    Verdict,
    check_flags,
    check_limit,
    check_masks,
    check_observations,
    check_rewards,
    first_place,
)
from jaxdrl.envs.contract.inactive_play import play_inactive
from jaxdrl.envs.contract.random_play import Observed, Starts, play, play_alone
from jaxdrl.envs.protocol import Environment
from jaxdrl.envs.type_checks import check_types
from jaxdrl.errors import ConfigError
from jaxdrl.io.console import make_console, say

MAX_STEPS = 10_000_000
"""The most steps over all copies, because every step is recorded."""

NUM_STEPS = 512
"""How many steps are played by default, unless twice the limit of an episode is less."""

NUM_STEPS_ALONE = 8
"""How many steps one environment plays without `vmap`, for comparison."""

NUM_STEPS_INACTIVE = 64
"""How many steps are repeated with other actions of inactive agents."""


@checked
def check_environment(
    env: Environment, *, num_envs: Count = 8, num_steps: Count | None = None, seed: Seed = 0
) -> EnvironmentReport:
    """Plays at random and checks whether `env` keeps the contract of `jaxdrl.Environment`.

    It checks shapes, dtypes and weak types; that the functions are pure; that episodes start
    differently, and that keys in states differ; that `step` does not reset the environment itself,
    neither state nor observation; that the flags exclude each other and episodes keep to
    `max_episode_steps`; that rewards are finite and observations in their space; masks; that agents
    which are not active have no influence; and that `jit`, `vmap` and `scan` change nothing. Of an
    environment of the host it checks what its copies give row by row: also that rows that are not
    reset keep their observation, that seeds decide episodes where that is promised, and that arrays
    are not written to later.

    Args:
      env: the environment.
      num_envs: number of copies to play.
      num_steps: number of steps of each; None takes enough for two episodes if there is a limit,
        and at most 512 (on the host 1,024, or fewer where observations are large).
      seed: seed of all random numbers.
    """
    if num_steps is None:
        at_most = NUM_STEPS if env.host is None else most_steps(env, num_envs)
        num_steps = min(2 * (env.max_episode_steps or at_most) + 2, at_most)
    most = max(1, MAX_STEPS // num_steps)
    works = f"must be at most {most} with {num_steps} steps of each"
    require(num_envs <= most and num_steps <= MAX_STEPS, "num_envs", num_envs, works)
    if env.host is not None:
        return EnvironmentReport(env.name, check_on_host(env, num_envs, num_steps, seed))
    # Keys are used twice on purpose: by the environment, and to find a hidden reset that used them.
    with jax.debug_key_reuse(False):
        return EnvironmentReport(env.name, _check_all(env, num_envs, num_steps, make_key(seed)))


def _check_all(
    env: Environment, num_envs: int, num_steps: int, key: jax.Array
) -> tuple[Finding, ...]:
    types = _check_types(env)
    if types[0].verdict == "broken":  # nothing can be compiled
        return types
    keys = jax.random.split(key, num_envs)
    # Under jit, so that each is traced only once.
    traced = env._replace(reset=jax.jit(env.reset), step=jax.jit(env.step))
    starts, seen = jax.device_get(_compiled(play, num_steps)(traced, keys))
    alone = jax.device_get(_compiled(play_alone, min(NUM_STEPS_ALONE, num_steps))(traced, keys[0]))
    return (
        *types,
        _check_purity(env),
        *_check_starts(starts),
        *_check_ends(starts, seen),
        check_limit(env, seen),
        check_rewards(seen),
        check_observations(seen),
        *check_masks(env, seen),
        _check_alone(seen, alone),
        *_check_inactive(traced, keys, min(NUM_STEPS_INACTIVE, num_steps)),
    )


def _check_types(env: Environment) -> tuple[Finding, ...]:
    what = "shapes and dtypes are the same after reset and step"
    try:
        check_types(env)
    except ConfigError as error:
        return (Finding(what, "broken", str(error)),)
    except Exception as error:
        return (
            Finding("reset and step can be traced", "broken", f"{type(error).__name__}: {error}"),
        )
    key = abstract_key()
    before = jax.eval_shape(env.reset, key, env.default_params)
    action = abstract_actions(env)
    after = jax.eval_shape(env.step, key, before[1], action, env.default_params)[:2]
    leaves, _ = jax.tree_util.tree_flatten_with_path(before)
    weak = [
        jax.tree_util.keystr(path[1:]) or "the whole"
        for (path, x), y in zip(leaves, jax.tree.leaves(after), strict=True)
        if x.weak_type != y.weak_type
    ]
    if not weak:
        return (Finding(what, "holds"), Finding("weak types are the same too", "holds"))
    detail = (
        f"different in {', '.join(weak[:3])}: jaxdrl corrects this, but a jax.lax.scan of your own "
        "would fail"
    )
    return (Finding(what, "holds"), Finding("weak types", "note", detail))


def _check_purity(env: Environment) -> Finding:
    """Traces twice: numbers from outside, such as NumPy's random ones, differ between traces."""
    what = "reset and step are pure: a second trace gives the same program"
    key = make_key(0)
    obs_and_state = jax.eval_shape(env.reset, key, env.default_params)
    action = abstract_actions(env)

    def trace() -> list[tuple[str, list]]:
        programs = [
            jax.make_jaxpr(lambda *args: env.reset(*args))(key, env.default_params),
            jax.make_jaxpr(lambda *args: env.step(*args))(
                key, obs_and_state[1], action, env.default_params
            ),
        ]
        return [
            (
                re.sub(r"0x[0-9a-f]+", "", str(p)),
                [np.asarray(c) for c in p.consts if not is_key(c)],
            )
            for p in programs
        ]

    for name, (first, consts), (second, others) in zip(
        ("reset", "step"), trace(), trace(), strict=True
    ):
        same = all(map(np.array_equal, consts, others)) and len(consts) == len(others)
        if first != second or not same:
            return Finding(what, "broken", f"{name} contains different numbers each time")
    return Finding(what, "holds")


def _compiled(play: Callable, num_steps: int) -> Callable:
    """`play` for `num_steps` steps, compiled with few optimisations, because it runs only once."""
    quickly: dict[str, Any] = {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    }
    of_length = partial(play, num_steps=num_steps)
    return jax.jit(of_length, static_argnums=0, compiler_options=quickly)


def _check_starts(starts: Starts) -> list[Finding]:
    what, num = "episodes start differently", len(starts.prints)
    distinct = len(np.unique(starts.prints))
    found = [Finding(what, "holds", f"{distinct} of {num} starts are distinct")]
    if distinct == 1:
        found = [Finding(what, "note", "all start alike, whatever key reset gets")]
    for path, words in starts.keys.items():
        what = f"the key in env_state{path} differs between environments"
        shared = len(np.unique(words.reshape(num, -1), axis=0)) < num
        detail = "environments share it: make it from the key that reset gets" if shared else ""
        found.append(Finding(what, "broken" if shared else "holds", detail))
    return found


def _check_ends(starts: Starts, seen: Observed) -> list[Finding]:
    found = [check_flags(seen)]
    ended = seen.terminated | seen.truncated
    what = "step does not reset the environment"
    if not ended.any():
        steps = f"no episode ended in {seen.step.shape[0]} steps; take more with num_steps"
        return [*found, Finding(what, "note", steps)]
    reasons = {
        "the state at the end is that of a reset": seen.state_is_reset & (seen.step > 1),
        "the counter of steps is back at its start": seen.counter_is_reset,
    }
    details = [f"{words}, at {first_place(m, seen)}" for words, m in reasons.items() if m.any()]
    counts = f"{int(seen.terminated.sum()):,} terminated, {int(seen.truncated.sum()):,} truncated"
    if details:
        found.append(Finding(what, "broken", "; ".join(details)))
    else:
        found.append(
            Finding(what, "holds", f"at the ends of {int(ended.sum())} episodes, {counts}")
        )
    what = "the last observation is the true successor"
    is_reset, num = seen.obs_is_reset & (seen.step > 1), int(ended.sum())
    if not is_reset.any():
        return [*found, Finding(what, "holds", "none is that of a reset")]
    # An episode may end where it began, but if starts differ, not all episodes can.
    starts_differ = len(np.unique(starts.prints)) > 1
    verdict: Verdict = "broken" if starts_differ and is_reset[ended].all() else "note"
    where = f"{int(is_reset.sum())} of {num} are those of a reset: {first_place(is_reset, seen)}"
    return [*found, Finding(what, verdict, where)]


def _check_alone(seen: Observed, alone: tuple[np.ndarray, ...]) -> Finding:
    """Compares one environment with and without `vmap`, until its episode ends."""
    what = "vmap changes nothing"
    ended = np.flatnonzero((seen.terminated | seen.truncated)[:, 0])
    num = min(len(alone[0]), int(ended[0]) + 1 if len(ended) else len(seen.step))
    among = (seen.obs_sum, seen.reward, seen.terminated, seen.truncated)
    for x, y in zip(among, alone, strict=True):
        x, y = x[:num, 0].astype(np.float32), y[:num].astype(np.float32)
        near = np.isclose(x, y, 1e-3, 1e-4, equal_nan=True).reshape(num, -1).all(axis=1)
        if not near.all():
            step = int(np.argmin(near)) + 1
            return Finding(
                what,
                "broken",
                f"an environment alone differs from one of {seen.step.shape[1]} at step {step}",
            )
    return Finding(what, "holds", f"{num} steps are the same with and without it")


def _check_inactive(env: Environment, keys: jax.Array, num_steps: int) -> list[Finding]:
    """Whether agents that are not active have no influence, and whether one always is."""
    if env.active is None:
        return []
    active, differs = jax.device_get(_compiled(play_inactive, num_steps)(env, keys))
    what, idle = "what inactive agents do has no effect", int((~active).sum())
    detail = f"in {idle:,} of {active.size:,} observations of an agent it is not active"
    if differs.any():
        t, n = np.argwhere(differs)[0].tolist()
        detail = f"other actions of inactive agents change step {t + 1} of environment {n}"
    found = [Finding(what, "broken" if differs.any() else "holds", detail)]
    none = ~active.any(axis=2)
    if none.any():
        t, n = np.argwhere(none)[0].tolist()
        detail = f"none is in {int(none.sum()):,} steps, such as step {t + 1} of environment {n}"
        found.append(Finding("some agent is active", "note", detail))
    return found


def main(name: str, params: dict[str, Any], num_envs: int, num_steps: int | None) -> bool:
    """Checks an environment by name, prints the report, and returns whether the contract holds."""
    report = check_environment(make(name, **params), num_envs=num_envs, num_steps=num_steps)
    say(make_console(), str(report))
    return report.holds
