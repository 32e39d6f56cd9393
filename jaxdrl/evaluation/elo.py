"""Elo ratings of players that have all played each other."""

from __future__ import annotations

import numpy as np

POINTS = 400.0 / np.log(10.0)
"""Elo points of one unit of log-odds: 400 points are odds of 10 to 1."""

NUM_RESAMPLES = 1_000
"""How many times the games are resampled for an interval."""

MAX_ITERATIONS = 200
"""The most steps of Newton's method, which needs about ten."""


def fit_elo(points: np.ndarray) -> np.ndarray:
    """Ratings `[..., K]` with mean 0 of players who took `points [..., K, K]` off each other.

    `points[i, j]` is what player i took in its games against j, a half for a draw; the diagonal
    does not count. With log-odds `t`, the ratings maximise the Bradley-Terry likelihood

        sum_ij (points[i, j] + 1/2) log sigmoid(t[i] - t[j]),

    and are `400 / ln 10` times `t`. The half is a drawn game of each pair in addition to those
    played: it keeps a player who won every game at a finite rating.

    Source: Bradley and Terry 1952; Hunter 2004, "MM algorithms for generalized Bradley-Terry
    models".
    """
    num = points.shape[-1]
    taken = np.where(np.eye(num, dtype=np.bool_), 0.0, np.asarray(points, np.float64) + 0.5)
    games = taken + np.swapaxes(taken, -1, -2)
    log_odds = np.zeros(points.shape[:-1])
    value = _log_likelihood(taken, log_odds)
    for _ in range(MAX_ITERATIONS):
        expected = _sigmoid(_differences(log_odds))
        gradient = (taken - games * expected).sum(axis=-1)
        weight = games * expected * (1.0 - expected)
        # The likelihood does not depend on the mean: 1 / K in each entry holds that still.
        hessian = np.eye(num) * weight.sum(axis=-1)[..., None] - weight + 1.0 / num
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        scale, rest = np.ones(points.shape[:-2]), np.ones(points.shape[:-2], np.bool_)
        for _ in range(30):  # halved until the likelihood is no less, which always comes
            tried = log_odds + scale[..., None] * step
            rest = _log_likelihood(taken, tried) < value - 1e-12 * np.abs(value)
            if not rest.any():
                break
            scale = np.where(rest, scale / 2, scale)
        log_odds = log_odds + np.where(rest, 0.0, scale)[..., None] * step
        value = _log_likelihood(taken, log_odds)
        if np.abs(step).max() < 1e-9:
            break
    return POINTS * (log_odds - log_odds.mean(axis=-1, keepdims=True))


def elo_intervals(
    wins: np.ndarray, draws: np.ndarray, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends `[K]` of the 95% bootstrap intervals of the ratings.

    The games of each pair are resampled. A pair whose games all came to the same is so in every
    resample, so that the interval is then too narrow.

    Args:
      wins: games that player i won against j, `[K, K]`; `wins[j, i]` are those that i lost.
      draws: games that they drew, `[K, K]`, symmetric.
      num_resamples: number of resamples.
      seed: seed of the resamples.
    """
    rng, num = np.random.default_rng(seed), len(wins)
    points = np.zeros((num_resamples, num, num))
    for i, j in zip(*np.triu_indices(num, 1), strict=True):
        counts = np.array([wins[i, j], draws[i, j], wins[j, i]])
        if total := counts.sum():
            won, drawn, lost = rng.multinomial(total, counts / total, num_resamples).T
            points[:, i, j], points[:, j, i] = won + drawn / 2, lost + drawn / 2
    low, high = np.quantile(fit_elo(points), [0.025, 0.975], axis=0)
    return low, high


def _differences(log_odds: np.ndarray) -> np.ndarray:
    return log_odds[..., :, None] - log_odds[..., None, :]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(x / 2))


def _log_likelihood(taken: np.ndarray, log_odds: np.ndarray) -> np.ndarray:
    return -(taken * np.logaddexp(0.0, -_differences(log_odds))).sum(axis=(-2, -1))
