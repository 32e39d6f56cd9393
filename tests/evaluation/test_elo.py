"""Ratings against an optimiser of SciPy, against odds worked out by hand, and by simulation."""

import numpy as np
import pytest
import scipy.optimize

from jaxdrl.evaluation.elo import elo_intervals, fit_elo


def by_scipy(points):
    """The same ratings, of a likelihood that is written out game by game."""
    num = len(points)

    def loss(ratings):
        total = 0.0
        for i in range(num):
            for j in range(num):
                if i != j:
                    chance = 1 / (1 + 10 ** ((ratings[j] - ratings[i]) / 400))
                    total -= (points[i, j] + 0.5) * np.log(chance)
        return total + ratings.sum() ** 2 / 1e4

    return scipy.optimize.minimize(loss, np.zeros(num), method="BFGS", tol=1e-9).x


def test_ratings_are_the_optimum_that_scipy_finds():
    rng = np.random.default_rng(0)
    for num in (2, 3, 6):
        points = rng.integers(0, 40, (num, num)) / 2
        np.testing.assert_allclose(fit_elo(points), by_scipy(points), atol=0.05)


def test_ratings_of_two_players_are_their_odds():
    # 89.5 and half a drawn game to 8.5 and a half: odds of 10 to 1.
    points = np.array([[0.0, 89.5], [8.5, 0.0]])
    np.testing.assert_allclose(fit_elo(points), [200.0, -200.0])
    np.testing.assert_allclose(fit_elo(np.zeros((2, 2))), 0.0)


def test_who_wins_or_loses_every_game_has_a_finite_rating():
    num = 12
    points = 1e4 * np.triu(np.ones((num, num)), 1)
    ratings = fit_elo(points)
    assert np.isfinite(ratings).all()
    assert (np.diff(ratings) < 0).all()
    np.testing.assert_allclose(ratings, -ratings[::-1], atol=1e-6)
    games = points + points.T + 1 - np.eye(num)
    chance = 1 / (1 + 10 ** ((ratings - ratings[:, None]) / 400))
    taken = points + 0.5 * (1 - np.eye(num))
    # At the optimum everybody takes as many points as the ratings say.
    np.testing.assert_allclose(taken.sum(axis=1), (games * chance).sum(axis=1), rtol=1e-6)


def test_many_tables_at_once_are_each_their_own():
    rng = np.random.default_rng(1)
    points = rng.integers(0, 20, (5, 3, 3)).astype(float)
    np.testing.assert_allclose(fit_elo(points), [fit_elo(one) for one in points], atol=1e-6)


def test_an_interval_covers_the_rating_as_often_as_it_says():
    truth, num_games, rng = np.array([100.0, 0.0, -100.0]), 60, np.random.default_rng(2)
    chance = 1 / (1 + 10 ** ((truth - truth[:, None]) / 400))
    covered = []
    for seed in range(60):
        wins = np.zeros((3, 3), int)
        for i, j in ((0, 1), (0, 2), (1, 2)):
            wins[i, j] = rng.binomial(num_games, chance[i, j])
            wins[j, i] = num_games - wins[i, j]
        low, high = elo_intervals(wins, np.zeros((3, 3), int), num_resamples=300, seed=seed)
        covered.append((low <= truth) & (truth <= high))
    assert np.mean(covered) == pytest.approx(0.95, abs=0.06)


@pytest.mark.parametrize(("wins", "draws"), [(30, 0), (10, 40)])
def test_draws_count_half_in_an_interval(wins, draws):
    """Against the normal theory of the mean score of equal players, whose slope is 4 log-odds."""
    table = np.array([[0, 1], [1, 0]])
    low, high = elo_intervals(wins * table, draws * table, num_resamples=20_000)
    num_games = 2 * wins + draws
    error = np.sqrt(2 * wins * 0.25 / num_games / num_games)  # a win or loss is 1/2 off the mean
    width = 1.96 * 4 * error * 400 / np.log(10) / 2 * num_games / (num_games + 1)
    np.testing.assert_allclose(high, width, rtol=0.1)
    np.testing.assert_allclose(low, -width, rtol=0.1)
