"""Matches of players whose games are worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxdrl
from jaxdrl.core.spaces import Discrete
from jaxdrl.core.types import LearnerState
from jaxdrl.errors import ConfigError
from jaxdrl.evaluation.matches import summarise, wilson_interval
from probe_environments import constant_reward
from probe_games import AS_TOLD, COUNTS, always, higher_number

KEY = jax.random.key(0)
TWO, THREE = higher_number(), higher_number(num_agents=3)


def play(env, *players, num_games=6, **how):
    return jaxdrl.play(env, list(players), [None] * len(players), KEY, num_games=num_games, **how)


def counts(score):
    return score.wins, score.draws, score.losses


def test_the_greater_number_wins_from_every_seat():
    for first, second, expected in ((4, 1, (6, 0, 0)), (2, 2, (0, 6, 0)), (0, 3, (0, 0, 6))):
        match = play(TWO, always(first), always(second))
        assert counts(match.overall) == expected
        assert [seat.num_games for seat in match.seats] == [3, 3]
        np.testing.assert_array_equal(match.outcomes, expected[0] // 6 - expected[2] // 6)
    # In the last one, 0 against 3, the first policy sat at agents 0, 1, 0, ...
    assert match.first_seat.tolist() == [0, 1, 0, 1, 0, 1]
    np.testing.assert_array_equal(match.returns, [[-3, 3], [3, -3]] * 3)
    assert (match.overall.mean_return, match.overall.mean_length) == (-3.0, 3.0)
    assert match.lengths.tolist() == [3] * 6
    assert match.overall.num_cut == 0


def test_a_seat_that_is_better_shows_in_the_scores_of_the_seats():
    match = play(higher_number(ties_go_to_first=True), always(2), always(2))
    assert [counts(seat) for seat in match.seats] == [(3, 0, 0), (0, 0, 3)]
    assert [seat.mean_return for seat in match.seats] == [3.0, -3.0]
    assert counts(match.overall) == (3, 0, 3)
    assert match.overall.mean_return == 0.0
    assert match.overall.ci95_low < 0.0 < match.overall.ci95_high


def test_the_last_policy_takes_the_seats_that_are_left_and_games_are_a_multiple_of_the_seats():
    match = play(THREE, always(2), always(3), num_games=7)
    assert match.overall.num_games == 9
    assert [seat.num_games for seat in match.seats] == [3, 3, 3]
    # Two players of 3 draw with each other and both beat 2.
    np.testing.assert_array_equal(match.returns[:3], [[-3, 0, 0], [0, -3, 0], [0, 0, -3]])
    assert counts(match.overall) == (0, 0, 9)


def test_a_win_is_over_every_other_agent_and_equal_to_the_best_of_them_is_a_draw():
    first_and_third_draw = play(THREE, always(3), always(1), always(3))
    assert counts(first_and_third_draw.overall) == (0, 6, 0)
    assert counts(play(THREE, always(3), always(1), always(2)).overall) == (6, 0, 0)
    assert counts(play(THREE, always(1), always(0), always(2)).overall) == (0, 0, 6)
    # Around the table: in game 1 the policies sit at agents 1, 2 and 0.
    order = play(THREE, always(3), always(1), always(2)).returns[1]
    np.testing.assert_array_equal(order, [-3, 3, -3])


def test_memory_is_that_of_the_seat_and_starts_with_the_game():
    match = play(TWO, COUNTS, always(1))  # 0, 1, 2 against 1
    np.testing.assert_array_equal(match.returns, 0.0)
    assert counts(match.overall) == (0, 6, 0)
    opened = play(TWO, COUNTS, always(0), num_games=40, num_random_moves=1)
    own = opened.returns[np.arange(40), opened.first_seat]
    # It follows an opening that it does not play: its own moves are 1 and 2, never 0.
    assert set(own.tolist()) == {1.0, 2.0, 3.0}


def test_deterministic_games_repeat_and_random_moves_or_samples_make_them_differ():
    def distinct(**how):
        players = [AS_TOLD, AS_TOLD]
        match = jaxdrl.play(TWO, players, [jnp.int32(1), jnp.int32(3)], KEY, num_games=200, **how)
        return match.overall.num_distinct, match

    num, match = distinct()
    assert (num, [seat.num_distinct for seat in match.seats]) == (2, [1, 1])
    num, match = distinct(num_random_moves=1)
    openings = {
        (seat, *opening) for seat, opening in zip(match.first_seat, match.returns, strict=True)
    }
    assert 20 < num <= 50  # 25 openings from each of two seats
    assert match.num_random_moves == 1
    assert {abs(x) for _, *opening in openings for x in opening} == {1, 2, 3}
    assert distinct(greedy=False)[0] > 150


def test_games_against_random_players_are_those_of_an_evaluation():
    learner = LearnerState(jnp.int32(3), (), None, None, (), jnp.int32(0))

    def act(learner, *args, **how):
        return AS_TOLD.act(learner.params, *args, **how)

    policy = AS_TOLD._replace(act=act)
    expected = jaxdrl.evaluate(TWO, policy, learner, KEY, num_episodes=50)
    match = jaxdrl.play(TWO, [policy, "random"], [learner, None], KEY, num_games=50)
    np.testing.assert_array_equal(match.returns, expected.agent_returns)
    assert match.overall.mean_return == expected.mean_return
    assert match.overall.ci95_low == expected.ci95_low
    assert match.overall.wins > 2 * match.overall.losses


def test_random_moves_are_legal():
    def mask(obs):
        is_odd = jnp.arange(5) % 2 == 1
        return jnp.where(obs[0] > 0, is_odd, ~is_odd)  # agent 0 may name 1 and 3

    def named(key, time, action, params):
        obs, time, _, *rest = TWO.step(key, time, action, params)
        return obs, time, action.astype(jnp.float32), *rest

    env = TWO._replace(action_mask=mask, step=named, max_episode_steps=1)
    returns = play(env, always(0), always(0), num_games=60).returns
    assert set(returns.ravel().tolist()) == {0.0}
    three = env._replace(max_episode_steps=3)
    match = play(three, always(0), always(0), num_games=60, num_random_moves=1)
    assert set(match.returns[:, 0].tolist()) == {1.0, 3.0}
    assert set(match.returns[:, 1].tolist()) == {0.0, 2.0, 4.0}


def test_games_that_are_cut_count_by_the_returns_until_then():
    match = play(TWO, always(3), always(2), max_episode_steps=2)
    assert (match.overall.num_cut, match.overall.wins) == (6, 6)
    assert match.overall.mean_return == 2.0


def test_a_summary_is_that_of_its_games():
    returns = np.array([[1, 0], [1, 0], [0, 0], [0, 2]], np.float32)
    lengths = np.array([2, 4, 6, 8], np.int32)
    ended = np.array([True, True, False, True])
    match = summarise(returns, lengths, ended, np.array([7, 7, 7, 8], np.uint32))
    assert match.outcomes.tolist() == [1, -1, 0, 1]
    assert counts(match.overall) == (2, 1, 1)
    assert [counts(seat) for seat in match.seats] == [(1, 1, 0), (1, 0, 1)]
    assert [seat.num_distinct for seat in match.seats] == [1, 2]
    overall = match.overall
    assert (overall.num_distinct, overall.num_cut, overall.mean_length) == (3, 1, 5.0)
    assert overall.mean_return == 0.75
    figures = overall.figures
    assert (figures["win_share"], figures["draw_share"], figures["loss_share"]) == (0.5, 0.25, 0.25)
    assert figures["win_share_ci95_low"] < 0.5 < figures["win_share_ci95_high"]


def test_the_interval_of_a_share_is_that_of_scipy():
    for count, num in ((0, 10), (10, 10), (3, 10), (499, 1000), (1, 1)):
        interval = scipy.stats.binomtest(count, num).proportion_ci(method="wilson")
        np.testing.assert_allclose(wilson_interval(count, num), interval, atol=1e-12)


@pytest.mark.parametrize(
    ("env", "num", "changes", "message"),
    [
        (TWO, 1, {}, "number of policies = 1: must be 2, since higher_number has seats for 2"),
        (TWO, 3, {}, "number of policies = 3: must be 2, since higher_number has seats for 2"),
        (THREE, 4, {}, "number of policies = 4: must be from 2 to 3, since .* seats for 3 agents"),
        (TWO, 2, {"num_games": 0}, "num_games = 0: must be an integer from 1 to 1000000"),
        (TWO, 2, {"num_random_moves": -1}, "num_random_moves = -1: must be an integer of at least"),
        (TWO, 2, {"num_random_moves": 3}, "num_random_moves = 3: must be less than the 3 steps of"),
        (TWO, 2, {"max_episode_steps": 0}, "max_episode_steps = 0: must be an integer of at least"),
        (constant_reward(3, "terminated"), 2, {}, "play: constant_reward has one agent, so there"),
        (TWO._replace(action_space=Discrete(5), num_agents=1), 2, {}, "play: .* has one agent"),
    ],
)
def test_what_cannot_be_played_is_refused(env, num, changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        play(env, *[always(0)] * num, **changes)
    assert "\n" not in str(caught.value)


def test_policies_and_learners_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="number of learners = 1: must be 2, one for each policy"):
        jaxdrl.play(TWO, [AS_TOLD, AS_TOLD], [jnp.int32(0)], KEY, num_games=2)
    with pytest.raises(
        ConfigError, match=r"policies = 'rand': must be a policy, .*, or one of rand"
    ):
        jaxdrl.play(TWO, [AS_TOLD, "rand"], [jnp.int32(0), None], KEY, num_games=2)
