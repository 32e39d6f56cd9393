"""Random observations: of every kind of space, within it, and where the training was."""

from types import SimpleNamespace

import numpy as np
import pytest

from jaxdrl.analysis.random_observations import random_observations
from jaxdrl.core.running_statistics import RunningStatistics
from jaxdrl.core.spaces import Box, Dict, Discrete, MultiDiscrete

NUM = 400
UNSEEN = SimpleNamespace(obs_statistics=None)
SPACES = {
    "choice": Discrete(3, "uint8"),
    "choices": MultiDiscrete((2, 5)),
    "pixels": Box(0, 255, (4, 4, 1), "uint8"),
    "flags": Box(0, 1, (2,), "bool"),
    "whole": Box(-3, [2, 4], (2,), "int16"),
    "number": Box(-2.0, 6.0, ()),
    "one side": Box(0.0, np.inf, (2,)),
    "wide": Box(-3e38, 3e38, (2,)),
    "double": Box(-1.0, 1.0, (2,), "float64"),
}


def drawn(space, learner=UNSEEN):
    return random_observations(space, learner, NUM, np.random.default_rng(0))


@pytest.mark.parametrize("name", SPACES)
def test_every_row_is_of_the_space(name):
    space = SPACES[name]
    rows = drawn(space)
    assert (rows.dtype, rows.shape) == (space.dtype, (NUM, *space.shape))
    assert all(map(space.contains, rows))
    assert np.abs(np.asarray(rows, float)).max() < 1e3  # as far as a network tells numbers apart


@pytest.mark.parametrize("name", ["choice", "pixels", "flags", "whole", "number"])
def test_bounds_are_reached(name):
    space, rows = SPACES[name], drawn(SPACES[name]).astype(float)
    low, high = (0, space.n - 1) if isinstance(space, Discrete) else (space.low, space.high)
    near = 0.05 * (np.asarray(high, float) - low)
    assert (rows.min(axis=0) <= low + near).all() and (rows.max(axis=0) >= high - near).all()


def test_a_dictionary_has_rows_of_each_entry():
    space = Dict({"inner": Dict(SPACES), "choice": Discrete(2)})
    rows = drawn(space)
    assert space.contains({"inner": {k: x[7] for k, x in rows["inner"].items()}, "choice": 1})


def test_floats_are_spread_as_in_the_training():
    space = Dict({"free": Box(-np.inf, np.inf, (2,)), "kept": Box(0.0, 100.0, ())})
    mean = {"free": np.array([1e4, 0.0]), "kept": np.array([1.0])}
    variance = {"free": np.array([1.0, 25.0]), "kept": np.array([0.25])}
    rows = drawn(space, SimpleNamespace(obs_statistics=RunningStatistics(9.0, mean, variance)))
    np.testing.assert_allclose(rows["free"].mean(axis=0), [1e4, 0.0], atol=1.0)
    np.testing.assert_allclose(rows["free"].std(axis=0), [1.0, 5.0], rtol=0.15)
    even, seen = rows["kept"][::2], rows["kept"][1::2]
    assert even.std() > 20 and abs(seen.mean() - 1.0) < 0.1 and seen.std() < 0.6
