"""What a check of an environment finds, and the checks that look at recorded steps alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from jaxdrl.envs.contract.random_play import Observed
from jaxdrl.envs.protocol import Environment
from jaxdrl.io.numerals import short

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


def first_place(mask: Any, seen: Observed) -> str:
    """The first step where `mask` holds, in words."""
    t, n = np.argwhere(mask)[0].tolist()
    others = int(mask.sum()) - 1
    more = f" (and {others:,} more)" if others else ""
    return f"environment {n}, step {int(seen.step[t, n])} of an episode{more}"


def check_limit(env: Environment, seen: Observed) -> Finding:
    """Whether episodes keep to the limit."""
    limit, what = env.max_episode_steps, "episodes keep to max_episode_steps"
    if limit is None:
        if not seen.truncated.any():
            return Finding("there is no limit, and no episode is truncated", "holds")
        where = first_place(seen.truncated, seen)
        return Finding(what, "broken", f"it is None, but an episode is truncated: {where}")
    over = seen.step > limit
    if over.any():
        return Finding(
            what, "broken", f"it is {limit}, but one continues: {first_place(over, seen)}"
        )
    early = seen.truncated & (seen.step < limit)
    if early.any():
        detail = f"it is {limit}, but an episode is truncated earlier: {first_place(early, seen)}"
        return Finding(what, "note", detail)
    reached = int((seen.truncated & (seen.step == limit)).sum())
    return Finding(what, "holds", f"at most {limit} steps, which {reached} episodes reached")


def check_rewards(seen: Observed) -> Finding:
    """Whether all rewards are finite."""
    of_agents = tuple(range(2, seen.reward.ndim))
    bad = np.any(~np.isfinite(seen.reward), axis=of_agents)
    if bad.any():
        return Finding("rewards are finite", "broken", first_place(bad, seen))
    low, high = seen.reward.min(), seen.reward.max()
    return Finding("rewards are finite", "holds", f"{short(float(low))} to {short(float(high))}")


def check_observations(seen: Observed) -> Finding:
    """Whether all observations are finite and in their space."""
    what = "observations are finite and in observation_space"
    for words, bad in (("not finite", ~seen.finite), ("outside", ~seen.in_space)):
        if bad.any():
            return Finding(what, "broken", f"{words} at {first_place(bad, seen)}")
    return Finding(what, "holds")


def check_masks(env: Environment, seen: Observed) -> list[Finding]:
    """Whether the mask, if there is one, always allows an action."""
    if env.action_mask is None:
        return []
    none = seen.num_allowed < 1
    detail = f"it allows none at {first_place(none, seen)}" if none.any() else ""
    what = "action_mask always allows an action"
    return [Finding(what, "broken" if none.any() else "holds", detail)]


def check_flags(seen: Observed) -> Finding:
    """Whether no episode ends both ways at once."""
    both = seen.terminated & seen.truncated
    what = "terminated and truncated exclude each other"
    detail = f"both at {first_place(both, seen)}" if both.any() else ""
    return Finding(what, "broken" if both.any() else "holds", detail)
