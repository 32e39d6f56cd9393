"""How well a run plays: tic-tac-toe against every line of play, connect four against two players.

Tic-tac-toe has so few positions that nothing is left to chance: the greedy policy answers in every
position that can arise, and the opponent tries every move. In connect four the opponents are one
that moves at random and one that wins at once where it can, else blocks where it has to, and else
moves at random. Both are played from both seats.
"""

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxdrl
from jaxdrl.core.types import Policy
from jaxdrl.errors import ConfigError
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.restore import Player, load_player

EMPTY, OWN, OTHER = 0, 1, 2
POSITIONS = np.stack(np.unravel_index(np.arange(3**9), (3,) * 9), axis=1)
"""Every way to fill the board of tic-tac-toe, `[3**9, 9]`, also those that no game leads to."""

THREES = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]

ROWS, COLUMNS = 6, 7


class Lines(NamedTuple):
    """Lines of play from one seat, one for each way in which the opponent can move.

    Attributes:
      num_lines: how many there are.
      num_won: those that the policy wins.
      num_lost: those that it loses.
    """

    num_lines: int
    num_won: int
    num_lost: int


def greedy_moves(policy: Policy, learner: Any) -> np.ndarray:
    """The move of a policy in each of `POSITIONS`, int32 `[3**9]`."""
    planes = np.stack([POSITIONS == OWN, POSITIONS == OTHER], axis=-1).reshape(-1, 3, 3, 2)
    num = len(POSITIONS)
    obs = {"observation": planes, "action_mask": POSITIONS == EMPTY, "on_turn": np.ones(num, bool)}
    act = jax.jit(partial(policy.act, greedy=True))
    start = jnp.ones((num,), bool)
    moves, _ = act(
        learner, policy.initial_carry(num), jax.tree.map(jnp.asarray, obs), start, jax.random.key(0)
    )
    return np.asarray(moves)


def every_line(moves: np.ndarray, seat: int) -> Lines:
    """What comes of a game of tic-tac-toe against every line of play.

    Args:
      moves: the move in each of `POSITIONS`, `[3**9]`.
      seat: 0 if the player moves first, 1 if the opponent does.
    """
    return _follow(moves, (EMPTY,) * 9, seat == 0)


def _follow(moves: np.ndarray, board: tuple[int, ...], is_own_turn: bool) -> Lines:
    if _has_three(board, OTHER):
        return Lines(1, 0, 1)
    if _has_three(board, OWN):
        return Lines(1, 1, 0)
    free = [i for i in range(9) if board[i] == EMPTY]
    if not free:
        return Lines(1, 0, 0)
    if is_own_turn:
        free = [int(moves[np.ravel_multi_index(board, (3,) * 9)])]
        if board[free[0]] != EMPTY:
            return Lines(1, 0, 1)
    piece = OWN if is_own_turn else OTHER
    after = [_follow(moves, (*board[:i], piece, *board[i + 1 :]), not is_own_turn) for i in free]
    return Lines(*(sum(numbers) for numbers in zip(*after, strict=True)))


def _has_three(board: tuple[int, ...], piece: int) -> bool:
    return any(all(board[i] == piece for i in three) for three in THREES)


def _fours() -> np.ndarray:
    """The cells of every four in a row, `[n, 4]`."""
    found = []
    for row, column in np.ndindex(ROWS, COLUMNS):
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
            cells = [(row + i * down, column + i * right) for i in range(4)]
            if all(0 <= r < ROWS and 0 <= c < COLUMNS for r, c in cells):
                found.append([r * COLUMNS + c for r, c in cells])
    return np.array(found)


FOURS = _fours()


def winning_columns(own: jax.Array, taken: jax.Array) -> jax.Array:
    """Columns in which a disc makes four in a row, bool `[7]`; boards bool `[6, 7]`."""
    height = taken.sum(axis=0)
    rows = jnp.maximum(ROWS - 1 - height, 0)

    def wins(column: jax.Array) -> jax.Array:
        board = own.at[rows[column], column].set(True).reshape(-1)
        return board[FOURS].all(axis=1).any()

    return jax.vmap(wins)(jnp.arange(COLUMNS)) & (height < ROWS)


def win_or_block() -> Policy:
    """Wins connect four at once where it can, else blocks, else moves at random."""

    def act(
        learner: Any,
        carry: Any,
        obs: Any,
        episode_start: jax.Array,
        key: jax.Array,
        *,
        greedy: bool = False,
    ) -> tuple[Any, Any]:
        del learner, greedy

        def move(key: jax.Array, obs: Any) -> jax.Array:
            own, other = obs["observation"][..., 0], obs["observation"][..., 1]
            wins, blocks = (winning_columns(board, own | other) for board in (own, other))
            good = jnp.where(wins.any(), wins, jnp.where(blocks.any(), blocks, obs["action_mask"]))
            good = jnp.where(obs["on_turn"], good, obs["action_mask"])
            return jax.random.categorical(key, jnp.where(good, 0.0, -jnp.inf)).astype(jnp.int32)

        return jax.vmap(move)(jax.random.split(key, episode_start.shape[0]), obs), carry

    return Policy(lambda num_rows: (), act)


def measure(player: Player, num_games: int, seed: int = 0) -> dict[str, Any]:
    """The figures of the policy of a run, by game or opponent and by seat.

    Raises:
      ConfigError: if the run is of another environment.
    """
    if player.env.name == "pgx/tic_tac_toe":
        moves = greedy_moves(player.policy, player.learner)
        return {"every line": [every_line(moves, seat)._asdict() for seat in (0, 1)]}
    if player.env.name != "pgx/connect_four":
        raise ConfigError(
            f"env = {player.env.name!r}: must be 'pgx/tic_tac_toe' or 'pgx/connect_four'"
        )
    opponents: dict[str, Any] = {"random": "random", "wins or blocks": win_or_block()}
    keys = jax.random.split(jax.random.key(seed), len(opponents))
    found = {}
    for i, (name, opponent) in enumerate(opponents.items()):
        pair = [player.policy, opponent], [player.learner, None]
        match = jaxdrl.play(player.env, *pair, keys[i], num_games=num_games)
        found[name] = [seat.figures for seat in match.seats]
    return found


@dataclass(frozen=True)
class Options:
    """Whose policy plays."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Directories of runs."""
    num_games: int = 2048
    """Games of connect four against each opponent."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """File that gets all figures."""


def main() -> None:
    """Measures and prints."""
    options = tyro.cli(Options, description=__doc__)
    found = {}
    for run in options.runs:
        player = load_player(run, Overrides(), "evaluate_run")
        found[str(run)] = measure(player, options.num_games)
        for name, seats in found[str(run)].items():
            for seat, figures in enumerate(seats):
                words = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
                print(f"{run}, {name}, seat {seat}: {words}")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(f"error: {error}")
