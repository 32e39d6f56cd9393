"""Spaces of Gymnasium, and their values, against those of jaxdrl."""

import re

import gymnasium.spaces as theirs
import numpy as np
import pytest

from jaxdrl import ConfigError, spaces
from jaxdrl.envs.host.spaces import (
    actions_of,
    cast_batch,
    empty_batch,
    observations_of,
    put_row,
    require_fit,
)

INF = np.inf
OBSERVED = [
    (theirs.Discrete(5), spaces.Discrete(5)),
    (theirs.Discrete(3, start=-1), spaces.Discrete(3)),
    (theirs.MultiDiscrete([2, 3], start=[1, -4]), spaces.MultiDiscrete((2, 3))),
    (theirs.MultiBinary((2, 2)), spaces.Box(0, 1, (2, 2), "int8")),
    (theirs.Box(0, 255, (4, 5, 3), np.uint8), spaces.Box(0, 255, (4, 5, 3), "uint8")),
    (theirs.Box(-1.0, INF, (2,), np.float32), spaces.Box(-1.0, INF, (2,))),
    (theirs.Box(0.1, 5.3, (2,), np.float64), spaces.Box(0.1, 5.3, (2,))),
    (theirs.Box(-3, 9, (2,), np.int64), spaces.Box(-3, 9, (2,), "int32")),
    (
        theirs.Dict(b=theirs.Dict(c=theirs.Discrete(4, start=2)), a=theirs.Box(0.0, 1.0, ())),
        spaces.Dict({"a": spaces.Box(0.0, 1.0, ()), "b": spaces.Dict({"c": spaces.Discrete(4)})}),
    ),
]


@pytest.mark.parametrize(("given", "expected"), OBSERVED, ids=lambda x: str(x)[:20])
def test_observations_have_an_equal_space_and_lie_in_it(given, expected):
    observations = observations_of(given, "here: the observation space")
    assert observations.space == expected
    batch = empty_batch(expected, 8)
    given.seed(0)
    drawn = [given.sample() for _ in range(8)]
    for row, obs in enumerate(drawn):
        require_fit(obs, expected, "here")
        put_row(batch, row, obs, observations.starts)
    if not isinstance(given, theirs.Dict):
        whole = cast_batch(expected, np.stack(drawn), observations.starts)
        np.testing.assert_array_equal(whole, batch)
        assert whole.dtype == batch.dtype
        assert all(expected.contains(batch[row]) for row in range(8))


def test_a_bound_that_single_precision_does_not_hold_is_none():
    given = theirs.Box(-1e300, 1e300, (1,), np.float64)
    assert observations_of(given, "here").space == spaces.Box(-INF, INF, (1,))


def test_values_that_begin_elsewhere_begin_at_0():
    observations = observations_of(OBSERVED[-1][0], "here")
    batch = empty_batch(observations.space, 2)
    put_row(batch, 1, {"a": 0.5, "b": {"c": np.int64(5)}}, observations.starts)
    assert batch["b"]["c"].tolist() == [0, 3] and batch["a"].tolist() == [0.0, 0.5]


@pytest.mark.parametrize(
    ("given", "expected", "ours", "converted"),
    [
        (theirs.Discrete(3), spaces.Discrete(3), [0, 2], [0, 2]),
        (theirs.Discrete(3, start=-1), spaces.Discrete(3), [0, 2], [-1, 1]),
        (
            theirs.MultiDiscrete([2, 3], start=[1, -4]),
            spaces.MultiDiscrete((2, 3)),
            [[0, 0], [1, 2]],
            [[1, -4], [2, -2]],
        ),
        (
            theirs.MultiBinary(2),
            spaces.MultiDiscrete((2, 2)),
            [[0, 1], [1, 1]],
            [[0, 1], [1, 1]],
        ),
    ],
)
def test_actions_begin_where_theirs_do(given, expected, ours, converted):
    actions = actions_of(given, "here")
    assert actions.space == expected
    found = actions.convert(np.array(ours, np.int32))
    assert found.tolist() == converted and found.dtype == given.dtype
    assert all(given.contains(x) for x in found)


def test_an_action_in_single_precision_is_not_outside_of_a_bound_in_double():
    given = theirs.Box(-0.1, 0.1, (2,), np.float64)
    actions = actions_of(given, "here")
    action = np.full((1, 2), 0.1, np.float32)
    assert not given.contains(action[0].astype(np.float64))
    assert given.contains(actions.convert(action)[0])
    assert action.dtype == np.float32  # itself is left alone


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (theirs.Tuple([theirs.Discrete(2)]), "here is a Tuple, which has no counterpart"),
        (theirs.Text(3), "FlattenObservation makes it a Box"),
        (theirs.Dict(a=theirs.Dict(b=theirs.Text(3))), "here['a']['b'] is a Text"),
        (theirs.Dict(), "here is a Dict without entries"),
        (theirs.Box(0, 2**40, (1,), np.int64), "bounds of int64 that do not fit int32"),
        (theirs.MultiDiscrete([[2, 3]]), "here is a MultiDiscrete with 2 axes"),
    ],
)
def test_spaces_without_a_counterpart_are_refused(given, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        observations_of(given, "here")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (theirs.Dict(a=theirs.Discrete(2)), "here is a Dict, which has no counterpart"),
        (theirs.MultiBinary((2, 2)), "only one with a single axis"),
    ],
)
def test_actions_without_a_counterpart_are_refused(given, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        actions_of(given, "here")


@pytest.mark.parametrize(
    ("obs", "space", "words"),
    [
        (np.zeros(3), spaces.Box(0, 1, (2,)), "here is float64[3], but its space says float32[2]"),
        (
            np.zeros(2),
            spaces.Box(0, 255, (2,), "uint8"),
            "here is float64[2], but its space says u",
        ),
        (
            {"b": 1},
            spaces.Dict({"a": spaces.Discrete(2)}),
            "here is ['b'], but its space is a Dict",
        ),
        (1, spaces.Dict({"a": spaces.Discrete(2)}), "here is int, but its space is a Dict"),
        ({"a": 0.5}, spaces.Dict({"a": spaces.Discrete(2)}), "here['a'] is float64[]"),
    ],
)
def test_what_numpy_would_silently_change_is_refused(obs, space, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        require_fit(obs, space, "here")
