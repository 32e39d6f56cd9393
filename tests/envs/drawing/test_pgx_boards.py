"""Pictures of Pgx's boards, by where the state says that things are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("pgx")

import jaxdrl
import suite_contract
from jaxdrl.envs.drawing import canvas, pgx_boards

LEFT, SIDE = 10, 260  # of a board


def rgb(colour):
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def after(task, moves, **params):
    """The picture after moves, one after the other."""
    env = jaxdrl.make(f"pgx/{task}", **params)
    reset, step = suite_contract.ours(env)
    keys = suite_contract.key_data(0, 1)
    obs, state = reset(keys)
    for move in moves:
        action = np.where(np.asarray(obs["on_turn"]), move, 0).astype(np.int32)
        obs, state = step(keys, state, jnp.asarray(action))[:2]
    picture = env.draw(jax.device_get(jax.tree.map(lambda x: x[0], state)), ())
    assert (picture.shape, picture.dtype) == ((280, 400, 3), np.uint8)
    return picture


def at(picture, column, row, num):
    """The colour at a place of a square board of `num` cells."""
    cell = SIDE / num
    x, y = (round(LEFT + cell * (place + 0.5)) for place in (column, row))
    return picture[y, x].tolist()


def test_crosses_are_those_of_the_first_player_and_rings_of_the_second():
    picture = after("tic_tac_toe", [2, 3])
    assert at(picture, 2, 0, 3) == rgb(canvas.BLUE)
    assert at(picture, 0, 1, 3) == at(picture, 1, 1, 3) == [255, 255, 255]
    ring = picture[LEFT + 130, LEFT : LEFT + 40]
    assert (ring == rgb(canvas.VERMILLION)).all(axis=-1).any()


@pytest.mark.parametrize("num", [2, 3])
def test_discs_fall_to_the_bottom_whoever_is_on_turn(num):
    picture = after("connect_four", [3, 3, 6][:num])
    cell = SIDE / 7
    found = [
        picture[round(140 + cell * (row - 2.5)), round(LEFT + cell * (column + 0.5))].tolist()
        for column, row in ((3, 5), (3, 4), (6, 5))
    ]
    expected = [canvas.YELLOW, canvas.VERMILLION, canvas.YELLOW if num == 3 else canvas.DARK]
    assert found == [rgb(colour) for colour in expected]


@pytest.mark.parametrize("moves", [[19], [19, 18]])
def test_the_first_player_of_othello_is_black(moves):
    picture = after("othello", moves)
    white, black = [255, 255, 255], [0, 0, 0]
    assert at(picture, 3, 2, 8) == black
    turned = black if len(moves) == 1 else white  # by the second move, along the diagonal
    assert [at(picture, 3, 3, 8), at(picture, 4, 4, 8)] == [turned if moves[1:] else black, white]


@pytest.mark.parametrize("moves", [[0, 80], [0, 80, 40]])
def test_stones_of_go_lie_on_the_crossings(moves):
    picture = after("go_9x9", moves)
    assert at(picture, 0, 0, 9) == [0, 0, 0] and at(picture, 8, 8, 9) == [255, 255, 255]
    beside_the_lines = at(picture, 4.2, 4.2, 9)
    assert beside_the_lines == ([0, 0, 0] if len(moves) == 3 else rgb(pgx_boards.WOOD))


@pytest.mark.parametrize("moves", [[0, 120], [0, 120, 60]])
def test_cells_of_hex_have_the_colour_of_their_player(moves):
    picture = after("hex", moves)
    places = np.argwhere((picture[20:] == rgb(canvas.ORANGE)).all(axis=-1))
    assert len(places) > 100
    centre = picture[140 - 3 : 140 + 4, 140 - 3 : 140 + 4]
    is_first = (centre == rgb(canvas.ORANGE)).all()
    assert is_first == (len(moves) == 3)


def test_cards_have_no_drawing():
    assert jaxdrl.make("pgx/kuhn_poker").draw is None


def test_a_picture_under_a_limit_is_the_same():
    picture = after("tic_tac_toe", [2, 3], max_episode_steps=5)
    np.testing.assert_array_equal(picture, after("tic_tac_toe", [2, 3]))
