"""Checks whether an environment keeps the contract that training relies on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import numpy as np

from jaxdrl.checks import Count, Seed, checked, require
from jaxdrl.core.keys import abstract_key, make_key
from jaxdrl.core.trees import is_key
from jaxdrl.envs import make
from jaxdrl.envs.contract.random_play import Observed, Starts, play, play_alone
from jaxdrl.envs.protocol import Environment, check_types
from jaxdrl.errors import ConfigError
from jaxdrl.io.console import make_console
from jaxdrl.io.numerals import short

MAX_STEPS = 10_000_000
"""The most steps over all copies, because every step is recorded."""

NUM_STEPS = 512
"""How many steps are played by default, unless twice the limit of an episode is less."""

NUM_STEPS_ALONE = 8
"""How many steps one environment plays without `vmap`, for comparison."""

Verdict = Literal["holds", "broken", "note"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
      what: the property that was checked, in a few words.
      verdict: whether it holds; "note" for something that may be intended.
      detail: what was seen, with environment and step if the property is broken.
    """

    what: str
    verdict: Verdict
    detail: str = ""

    def __str__(self) -> str:
        sign = {"holds": "  ok    ", "broken": "  BROKEN", "note": "  note  "}[self.verdict]
        return f"{sign}  {self.what}{': ' if self.detail else ''}{self.detail}"


@dataclass(frozen=True)
class EnvironmentReport:
    """The findings of `check_environment`; `print` shows them."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing is broken; there may be notes."""
        return not self.broken

    @property
    def broken(self) -> tuple[Finding, ...]:
        """The findings that break the contract."""
        return tuple(found for found in self.findings if found.verdict == "broken")

    def __str__(self) -> str:
        number = len(self.broken)
        verdict = f"{number} failed" if number else "none failed"
        first = f"{self.name}: {len(self.findings)} checks, {verdict}"
        return "\n".join([first, *map(str, self.findings)])


@checked
def check_environment(
    env: Environment, *, num_envs: Count = 8, num_steps: Count | None = None, seed: Seed = 0
) -> EnvironmentReport:
    """Plays at random and checks whether `env` keeps the contract of `jaxdrl.Environment`.

    It checks shapes, dtypes and weak types; that the functions are pure; that episodes start
    differently, and that keys in states differ; that `step` does not reset the environment itself,
    neither state nor observation; that the flags exclude each other and episodes keep to
    `max_episode_steps`; that rewards are finite and observations in their space; masks; and that
    `jit`, `vmap` and `scan` change nothing.

    Args:
      env: the environment.
      num_envs: number of copies to play.
      num_steps: number of steps of each; None takes enough for two episodes if there is a limit,
        and at most 512.
      seed: seed of all random numbers.
    """
    if num_steps is None:
        num_steps = min(2 * (env.max_episode_steps or NUM_STEPS) + 2, NUM_STEPS)
    most = max(1, MAX_STEPS // num_steps)
    works = f"must be at most {most} with {num_steps} steps of each"
    require(num_envs <= most and num_steps <= MAX_STEPS, "num_envs", num_envs, works)
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
        _check_limit(env, seen),
        _check_rewards(seen),
        _check_observations(seen),
        *_check_masks(env, seen),
        _check_alone(seen, alone),
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
    action = jax.eval_shape(env.action_space.sample, key)
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
    action = jax.eval_shape(env.action_space.sample, key)

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


def _where(mask: Any, seen: Observed) -> str:
    """The first step where `mask` holds, in words."""
    t, n = np.argwhere(mask)[0].tolist()
    others = int(mask.sum()) - 1
    more = f" (and {others:,} more)" if others else ""
    return f"environment {n}, step {int(seen.step[t, n])} of an episode{more}"


def _check_ends(starts: Starts, seen: Observed) -> list[Finding]:
    both = seen.terminated & seen.truncated
    what = "terminated and truncated exclude each other"
    detail = f"both at {_where(both, seen)}" if both.any() else ""
    found = [Finding(what, "broken" if both.any() else "holds", detail)]
    ended = seen.terminated | seen.truncated
    what = "step does not reset the environment"
    if not ended.any():
        steps = f"no episode ended in {seen.step.shape[0]} steps; take more with num_steps"
        return [*found, Finding(what, "note", steps)]
    reasons = {
        "the state at the end is that of a reset": seen.state_is_reset & (seen.step > 1),
        "the counter of steps is back at its start": seen.counter_is_reset,
    }
    details = [f"{words}, at {_where(m, seen)}" for words, m in reasons.items() if m.any()]
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
    where = f"{int(is_reset.sum())} of {num} are those of a reset: {_where(is_reset, seen)}"
    return [*found, Finding(what, verdict, where)]


def _check_limit(env: Environment, seen: Observed) -> Finding:
    limit, what = env.max_episode_steps, "episodes keep to max_episode_steps"
    if limit is None:
        if not seen.truncated.any():
            return Finding("there is no limit, and no episode is truncated", "holds")
        where = _where(seen.truncated, seen)
        return Finding(what, "broken", f"it is None, but an episode is truncated: {where}")
    over = seen.step > limit
    if over.any():
        return Finding(what, "broken", f"it is {limit}, but one continues: {_where(over, seen)}")
    early = seen.truncated & (seen.step < limit)
    if early.any():
        detail = f"it is {limit}, but an episode is truncated earlier: {_where(early, seen)}"
        return Finding(what, "note", detail)
    reached = int((seen.truncated & (seen.step == limit)).sum())
    return Finding(what, "holds", f"at most {limit} steps, which {reached} episodes reached")


def _check_rewards(seen: Observed) -> Finding:
    bad = ~np.isfinite(seen.reward)
    if bad.any():
        return Finding("rewards are finite", "broken", _where(bad, seen))
    low, high = seen.reward.min(), seen.reward.max()
    return Finding("rewards are finite", "holds", f"{short(float(low))} to {short(float(high))}")


def _check_observations(seen: Observed) -> Finding:
    what = "observations are finite and in observation_space"
    for words, bad in (("not finite", ~seen.finite), ("outside", ~seen.in_space)):
        if bad.any():
            return Finding(what, "broken", f"{words} at {_where(bad, seen)}")
    return Finding(what, "holds")


def _check_masks(env: Environment, seen: Observed) -> list[Finding]:
    if env.action_mask is None:
        return []
    none = seen.num_allowed < 1
    detail = f"it allows none at {_where(none, seen)}" if none.any() else ""
    what = "action_mask always allows an action"
    return [Finding(what, "broken" if none.any() else "holds", detail)]


def _check_alone(seen: Observed, alone: tuple[np.ndarray, ...]) -> Finding:
    """Compares one environment with and without `vmap`, until its episode ends."""
    what = "vmap changes nothing"
    ended = np.flatnonzero((seen.terminated | seen.truncated)[:, 0])
    num = min(len(alone[0]), int(ended[0]) + 1 if len(ended) else len(seen.step))
    among = (seen.obs_sum, seen.reward, seen.terminated, seen.truncated)
    for x, y in zip(among, alone, strict=True):
        x, y = x[:num, 0].astype(np.float32), y[:num].astype(np.float32)
        near = np.isclose(x, y, 1e-3, 1e-4, equal_nan=True)
        if not near.all():
            step = int(np.argmin(near)) + 1
            return Finding(
                what,
                "broken",
                f"an environment alone differs from one of {seen.step.shape[1]} at step {step}",
            )
    return Finding(what, "holds", f"{num} steps are the same with and without it")


def main(name: str, params: dict[str, Any], num_envs: int, num_steps: int | None) -> bool:
    """Checks an environment by name, prints the report, and returns whether the contract holds."""
    report = check_environment(make(name, **params), num_envs=num_envs, num_steps=num_steps)
    make_console().print(str(report), soft_wrap=True)
    return report.holds
