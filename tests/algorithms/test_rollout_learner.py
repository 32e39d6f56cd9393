"""Rows of a rollout; what is learnt from them is tested with PPO, IMPALA and the correction."""

import numpy as np

from jaxdrl.algorithms import rollout_learner


def test_rows_go_back_to_where_they_were():
    x = np.arange(6 * 4 * 3).reshape(6, 4, 3)
    for length in (1, 2, 3, 6):
        rows = rollout_learner.in_rows(x, length)
        assert rows.shape == (6 // length * 4, length, 3)
        np.testing.assert_array_equal(rows[1], x[:length, 1])
        np.testing.assert_array_equal(rollout_learner.in_time(rows, 4), x)
