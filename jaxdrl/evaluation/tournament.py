"""A round robin: every player against every other one, and how strong that shows each to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

import jax
import numpy as np

from jaxdrl.checks import Count, EpisodeCount, Index, checked, require
from jaxdrl.core.types import Policy
from jaxdrl.envs.protocol import Environment
from jaxdrl.evaluation.elo import elo_intervals, fit_elo
from jaxdrl.evaluation.matches import play, require_agents


@dataclass(frozen=True)
class RoundRobin:
    """The result of `jaxdrl.round_robin` over K players.

    Attributes:
      names: names of the players.
      wins: games that player i won against j, int `[K, K]`.
      draws: games that they drew, int `[K, K]`, symmetric.
      num_distinct: games between them that differ from each other, int `[K, K]`, symmetric.
      num_cut: number of games that the step limit cut.
      elo: ratings `[K]`, with mean 0.
      ci95_low: lower ends of their 95% bootstrap intervals, `[K]`.
      ci95_high: upper ends of those intervals.
    """

    names: tuple[str, ...]
    wins: np.ndarray
    draws: np.ndarray
    num_distinct: np.ndarray
    num_cut: int
    elo: np.ndarray
    ci95_low: np.ndarray
    ci95_high: np.ndarray

    @property
    def num_games(self) -> np.ndarray:
        """Games between each two players, int `[K, K]`."""
        return self.wins + self.wins.T + self.draws

    @property
    def scores(self) -> np.ndarray:
        """Mean score of player i against j, `[K, K]`: 1 for a win and 1/2 for a draw.

        NaN on the diagonal.
        """
        with np.errstate(invalid="ignore"):
            return (self.wins + self.draws / 2) / self.num_games

    @property
    def figures(self) -> dict[str, Any]:
        """All of it as an object for JSON; None on the diagonal of the scores."""
        scores = [[None if i == j else x for j, x in enumerate(row)] for i, row in self._rows()]
        lists = {"elo": self.elo, "ci95_low": self.ci95_low, "ci95_high": self.ci95_high}
        counts = {"num_games": self.num_games, "wins": self.wins, "draws": self.draws}
        counts |= {"num_distinct": self.num_distinct}
        numbers = {name: array.tolist() for name, array in (lists | counts).items()}
        return {"names": list(self.names), **numbers, "scores": scores, "num_cut": self.num_cut}

    def _rows(self) -> Any:
        return enumerate(self.scores.tolist())


@checked
def round_robin(
    env: Environment,
    policy: Policy,
    learners: Sequence[Any],
    key: jax.Array,
    names: Sequence[str],
    *,
    num_games: EpisodeCount = 100,
    max_episode_steps: Count | None = None,
    greedy: bool = True,
    num_random_moves: Index = 0,
) -> RoundRobin:
    """Every learner plays every other one with the same policy, in all seats.

    Deterministic play repeats one game for each seat, so that a match of them says little; random
    opening moves or sampled actions make the games differ.

    Args:
      env: an environment of agents that compete.
      policy: `algorithm.policy`.
      learners: two or more, such as `state.learner` of several checkpoints.
      key: PRNG key, consumed.
      names: a different name for each learner.
      num_games: number of games between each two, rounded up as in `jaxdrl.play`. Of more than two
        agents, this many with either of them at one seat and the other at all others.
      max_episode_steps: as in `jaxdrl.play`.
      greedy: likewise.
      num_random_moves: likewise.

    Raises:
      ConfigError: for an environment whose agents do not compete, for fewer than two learners or
        names that are not one for each, and if a number is out of range.
    """
    num_agents, num = require_agents(env, "round_robin"), len(learners)
    require_competitive(env, "round_robin")
    _require_names(names, num)
    how: Any = {"max_episode_steps": max_episode_steps, "num_random_moves": num_random_moves}
    how |= {"num_games": num_games, "greedy": greedy}
    wins, draws, distinct = np.zeros((3, num, num), np.int64)
    num_cut, pairs = 0, combinations if num_agents == 2 else permutations
    for n, (i, j) in enumerate(pairs(range(num), 2)):
        both, match_key = [learners[i], learners[j]], jax.random.fold_in(key, n)
        match = play(env, [policy, policy], both, match_key, **how)
        found = match.overall
        wins[i, j], wins[j, i] = wins[i, j] + found.wins, wins[j, i] + found.losses
        for counts, count in ((draws, found.draws), (distinct, found.num_distinct)):
            counts[i, j] = counts[j, i] = counts[i, j] + count
        num_cut += found.num_cut
    low, high = elo_intervals(wins, draws)
    return RoundRobin(
        names=tuple(names),
        wins=wins,
        draws=draws,
        num_distinct=distinct,
        num_cut=num_cut,
        elo=fit_elo(wins + draws / 2),
        ci95_low=low,
        ci95_high=high,
    )


def _require_names(names: Sequence[str], num: int) -> None:
    require(num >= 2, "number of learners", num, "must be at least 2")
    works = f"must be {num} different ones, one for each learner"
    require(len(set(names)) == len(names) == num, "names", list(names), works)


def require_competitive(env: Environment, what: str) -> None:
    """Raises `ConfigError` unless the agents of an environment play against each other."""
    works = f"nobody wins, since the agents of {env.name} share one aim; compare mean returns"
    require(env.is_competitive, what, env.name, works)
