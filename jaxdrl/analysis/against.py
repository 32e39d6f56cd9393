"""`jaxdrl evaluate --against`: the policy of a run in games against that of another one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxdrl.analysis.evaluate_run import STREAM
from jaxdrl.checks import require
from jaxdrl.core.keys import make_key, pinned
from jaxdrl.envs import Environment
from jaxdrl.evaluation.matches import OUTCOMES, Match, Score, play, require_agents
from jaxdrl.evaluation.tournament import require_competitive
from jaxdrl.io.console import say
from jaxdrl.io.numerals import short
from jaxdrl.io.terminal import printable
from jaxdrl.runs.restore import Player, player_names


@dataclass(frozen=True)
class RunMatch:
    """A match of the policy of a run.

    Attributes:
      player: the policy.
      opponent: the policy that has all other seats; None: uniformly random players.
      greedy: whether both took their most probable actions or sampled them.
      match: what the games came to.
    """

    player: Player
    opponent: Player | None
    greedy: bool
    match: Match

    @property
    def figures(self) -> dict[str, Any]:
        """All of it but the single games' lengths, as an object for JSON."""
        found, opponent = self.match, self.opponent
        seats = [{"seat": i, **seat.figures} for i, seat in enumerate(found.seats)]
        return {
            **_described(self.player),
            "env": self.player.env.name,
            "greedy": self.greedy,
            "opponent": "random" if opponent is None else _described(opponent),
            "num_random_moves": found.num_random_moves,
            **found.overall.figures,
            "seats": seats,
            "returns": found.returns.tolist(),
        }


def _described(player: Player) -> dict[str, Any]:
    about = {"run_dir": str(player.run_dir), "update": player.update}
    return {**player.origin, **about, "env_steps": player.env_steps}


@pinned()
def play_players(
    player: Player,
    opponent: Player | None,
    num_games: int,
    greedy: bool,
    num_random_moves: int,
    seed: int,
) -> RunMatch:
    """Plays the policy of a run against that of another one, or against random players.

    Args:
      player: the policy.
      opponent: that of the other run; None: uniformly random players.
      num_games: as in `jaxdrl.play`.
      greedy: whether to take the most probable actions or samples.
      num_random_moves: as in `jaxdrl.play`.
      seed: seed of the games.

    Raises:
      ConfigError: if the two were trained in different environments, or in one whose agents do not
        compete.
    """
    require_agents(player.env, "against")
    require_competitive(player.env, "against")
    if opponent is not None:
        require_same_env(player, opponent)
    match = play(
        player.env,
        [player.policy, "random" if opponent is None else opponent.policy],
        [player.learner, None if opponent is None else opponent.learner],
        jax.random.fold_in(make_key(seed), STREAM),
        num_games=num_games,
        greedy=greedy,
        num_random_moves=num_random_moves,
    )
    return RunMatch(player=player, opponent=opponent, greedy=greedy, match=match)


def require_same_env(first: Player, second: Player) -> None:
    """Raises `ConfigError` unless two policies were trained in the same environment."""
    differences = _differences(first.env, second.env)
    if differences:
        (what, here, there), *_ = differences
        field, run = f"{printable(what)} {here}", f"{printable(what)} {there}"
        works = (
            f"was trained in an environment with {run}, and {str(first.run_dir)!r} in one with "
            f"{field}; only policies of the same environment can play against each other"
        )
        require(False, "against", str(second.run_dir), works)


def _differences(first: Environment, second: Environment) -> list[tuple[str, Any, Any]]:
    """What differs between two environments: its name, and the values of both."""
    names = ("name", "num_agents", "max_episode_steps", "action_space", "observation_space")
    pairs = [(name, getattr(first, name), getattr(second, name)) for name in names]
    params = [env.default_params for env in (first, second)]
    if all(dataclasses.is_dataclass(one) for one in params) and type(params[0]) is type(params[1]):
        fields = [field.name for field in dataclasses.fields(params[0])]
        pairs[1:1] = [(name, *(getattr(one, name) for one in params)) for name in fields]
    return [pair for pair in pairs if not _is_equal(*pair[1:])]


def _is_equal(a: Any, b: Any) -> bool:
    leaves, others = jax.tree.leaves(a), jax.tree.leaves(b)
    structure: Any = jax.tree.structure(a)
    alike = bool(structure == jax.tree.structure(b))
    return alike and all(np.array_equal(x, y) for x, y in zip(leaves, others, strict=True))


def show(console: Console, found: RunMatch) -> None:
    """Prints the outcomes by seat, and what else the games came to."""
    player, match = found.player, found.match
    overall, num_agents = match.overall, len(match.seats)
    say(
        console,
        f"{printable(player.env.name)}, after update {player.update} ({player.env_steps:,} steps) "
        f"against {_opponent(found)}: {overall.num_games:,} whole games, "
        f"{how_played(found.greedy, match.num_random_moves)}",
    )
    for one in (player, found.opponent):
        if one is not None and one.member is not None:
            say(console, f"{player_names([one])[0]}: {one.member}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("agent", "games", *OUTCOMES):
        table.add_column(name, justify="right")
    scores = {str(i): seat for i, seat in enumerate(match.seats)}
    for name, score in (scores | {"all": overall}).items():
        table.add_row(name, f"{score.num_games:,}", *(_share(score, one) for one in OUTCOMES))
    console.print(table)
    more = Table(show_header=False, box=None, pad_edge=False)
    for name, words in _rows(overall, num_agents).items():
        more.add_row(Text(name, "bold"), words)
    console.print(more)
    if found.greedy and not match.num_random_moves and found.opponent is not None:
        advise(console, overall.num_distinct, overall.num_games)


def _opponent(found: RunMatch) -> str:
    other = found.opponent
    if other is None:
        return "uniformly random players"
    return f"{printable(other.run_dir)} after update {other.update} ({other.env_steps:,} steps)"


def how_played(greedy: bool, num_random_moves: int) -> str:
    """How games were played, in words."""
    how = "greedy" if greedy else "sampled"
    if num_random_moves == 0:
        return how
    return f"{how} after {num_random_moves} random move{'s' if num_random_moves > 1 else ''}"


def _share(score: Score, outcome: Any) -> str:
    share, low, high = (f"{100 * x:.1f}" for x in score.share(outcome))
    return f"{share}% ({low} to {high})"


def _rows(score: Score, num_agents: int) -> dict[str, str]:
    rows = {
        "in brackets": "95% Wilson intervals of the shares",
        "mean return": f"{short(score.mean_return)} "
        f"(95% interval {short(score.ci95_low)} to {short(score.ci95_high)})",
        "mean length": short(score.mean_length),
    }
    if score.num_distinct < score.num_games:
        rows["different games"] = f"{score.num_distinct:,} of {score.num_games:,}"
    if score.num_cut:
        rows["cut by the step limit"] = f"{score.num_cut:,} games"
    if num_agents > 2:
        rows["a win"] = "a greater return than that of every other agent"
    return rows


def advise(console: Console, num_distinct: int, num_games: int) -> None:
    """Says how games differ, where greedy ones have repeated each other."""
    if num_distinct <= num_games // 2:
        say(
            console,
            f"Greedy games repeat each other: only {num_distinct:,} of {num_games:,} differ. "
            "Open them with --random-moves 2, or play with --sampled.",
        )
