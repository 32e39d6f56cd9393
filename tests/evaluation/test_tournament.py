"""A round robin of players whose order is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from jaxdrl.errors import ConfigError
from probe_games import AS_TOLD, higher_number

KEY = jax.random.key(1)
TWO = higher_number()


def rated(env=TWO, numbers=(0, 2, 4, 2), **how):
    learners = [jnp.int32(number) for number in numbers]
    names = [f"player {i}" for i in range(len(numbers))]
    return jaxdrl.round_robin(env, AS_TOLD, learners, KEY, names, **{"num_games": 10} | how)


def test_the_scores_and_the_order_are_those_of_the_players():
    found = rated()
    nan = np.nan
    expected = [[nan, 0, 0, 0], [1, nan, 0, 0.5], [1, 1, nan, 1], [1, 0.5, 0, nan]]
    np.testing.assert_array_equal(found.scores, expected)
    np.testing.assert_array_equal(found.num_games + 10 * np.eye(4), 10)
    assert found.draws[1, 3] == found.draws[3, 1] == 10
    assert found.elo.mean() == pytest.approx(0.0, abs=1e-9)
    assert found.elo[0] < found.elo[1] < found.elo[2]
    assert found.elo[1] == pytest.approx(found.elo[3])
    assert (found.num_distinct + 2 * np.eye(4) == 2).all()  # the same game from each seat
    figures = found.figures
    assert figures["scores"][0] == [None, 0.0, 0.0, 0.0]
    assert figures["names"] == ["player 0", "player 1", "player 2", "player 3"]
    assert figures["elo"] == found.elo.tolist()


def test_random_moves_blur_the_order_and_give_intervals_a_width():
    found = rated(numbers=(0, 2, 4), num_games=200, num_random_moves=2)
    assert (found.ci95_low < found.elo).all()
    assert (found.elo < found.ci95_high).all()
    assert found.elo[0] < found.elo[1] < found.elo[2]
    assert 0.05 < found.scores[0, 2] < 0.45
    again = rated(numbers=(0, 2, 4), num_games=200, num_random_moves=2)
    np.testing.assert_array_equal(again.wins, found.wins)


def test_of_three_agents_each_of_two_players_is_alone_in_turn():
    found = rated(higher_number(num_agents=3), (1, 1, 3), num_games=9)
    assert found.num_games[0, 1] == 18
    assert found.scores[0, 1] == 0.5
    assert found.scores[2].tolist()[:2] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"numbers": (1,)}, "number of learners = 1: must be at least 2"),
        ({"num_games": 0}, "num_games = 0: must be an integer from 1 to"),
        ({"env": TWO._replace(is_competitive=False)}, "round_robin = 'higher_number': nobody wins"),
        ({"env": TWO._replace(num_agents=None)}, "round_robin: higher_number has one agent"),
    ],
)
def test_what_cannot_be_rated_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        rated(**changes)


def test_names_are_one_for_each():
    for names in (["a"], ["a", "a"]):
        with pytest.raises(ConfigError, match=r"names = \[.*: must be 2 different ones"):
            jaxdrl.round_robin(TWO, AS_TOLD, [jnp.int32(0), jnp.int32(1)], KEY, names)
