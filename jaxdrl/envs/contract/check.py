"""Whether an environment keeps the contract that training relies on, and what breaks it."""

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
from jaxdrl.envs import make
from jaxdrl.envs.contract.random_play import Sight, Starts, play, play_alone
from jaxdrl.envs.contract.state_inspection import is_key
from jaxdrl.envs.protocol import Environment, check_types
from jaxdrl.errors import ConfigError
from jaxdrl.io.console import make_console
from jaxdrl.io.numerals import short

MAX_STEPS = 10_000_000
"""Of all copies, whose every step is looked at."""

NUM_STEPS = 512
"""Steps that are played where nothing else is asked for, or twice the limit where that is less."""

ALONE = 8
"""Steps that one environment alone plays for comparison."""

Verdict = Literal["holds", "broken", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
      what: in a few words.
      verdict: "note" for what may be meant so.
      detail: what was seen, with environment and step where it is broken.
    """

    what: str
    verdict: Verdict
    detail: str = ""

    def __str__(self) -> str:
        sign = {"holds": "  ok    ", "broken": "  BROKEN", "note": "  note  "}[self.verdict]
        return f"{sign}  {self.what}{': ' if self.detail else ''}{self.detail}"


@dataclass(frozen=True)
class EnvironmentReport:
    """What `check_environment` found; `print` shows it."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing is broken; notes may be there."""
        return not self.broken

    @property
    def broken(self) -> tuple[Finding, ...]:
        """What breaks the contract."""
        return tuple(found for found in self.findings if found.verdict == "broken")

    def __str__(self) -> str:
        number = len(self.broken)
        verdict = f"{number} of them broken" if number else "none is broken"
        first = f"{self.name}: {len(self.findings)} things looked at, {verdict}"
        return "\n".join([first, *map(str, self.findings)])


@checked
def check_environment(
    env: Environment, *, num_envs: Count = 8, num_steps: Count | None = None, seed: Seed = 0
) -> EnvironmentReport:
    """Plays at random and looks whether `env` keeps the contract of `jaxdrl.Environment`.

    Looked at: shapes, dtypes and weak types; that the functions are pure; that starts differ, and
    keys in states too; that `step` does not reset by itself, neither state nor observation; that
    flags exclude each other and the limit is what `max_episode_steps` says; that rewards are finite
    and observations in their space; masks; that `jit`, `vmap` and `scan` change nothing.

    Args:
      env: the environment; `env.name` is what messages call it.
      num_envs: copies that are played.
      num_steps: steps of each; None: enough for two episodes where there is a limit, at most 512.
      seed: of everything random.
    """
    if num_steps is None:
        num_steps = min(2 * (env.max_episode_steps or NUM_STEPS) + 2, NUM_STEPS)
    most = max(1, MAX_STEPS // num_steps)
    works = f"must be at most {most} with {num_steps} steps of each"
    require(num_envs <= most and num_steps <= MAX_STEPS, "num_envs", num_envs, works)
    # Keys are used twice on purpose: by the environment, and to see what a reset makes of them.
    with jax.debug_key_reuse(False):
        return EnvironmentReport(env.name, _look(env, num_envs, num_steps, make_key(seed)))


def _look(env: Environment, num_envs: int, num_steps: int, key: jax.Array) -> tuple[Finding, ...]:
    types = _check_types(env)
    if types[0].verdict == "broken":  # nothing can be compiled
        return types
    keys = jax.random.split(key, num_envs)
    # Traced once, wherever they are called.
    traced = env._replace(reset=jax.jit(env.reset), step=jax.jit(env.step))
    starts, sight = jax.device_get(_compiled(play, num_steps)(traced, keys))
    alone = jax.device_get(_compiled(play_alone, min(ALONE, num_steps))(traced, keys[0]))
    return (
        *types,
        _check_purity(env),
        *_check_starts(starts),
        *_check_ends(starts, sight),
        _check_limit(env, sight),
        _check_rewards(sight),
        _check_observations(sight),
        *_check_masks(env, sight),
        _check_alone(sight, alone),
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
        return (Finding(what, "holds"), Finding("weak types too", "holds"))
    detail = f"other in {', '.join(weak[:3])}: jaxdrl mends it, a scan of your own would refuse it"
    return (Finding(what, "holds"), Finding("weak types", "note", detail))


def _check_purity(env: Environment) -> Finding:
    """Traces twice: numbers from outside, NumPy's for example, differ from trace to trace."""
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
            return Finding(what, "broken", f"{name} has other numbers in it each time")
    return Finding(what, "holds")


def _compiled(play: Callable, num_steps: int) -> Callable:
    """`play` for so many steps, compiled quickly: it runs for less time than it compiles."""
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
        found = [Finding(what, "note", "all start alike, whatever the key of reset")]
    for path, words in starts.keys.items():
        what = f"the key in env_state{path} is another in each environment"
        shared = len(np.unique(words.reshape(num, -1), axis=0)) < num
        detail = "environments share it: make it from the key of reset" if shared else ""
        found.append(Finding(what, "broken" if shared else "holds", detail))
    return found


def _where(mask: Any, sight: Sight) -> str:
    """The first step where `mask` holds, in words."""
    t, n = np.argwhere(mask)[0].tolist()
    others = int(mask.sum()) - 1
    more = f" (and {others:,} more)" if others else ""
    return f"environment {n}, step {int(sight.step[t, n])} of an episode{more}"


def _check_ends(starts: Starts, sight: Sight) -> list[Finding]:
    both = sight.terminated & sight.truncated
    what = "terminated and truncated exclude each other"
    detail = f"both at {_where(both, sight)}" if both.any() else ""
    found = [Finding(what, "broken" if both.any() else "holds", detail)]
    ended = sight.terminated | sight.truncated
    what = "step does not reset by itself"
    if not ended.any():
        steps = f"no episode ended in {sight.step.shape[0]} steps; num_steps takes more"
        return [*found, Finding(what, "note", steps)]
    reasons = {
        "the state at the end is that of a reset": sight.state_is_reset & (sight.step > 1),
        "what counts the steps is back at its start": sight.counter_is_reset,
    }
    details = [f"{words}, at {_where(m, sight)}" for words, m in reasons.items() if m.any()]
    counts = f"{int(sight.terminated.sum()):,} terminated, {int(sight.truncated.sum()):,} truncated"
    if details:
        found.append(Finding(what, "broken", "; ".join(details)))
    else:
        found.append(
            Finding(what, "holds", f"at the ends of {int(ended.sum())} episodes, {counts}")
        )
    what = "the last observation is the true successor"
    is_reset, num = sight.obs_is_reset & (sight.step > 1), int(ended.sum())
    if not is_reset.any():
        return [*found, Finding(what, "holds", "none is that of a reset")]
    # One may end where it began; all do so where they start in different places only by a mistake.
    starts_differ = len(np.unique(starts.prints)) > 1
    verdict: Verdict = "broken" if starts_differ and is_reset[ended].all() else "note"
    where = f"{int(is_reset.sum())} of {num} are what a reset gives: {_where(is_reset, sight)}"
    return [*found, Finding(what, verdict, where)]


def _check_limit(env: Environment, sight: Sight) -> Finding:
    limit, what = env.max_episode_steps, "episodes are as long as max_episode_steps says"
    if limit is None:
        if not sight.truncated.any():
            return Finding("there is no limit, and nothing is truncated", "holds")
        where = _where(sight.truncated, sight)
        return Finding(what, "broken", f"it is None, but an episode is truncated: {where}")
    over = sight.step > limit
    if over.any():
        return Finding(what, "broken", f"it is {limit}, and one goes on: {_where(over, sight)}")
    early = sight.truncated & (sight.step < limit)
    if early.any():
        detail = f"it is {limit}, and an episode is truncated before: {_where(early, sight)}"
        return Finding(what, "note", detail)
    reached = int((sight.truncated & (sight.step == limit)).sum())
    return Finding(what, "holds", f"at most {limit}, which {reached} reached")


def _check_rewards(sight: Sight) -> Finding:
    bad = ~np.isfinite(sight.reward)
    if bad.any():
        return Finding("rewards are finite", "broken", _where(bad, sight))
    low, high = sight.reward.min(), sight.reward.max()
    return Finding("rewards are finite", "holds", f"{short(float(low))} to {short(float(high))}")


def _check_observations(sight: Sight) -> Finding:
    what = "observations are finite and in observation_space"
    for words, bad in (("not finite", ~sight.finite), ("outside", ~sight.in_space)):
        if bad.any():
            return Finding(what, "broken", f"{words} at {_where(bad, sight)}")
    return Finding(what, "holds")


def _check_masks(env: Environment, sight: Sight) -> list[Finding]:
    if env.action_mask is None:
        return []
    none = sight.num_allowed < 1
    detail = f"none at {_where(none, sight)}" if none.any() else ""
    what = "action_mask always allows an action"
    return [Finding(what, "broken" if none.any() else "holds", detail)]


def _check_alone(sight: Sight, alone: tuple[np.ndarray, ...]) -> Finding:
    """Compares one environment alone with the same among others, until its episode ends."""
    what = "vmap changes nothing"
    ended = np.flatnonzero((sight.terminated | sight.truncated)[:, 0])
    num = min(len(alone[0]), int(ended[0]) + 1 if len(ended) else len(sight.step))
    among = (sight.obs_sum, sight.reward, sight.terminated, sight.truncated)
    for x, y in zip(among, alone, strict=True):
        x, y = x[:num, 0].astype(np.float32), y[:num].astype(np.float32)
        near = np.isclose(x, y, 1e-3, 1e-4, equal_nan=True)
        if not near.all():
            step = int(np.argmin(near)) + 1
            return Finding(
                what, "broken", f"one alone parts from one of {sight.step.shape[1]} at step {step}"
            )
    return Finding(what, "holds", f"{num} steps alone are those among others")


def main(name: str, params: dict[str, Any], num_envs: int, num_steps: int | None) -> bool:
    """Checks an environment by name, prints the report, and gives back whether it holds."""
    report = check_environment(make(name, **params), num_envs=num_envs, num_steps=num_steps)
    make_console().print(str(report), soft_wrap=True)
    return report.holds
