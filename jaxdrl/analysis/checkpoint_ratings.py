"""`jaxdrl evaluate --round-robin`: the checkpoints of a run play each other and are rated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxdrl.analysis.against import advise, how_played
from jaxdrl.analysis.evaluate_run import STREAM
from jaxdrl.analysis.figures import count_axis, picture
from jaxdrl.checks import require
from jaxdrl.core.keys import make_key, pinned
from jaxdrl.evaluation.tournament import RoundRobin, round_robin
from jaxdrl.io.console import make_console, say, warner
from jaxdrl.io.numerals import short
from jaxdrl.io.terminal import drawable, printable
from jaxdrl.runs import checkpoint
from jaxdrl.runs.checkpoint_binding import require_of_run
from jaxdrl.runs.checkpoint_scores import read_scores
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.restore import Player, load_player
from jaxdrl.runs.run_dir import CHECKPOINTS, read_run
from jaxdrl.runs.sweep_members import locate

MAX_IN_WORDS = 10
"""With more checkpoints, the scores in the picture are colours alone."""


@dataclass(frozen=True)
class Ratings:
    """A round robin of the checkpoints of a run.

    Attributes:
      players: the policies, in the order of training.
      greedy: whether they took their most probable actions or sampled them.
      num_random_moves: number of random steps that opened each game.
      found: the games and the ratings.
    """

    players: tuple[Player, ...]
    greedy: bool
    num_random_moves: int
    found: RoundRobin

    @property
    def figures(self) -> dict[str, Any]:
        """All of it, as an object for JSON."""
        last = self.players[-1]
        return {
            **last.origin,
            "run_dir": str(last.run_dir),
            "env": last.env.name,
            "greedy": self.greedy,
            "num_random_moves": self.num_random_moves,
            "updates": [player.update for player in self.players],
            "env_steps": [player.env_steps for player in self.players],
            **self.found.figures,
        }


def require_several(run_dir: Path, member: int | None, setting: int | None) -> None:
    """Raises `ConfigError` unless a run has two valid checkpoints or more."""
    there = _updates(run_dir, member, setting)
    works = (
        f"{run_dir} has {len(there)} checkpoint to play, and a round robin takes at least 2; train "
        "with --checkpoint-every and a larger --keep-checkpoints to keep more"
    )
    require(len(there) >= 2, "round_robin", True, works)


def _updates(
    run_dir: Path,
    member: int | None,
    setting: int | None = None,
    warn: Callable[[str], None] = lambda warning: None,
) -> list[int]:
    """The updates of the valid checkpoints; `warn` gets a line about each of the others."""
    place = locate(run_dir, member, setting)
    check = partial(require_of_run, read_run(place.run_dir).content)
    directory = place.run_dir / CHECKPOINTS
    valid = sorted(read_scores(directory, check))
    for update in sorted(set(checkpoint.updates_in(directory)) - set(valid)):
        warn(f"the checkpoint of update {update} is not valid, and is left out")
    return valid


def load_checkpoints(last: Player) -> list[Player]:
    """The policies in all valid checkpoints of the run of `last`, those of the same member."""
    member, warn = None if last.member is None else last.member.number, warner(make_console())
    return [
        load_player(last.run_dir, Overrides(), "evaluate_run", update, member)
        for update in _updates(last.run_dir, member, warn=warn)
    ]


@pinned()
def rate_players(
    players: list[Player], num_games: int, greedy: bool, num_random_moves: int, seed: int
) -> Ratings:
    """Lets the checkpoints of one run play each other.

    Args:
      players: from `load_checkpoints`.
      num_games: as in `jaxdrl.round_robin`.
      greedy: whether to take the most probable actions or samples.
      num_random_moves: as in `jaxdrl.round_robin`.
      seed: seed of the games.
    """
    first = players[0]
    found = round_robin(
        first.env,
        first.policy,
        [player.learner for player in players],
        jax.random.fold_in(make_key(seed), STREAM),
        [f"update {player.update}" for player in players],
        num_games=num_games,
        greedy=greedy,
        num_random_moves=num_random_moves,
    )
    return Ratings(tuple(players), greedy, num_random_moves, found)


def show(console: Console, ratings: Ratings) -> None:
    """Prints the ratings as a table."""
    found, players = ratings.found, ratings.players
    games = int(found.num_games[0, 1])
    how = how_played(ratings.greedy, ratings.num_random_moves)
    say(
        console,
        f"{printable(players[0].env.name)}, {len(players)} checkpoints: {games:,} whole games of "
        f"each two, {how}",
    )
    if players[-1].member is not None:
        say(console, str(players[-1].member))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("update", "environment steps", "Elo", "95% interval", "mean score"):
        table.add_column(name, justify="right")
    for i, player in enumerate(players):
        interval = f"{found.ci95_low[i]:.0f} to {found.ci95_high[i]:.0f}"
        score = short(float(np.nanmean(found.scores[i])))
        about = (str(player.update), f"{player.env_steps:,}")
        table.add_row(*about, f"{found.elo[i]:.0f}", interval, score)
    console.print(table)
    if found.num_cut:
        console.print(f"cut by the step limit: {found.num_cut:,} games")
    if ratings.greedy and not ratings.num_random_moves:
        above = np.triu_indices(len(players), 1)
        counts = (int(x[above].sum()) for x in (found.num_distinct, found.num_games))
        advise(console, *counts)


def draw(ratings: Ratings, out: Path) -> None:
    """Draws the ratings over the steps of training, beside the scores of each two checkpoints."""
    found, players = ratings.found, ratings.players
    steps = [player.env_steps for player in players]
    errors = np.stack([found.elo - found.ci95_low, found.ci95_high - found.elo]).clip(min=0.0)
    with picture(out, 11.0, 4.5) as figure:
        left, right = figure.subplots(1, 2)
        left.errorbar(steps, found.elo, yerr=errors, marker="o")
        count_axis(left.xaxis, "environment steps")
        left.set_ylabel("Elo (mean 0), 95% interval")
        _draw_scores(figure, right, found.scores, [_label(step) for step in steps])
        games = int(found.num_games[0, 1])
        how = how_played(ratings.greedy, ratings.num_random_moves)
        title = f"{players[0].env.name}, {games:,} games of each two checkpoints, {how}"
        figure.suptitle(drawable(title))


def _label(step: int) -> str:
    """A number of steps with three digits, such as 1.02M."""
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="")(float(f"{step:.3g}"))


def _draw_scores(figure: Any, axes: Any, scores: np.ndarray, labels: list[str]) -> None:
    """A square for each two checkpoints: purple where the row is better, orange where worse."""
    image = axes.imshow(scores, cmap="PuOr", vmin=0.0, vmax=1.0)
    axes.set_facecolor("0.85")  # of the diagonal
    axes.grid(visible=False)
    every = -(-len(labels) // MAX_IN_WORDS)
    places = list(range(0, len(labels), every))
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(places, [labels[i] for i in places], **slanted)
    axes.set_yticks(places, [labels[i] for i in places])
    axes.set_xlabel("opponent, after environment steps")
    axes.set_ylabel("checkpoint, after environment steps")
    if len(labels) <= MAX_IN_WORDS:
        for (i, j), score in np.ndenumerate(scores):
            if i != j:
                is_dark = np.dot(image.cmap(score)[:3], (0.2126, 0.7152, 0.0722)) < 0.45
                colour = "white" if is_dark else "black"
                axes.text(j, i, f"{score:.2f}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=axes, label="mean score (win 1, draw 0.5)")
