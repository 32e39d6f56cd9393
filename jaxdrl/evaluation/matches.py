"""Matches between policies: whole games in which the seats are taken in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.checks import Count, EpisodeCount, Index, checked, require
from jaxdrl.core.programs import program
from jaxdrl.core.types import LearnerState, Policy
from jaxdrl.envs.protocol import Environment
from jaxdrl.errors import ConfigError
from jaxdrl.evaluation.episode_loop import (
    Episodes,
    Rules,
    begin_episodes,
    rules_of,
    step_episodes,
)
from jaxdrl.evaluation.episodes import DEFAULT_MAX_STEPS, bootstrap_interval, first_device
from jaxdrl.evaluation.game_digests import digest_of, followed_by
from jaxdrl.evaluation.seats import opened_at_random, random_policy, seat_of, seated

Z95 = 1.959963984540054
"""The 97.5% quantile of the normal distribution."""

OUTCOMES = ("win", "draw", "loss")
"""What a game can be for a player."""


@dataclass(frozen=True)
class Score:
    """What games came to for the first policy of a match.

    It wins a game if its return is greater than that of every agent that another policy plays, and
    loses it if one of these has a greater return; otherwise the game is a draw.

    Attributes:
      num_games: number of games.
      wins: number of games that it won.
      draws: likewise, drawn.
      losses: likewise, lost.
      mean_return: its mean return.
      ci95_low: lower end of the 95% bootstrap interval of that mean.
      ci95_high: upper end of that interval.
      mean_length: mean number of steps of a game.
      num_cut: number of games that were still running at the step limit of the match; they count
        by the returns until then.
      num_distinct: number of games that differ from each other in what the agents saw.
    """

    num_games: int
    wins: int
    draws: int
    losses: int
    mean_return: float
    ci95_low: float
    ci95_high: float
    mean_length: float
    num_cut: int
    num_distinct: int

    def share(self, outcome: Literal["win", "draw", "loss"]) -> tuple[float, float, float]:
        """The share of games with an outcome, and the ends of its 95% Wilson interval."""
        counts = dict(zip(OUTCOMES, (self.wins, self.draws, self.losses), strict=True))
        return counts[outcome] / self.num_games, *wilson_interval(counts[outcome], self.num_games)

    @property
    def figures(self) -> dict[str, Any]:
        """The counts, shares and means, as an object for JSON."""
        found: dict[str, Any] = {"num_games": self.num_games, "num_distinct": self.num_distinct}
        for outcome in OUTCOMES:
            share, low, high = self.share(outcome)  # type: ignore[arg-type]
            name = f"{outcome}_share"
            found |= {name: share, f"{name}_ci95_low": low, f"{name}_ci95_high": high}
        means = {"mean_return": self.mean_return, "ci95_low": self.ci95_low}
        means |= {"ci95_high": self.ci95_high, "mean_length": self.mean_length}
        return found | means | {"num_cut": self.num_cut}


@dataclass(frozen=True)
class Match:
    """The result of `jaxdrl.play`, from the side of the first policy.

    Attributes:
      overall: what all games came to.
      seats: what those came to in which it played agent 0, agent 1 and so on.
      num_random_moves: number of steps at the start of each game in which all moved at random.
      returns: return of each agent, float32 `[num_games, A]`.
      lengths: int32 `[num_games]`.
      first_seat: the agent that the first policy played, int32 `[num_games]`.
      outcomes: 1 where it won, 0 in a draw, -1 where it lost, int32 `[num_games]`.
    """

    overall: Score
    seats: tuple[Score, ...]
    num_random_moves: int
    returns: np.ndarray = field(repr=False)
    lengths: np.ndarray = field(repr=False)
    first_seat: np.ndarray = field(repr=False)
    outcomes: np.ndarray = field(repr=False)


@checked
def play(
    env: Environment,
    policies: Sequence[Policy | Literal["random"]],
    learners: Sequence[Any],
    key: jax.Array,
    *,
    num_games: EpisodeCount,
    max_episode_steps: Count | None = None,
    greedy: bool = True,
    num_random_moves: Index = 0,
) -> Match:
    """Plays whole games of several policies against each other, all in parallel.

    In game n the first policy plays agent `n % A`, the second the agent after it, and so on around
    the table; the last one takes all seats that are left.

    Deterministic policies in a game without chance play the same game again and again, once for
    each seat, however many are asked for: `Score.num_distinct` tells. Random opening moves
    (`num_random_moves`) or sampled actions (`greedy=False`) make the games differ.

    Args:
      env: an environment of several agents.
      policies: two policies or more, at most one for each agent; "random" is a player that draws
        uniformly from the actions that are allowed.
      learners: the learner of each policy, such as `state.learner`; None for "random".
      key: PRNG key, consumed.
      num_games: number of games, rounded up to a multiple of the number of agents, so that all
        seats are taken equally often.
      max_episode_steps: the step limit at which games are cut; None takes the environment's own
        limit, or 10,000 if it has none.
      greedy: whether policies take their most probable action instead of a sample.
      num_random_moves: number of steps at the start of each game in which all agents move
        uniformly at random.

    Raises:
      ConfigError: for an environment of one agent, for fewer than two policies or more than there
        are agents, and if a number is out of range.
    """
    num_agents = require_agents(env, "play")
    _require_seats(env, policies, learners, num_agents)
    limit = max_episode_steps or env.max_episode_steps or DEFAULT_MAX_STEPS
    works = f"must be less than the {limit:,} steps of the longest game"
    require(num_random_moves < limit, "num_random_moves", num_random_moves, works)
    random = random_policy(env.action_space, env.action_mask)
    players = tuple(random if policy == "random" else policy for policy in policies)
    table = seated(players, num_agents)  # type: ignore[arg-type]
    if num_random_moves:
        table = opened_at_random(table, random)
    given = tuple(() if learner is None else learner for learner in learners)
    trained = [learner for learner in given if isinstance(learner, LearnerState)]
    device = first_device(trained[0]) if trained else jax.local_devices()[0]
    run = program(_run_games, ("num_games", "max_steps", *STATIC), rules_of(env), table)
    played = run(
        env.default_params,
        *jax.device_put((given, key), device),
        num_games=-(-num_games // num_agents) * num_agents,
        max_steps=limit,
        greedy=greedy,
        num_random_moves=num_random_moves,
    )
    return summarise(*jax.device_get(played), num_random_moves=num_random_moves)


STATIC = ("greedy", "num_random_moves")
"""Arguments of `_run_games` beside the counts that shape the program."""


def require_agents(env: Environment, what: str) -> int:
    """The number of agents of an environment.

    Raises:
      ConfigError: if it is not one of several agents, naming `what` is for those alone.
    """
    if env.num_agents is None or env.num_agents < 2:
        raise ConfigError(
            f"{what}: {env.name} has one agent, so there is nobody to play against; a match needs "
            "an environment with num_agents of at least 2"
        )
    return env.num_agents


def _require_seats(env: Environment, policies: Any, learners: Any, num_agents: int) -> None:
    num = len(policies)
    words = "must be 2" if num_agents == 2 else f"must be from 2 to {num_agents}"
    works = f"{words}, since {env.name} has seats for {num_agents} agents"
    require(2 <= num <= num_agents, "number of policies", num, works)
    works = f"must be {num}, one for each policy"
    require(len(learners) == num, "number of learners", len(learners), works)


def _run_games(
    rules: Rules,
    table: Policy,
    params: Any,
    learners: Any,
    key: jax.Array,
    *,
    num_games: int,
    max_steps: int,
    greedy: bool,
    num_random_moves: int,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """`(returns [n, A], lengths [n], ended [n], digests of the games [n])`."""

    def body(games: tuple[Episodes, jax.Array]) -> tuple[Episodes, jax.Array]:
        episodes, digests = games
        learner = learners
        if num_random_moves:
            learner = (episodes.num_steps < num_random_moves, learners)
        after = step_episodes(rules, table, params, learner, episodes, greedy=greedy)
        seen = followed_by(digests, digest_of(after.obs, num_games))
        return after, jnp.where(episodes.ended, digests, seen)

    def running(games: tuple[Episodes, jax.Array]) -> jax.Array:
        episodes, _ = games
        return (episodes.num_steps < max_steps) & ~episodes.ended.all()

    start = begin_episodes(rules, table, params, key, num_games)
    found, digests = jax.lax.while_loop(running, body, (start, digest_of(start.obs, num_games)))
    return found.returns, found.lengths, found.ended, digests


def summarise(
    returns: np.ndarray,
    lengths: np.ndarray,
    ended: np.ndarray,
    digests: np.ndarray,
    *,
    num_random_moves: int = 0,
) -> Match:
    """The match of games `[n, A]` and `[n]`; those that have not `ended` were cut."""
    num_games, num_agents = returns.shape
    seats = np.asarray(seat_of(np.arange(num_games, dtype=np.int32), num_agents))  # type: ignore[arg-type]
    own = returns[np.arange(num_games), seats]
    others = np.where(np.arange(num_agents) == seats[:, None], -np.inf, returns).max(axis=1)
    outcomes = (own > others).astype(np.int32) - (own < others)

    def score(chosen: np.ndarray) -> Score:
        low, high = bootstrap_interval(own[chosen])
        won = outcomes[chosen]
        return Score(
            num_games=len(won),
            wins=int((won == 1).sum()),
            draws=int((won == 0).sum()),
            losses=int((won == -1).sum()),
            mean_return=float(own[chosen].mean(dtype=np.float64)),
            ci95_low=low,
            ci95_high=high,
            mean_length=float(lengths[chosen].mean(dtype=np.float64)),
            num_cut=int((~ended[chosen]).sum()),
            num_distinct=len(np.unique(np.stack([seats, digests], axis=1)[chosen], axis=0)),
        )

    return Match(
        overall=score(np.ones(num_games, np.bool_)),
        seats=tuple(score(seats == seat) for seat in range(num_agents)),
        num_random_moves=num_random_moves,
        returns=returns,
        lengths=lengths,
        first_seat=seats,
        outcomes=outcomes,
    )


def wilson_interval(count: int, num: int) -> tuple[float, float]:
    """95% interval of a share of which `count` of `num` independent trials were seen.

    It has a width also where the share that was seen is 0 or 1.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    share, z2 = count / num, Z95**2
    centre = (share + z2 / (2 * num)) / (1 + z2 / num)
    half = Z95 / (1 + z2 / num) * np.sqrt(share * (1 - share) / num + z2 / (4 * num**2))
    low = 0.0 if count == 0 else max(0.0, centre - half)
    high = 1.0 if count == num else min(1.0, centre + half)
    return float(low), float(high)
