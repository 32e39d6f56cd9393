"""Which checkpoints are kept by their evaluations."""

import pytest

from jaxdrl.runs.checkpoint_scores import best_of, expendable


@pytest.mark.parametrize(
    "scores, keep, best, gone",
    [
        ({}, 3, None, []),
        ({1: None}, 1, None, []),
        ({1: None, 2: None, 3: None}, 1, None, [1, 2]),
        ({1: None, 2: None, 3: None}, 3, None, []),
        ({1: None, 2: None, 3: None}, 9, None, []),
        ({1: 5.0, 2: 9.0, 3: 7.0, 4: None, 5: 8.0}, 2, 2, [1, 3]),
        ({1: 5.0, 2: 9.0, 3: 7.0, 4: None, 5: 10.0}, 2, 5, [1, 2, 3]),
        ({1: 5.0, 2: 9.0, 3: 9.0, 4: 9.0}, 1, 2, [1, 3]),
        ({4: 9.0, 2: 9.0, 1: 5.0, 3: 9.0}, 1, 2, [1, 3]),
        ({1: -3.0, 2: None, 3: -4.0}, 1, 1, [2]),
        ({1: 0.0, 2: -1.0, 3: -1.0}, 1, 1, [2]),
        ({9: 1.0, 10: 0.0, 100: 0.0}, 1, 9, [10]),
    ],
)
def test_the_last_ones_and_the_best_are_kept(scores, keep, best, gone):
    assert best_of(scores) == best
    assert expendable(scores, keep) == gone
    assert set(scores) - set(gone) == {*sorted(scores)[-keep:]} | ({best} - {None})
