"""Players of tic-tac-toe against every line of play, and one of connect four that looks ahead."""

import sys
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrl.core.types import Policy

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

import board_games


@cache
def best(board):
    """`(value, move)` of the one on turn, by looking at all games from here on."""
    if board_games._has_three(board, board_games.OTHER):
        return -1, None
    free = [i for i in range(9) if board[i] == 0]
    found = []
    for i in free:
        turned = {0: 0, 1: 2, 2: 1}
        after = tuple(turned[x] for x in (*board[:i], 1, *board[i + 1 :]))
        found.append((-best(after)[0], i))
    return max(found) if found else (0, None)


def moves_of(choose):
    moves = np.zeros(3**9, np.int32)
    for i, board in enumerate(board_games.POSITIONS.tolist()):
        if 0 in board and board.count(1) - board.count(2) in (0, -1):
            moves[i] = choose(tuple(board))
    return moves


def first_free(board):
    return board.index(0)


@pytest.mark.parametrize("seat", [0, 1])
def test_a_perfect_player_loses_no_line_and_one_that_takes_the_first_cell_does(seat):
    perfect = board_games.every_line(moves_of(lambda board: best(board)[1] or 0), seat)
    assert perfect.num_lost == 0 and perfect.num_lines > perfect.num_won > 0
    naive = board_games.every_line(moves_of(first_free), seat)
    assert naive.num_lost > 0


def test_lines_are_counted_by_hand():
    """Who moves first takes the lowest free cell, and so the upper row unless that is blocked."""
    found = board_games.every_line(moves_of(first_free), 0)
    fast = sum(1 for a in range(1, 9) for b in range(9) if a > 2 and b > 2 and b != a)
    assert found.num_won >= fast == 30
    taken = board_games.every_line(np.zeros(3**9, np.int32), 1)  # the cell may be taken already
    assert taken.num_lost == taken.num_lines > 0


def test_the_moves_of_a_policy_are_those_in_the_positions_that_it_sees():
    def act(learner, carry, obs, start, key, *, greedy=False):
        assert greedy and learner == "learner"
        own = obs["observation"][..., 0].reshape(-1, 9)
        return jnp.where(own[:, 4], 5, jnp.argmax(obs["action_mask"], axis=1)), carry

    policy = Policy(lambda num: (), lambda learner, *args, **how: act("learner", *args, **how))
    moves = board_games.greedy_moves(policy, ())
    boards = board_games.POSITIONS
    assert (moves[boards[:, 4] == 1] == 5).all()
    others = boards[:, 4] != 1
    assert (moves[others] == (boards[others] == 0).argmax(axis=1)).all()


@pytest.mark.parametrize(
    ("lowest", "on_turn", "moves"),
    [
        ("ox..... oxx.oo.", True, range(7)),
        ("ox..... oxx.oo.", False, {0}),
        ("ox..... oxx.ooo", True, {3}),
        ("xx.ooo.", True, {2, 6}),
        ("x...... x...... x.ooo..", True, {0}),
        ("x...... x...... x...... o...... o...... o......", True, range(1, 7)),
    ],
    ids=["at random", "waits", "blocks one", "blocks two", "wins", "full"],
)
def test_wins_else_blocks_else_moves_at_random(lowest, on_turn, moves):
    rows = [list(row) for row in lowest.split()]
    cells = np.array([["."] * 7] * (6 - len(rows)) + rows)
    own, other = cells == "x", cells == "o"
    mask = cells[0] == "." if on_turn else np.arange(7) == 0
    obs = {"observation": np.stack([own, other], -1), "action_mask": mask, "on_turn": on_turn}
    num = 256
    rows = jax.tree.map(lambda x: jnp.broadcast_to(x, (num, *np.shape(x))), obs)
    start = jnp.zeros((num,), bool)
    found, _ = jax.jit(board_games.win_or_block().act)((), (), rows, start, jax.random.key(0))
    assert set(found.tolist()) == set(moves)


def test_fours_lie_in_all_directions():
    """69 of them on a board of 6 by 7."""
    assert len({tuple(sorted(four)) for four in board_games.FOURS.tolist()}) == 69
