"""Pictures of JaxMARL's games on boards, by where the state says that things are."""

from types import SimpleNamespace

import numpy as np

from jaxdrl.envs.drawing import canvas
from jaxdrl.envs.drawing.jaxmarl_boards import INGREDIENTS, coins, fireworks, kitchen

RIGHT, UP = 2, 0
PLATE, COOKED = 1, 2


def rgb(colour):
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def ingredient(i, number=1):
    return number << (2 + 2 * i)


def kitchen_state(held=(0, 0), pot=0, time=0):
    """3 rows of 4: a pot at the top, cooks in the middle, a pile and serving at the bottom."""
    grid = np.zeros((3, 4, 3), np.int32)
    grid[0, :, 0] = 1
    grid[0, 1] = 5, pot, time
    grid[2, :, 0] = 10, 1, 4, 9
    cooks = SimpleNamespace(
        pos=SimpleNamespace(x=np.array([1, 3]), y=np.array([1, 1])),
        dir=np.array([UP, RIGHT]),
        inventory=np.array(held),
    )
    return SimpleNamespace(grid=grid, agents=cooks, recipe=np.int32(0))


def cell_of(picture, row, column, dx=0.0, dy=0.0):
    """The colour in a cell; a cell has (280 - 120) / 4 = 67.5 pixels at most, here 270 / 4."""
    side = 270 / 4
    top = 140 - 1.5 * side
    y, x = top + side * (row + 0.5 - dy), 10 + side * (column + 0.5 + dx)
    return tuple(picture[int(y), int(x)].tolist())


def test_a_kitchen_has_its_things_and_its_cooks():
    picture = kitchen(None, kitchen_state())
    assert picture.dtype == np.uint8 and picture.shape == (280, 400, 3)
    bottom = [cell_of(picture, 2, column) for column in range(4)]
    expected = [INGREDIENTS[0], canvas.GREY, canvas.GREEN, canvas.WHITE]
    assert bottom == [rgb(colour) for colour in expected]
    assert cell_of(picture, 0, 1) == rgb(canvas.BLACK)
    middle = [cell_of(picture, 1, column) for column in range(4)]
    expected = [canvas.LIGHT, canvas.BLUE, canvas.LIGHT, canvas.VERMILLION]
    assert middle == [rgb(colour) for colour in expected]
    # Where they look.
    assert cell_of(picture, 1, 1, dy=0.36) == cell_of(picture, 1, 3, dx=0.36) == rgb(canvas.BLACK)
    assert cell_of(picture, 1, 1, dx=0.36) == rgb(canvas.BLUE)


def test_cooks_carry_and_pots_hold_what_the_state_says():
    held = (ingredient(1), PLATE | COOKED | ingredient(0, 3))
    picture = kitchen(None, kitchen_state(held, pot=ingredient(0, 2) | ingredient(2)))
    assert cell_of(picture, 1, 1) == rgb(INGREDIENTS[1])
    assert cell_of(picture, 1, 3) == rgb(INGREDIENTS[0])
    assert cell_of(picture, 1, 3, dy=0.18) == rgb(canvas.YELLOW)
    assert cell_of(picture, 1, 3, dy=0.255) == rgb(canvas.WHITE)
    pot = [cell_of(picture, 0, 1, dx=dx) for dx in (-0.24, 0, 0.24)]
    assert pot == [rgb(INGREDIENTS[i]) for i in (0, 0, 2)]
    cooking = kitchen(None, kitchen_state(held, pot=ingredient(0, 2) | ingredient(2), time=17))
    changed = np.argwhere((cooking != picture).any(-1))
    assert len(changed) and (changed < [110, 145]).all()  # the number in the pot's cell


def hanabi_state(card, *, turn):
    hands = np.zeros((2, 3, 2, 5))
    hands[0, 1][card] = 1
    return SimpleNamespace(
        player_hands=hands,
        cur_player_idx=np.arange(2) == turn,
        fireworks=np.array([[1, 1, 0, 0, 0], [0] * 5]),
        remaining_deck_size=np.ones(7),
        info_tokens=np.ones(8),
        life_tokens=np.ones(3),
    )


def test_cards_have_their_colour_and_whose_turn_it_is_is_marked():
    game = SimpleNamespace(color_map=["R", "B"])
    first, second = (fireworks(game, hanabi_state((s, 2), turn=0)) for s in (0, 1))
    changed = (first != second).any(-1)
    rows, columns = np.argwhere(changed).T
    card = np.s_[rows.min() + 5, columns.min() + 5]
    found = [tuple(picture[card].tolist()) for picture in (first, second)]
    assert found == [rgb(canvas.VERMILLION), rgb(canvas.BLUE)]
    moved = fireworks(game, hanabi_state((0, 2), turn=1))
    assert (moved != first).any(-1).sum() > 50
    _, columns = np.argwhere((moved != first).any(-1)).T
    assert columns.max() < 60


def test_players_and_coins_are_where_the_state_says():
    places = {
        "red_pos": (0, 1),
        "blue_pos": (2, 2),
        "red_coin_pos": (1, 0),
        "blue_coin_pos": (0, 2),
    }
    state = SimpleNamespace(**{name: np.array(place) for name, place in places.items()})
    picture = coins(None, state)
    side = 260 / 3
    middle = [int(10 + side * (i + 0.5)) for i in range(3)]
    found = [tuple(picture[middle[r], middle[c]].tolist()) for r, c in places.values()]
    colours = [canvas.VERMILLION, canvas.BLUE, canvas.ORANGE, canvas.SKY]
    assert found == [rgb(colour) for colour in colours]
