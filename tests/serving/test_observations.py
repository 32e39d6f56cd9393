"""Observations as callers give them: what is taken, and what is refused with which words."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrl.core.spaces import Box, Dict, Discrete, MultiDiscrete
from jaxdrl.errors import ConfigError
from jaxdrl.serving.observations import to_rows

VECTOR = Box(-1.0, 1.0, (2,))
PIXELS = Box(0, 255, (2, 2), "uint8")
NESTED = Dict({"own": VECTOR, "more": Dict({"room": Discrete(4)})})


def dtypes_of(space):
    if isinstance(space, Dict):
        return {name: dtypes_of(part) for name, part in space.items}
    return space.dtype


@pytest.mark.parametrize(
    ("space", "given", "num", "is_single"),
    [
        (VECTOR, [0, 5], 1, True),
        (VECTOR, np.ones((3, 2)), 3, False),
        (VECTOR, jnp.ones((1, 2)), 1, False),
        (VECTOR, np.empty((0, 2)), 0, False),
        (Discrete(3), 2, 1, True),
        (Discrete(3), [0, 1, 2, 0], 4, False),
        (Box(0.0, 1.0, ()), 0.5, 1, True),
        (MultiDiscrete((2, 3)), [1, 2], 1, True),
        (PIXELS, np.full((5, 2, 2), 255), 5, False),
        (Box(False, True, (2,), "bool"), [True, False], 1, True),
        (NESTED, {"own": [0, 0], "more": {"room": 3}}, 1, True),
        (NESTED, {"own": np.zeros((2, 2)), "more": {"room": [1, 2]}}, 2, False),
    ],
)
def test_one_observation_and_batches_are_rows(space, given, num, is_single):
    found = to_rows(space, dtypes_of(space), given)
    assert (found.num, found.is_single) == (num, is_single)
    if isinstance(space, Dict):
        assert found.obs["own"].shape == (num, 2) and found.obs["own"].dtype == np.float32
        np.testing.assert_array_equal(found.obs["more"]["room"].ravel(), given["more"]["room"])
    else:
        assert found.obs.shape == (num, *space.shape) and found.obs.dtype == space.dtype
        np.testing.assert_array_equal(found.obs.ravel(), np.ravel(np.asarray(given)))


@pytest.mark.parametrize(
    ("space", "given", "words"),
    [
        (VECTOR, None, "obs = None: must be finite numbers of shape [2], or a batch [N, 2]"),
        (VECTOR, "ab", "obs = 'ab': must be"),
        (VECTOR, [1, 2, 3], "obs: has the shape [3]; it must be finite numbers of shape [2]"),
        (VECTOR, 1.0, "obs: has the shape []"),
        (VECTOR, [], "obs: has the shape [0]"),
        (VECTOR, [[1, 2], [3]], "obs = [[1, 2], [3]]: must be"),
        (VECTOR, [[[1, 2]]], "obs: has the shape [1, 1, 2]"),
        (VECTOR, [True, False], "obs = [True, False]: must be"),
        (VECTOR, {"own": 1}, "obs = {'own': 1}: must be"),
        (VECTOR, [1, float("nan")], "obs[1] = nan: is not finite"),
        (VECTOR, [[0, 0], [1, 1e300]], "obs[1, 1] = 1e+300: is not finite"),
        (VECTOR, [1, 10**400], "must be"),
        (VECTOR, [1 + 2j, 0], "must be"),
        (Discrete(3), 3, "obs = 3: is out of range; obs must be an integer from 0 to 2"),
        (Discrete(3), [0, -1], "obs[1] = -1: is out of range"),
        (Discrete(3), 1.0, "obs = 1.0: must be an integer from 0 to 2, or a batch [N]"),
        (MultiDiscrete((2, 3)), [2, 0], "obs[0] = 2: is out of range"),
        (PIXELS, np.full((2, 2), 256), "obs[0, 0] = 256: is out of range"),
        (
            PIXELS,
            np.zeros((2, 2)),
            "obs = float64[2, 2]: must be integers from 0 to 255 of shape [2, 2]",
        ),
        (NESTED, [0, 0], "obs = [0, 0]: must be a dictionary with more, own"),
        (NESTED, {"own": [0, 0]}, "obs: lacks more; it must have more, own"),
        (NESTED, {"own": [0, 0], "more": {"room": 0}, "x": 1}, "obs: has 'x', which is unknown"),
        (NESTED, {"own": [0, 0], "more": {"room": 9}}, "obs['more']['room'] = 9: is out of"),
        (NESTED, {"own": [0, 0], "more": {"room": [1, 2]}}, "have different numbers of rows"),
    ],
)
def test_anything_else_is_refused_with_the_entry_and_what_works(space, given, words):
    with pytest.raises(ConfigError) as caught:
        to_rows(space, dtypes_of(space), given)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_integers_of_a_float_space():
    """As in FourRooms, whose observations are int32 in a space of float32."""
    found = to_rows(VECTOR, np.dtype(np.int32), [1.0, -7])
    assert found.obs.dtype == np.int32 and found.obs.tolist() == [[1, -7]]
    for wrong in (0.5, 1e10, float("nan")):
        with pytest.raises(ConfigError, match="has no place in int32, in which they are integers"):
            to_rows(VECTOR, np.dtype(np.int32), [0, wrong])


class Hostile:
    """Its text raises, and is long otherwise."""

    def __repr__(self):
        raise RuntimeError

    __array__ = None


def test_messages_stay_short_whatever_is_given():
    deep = []
    for _ in range(2000):
        deep = [deep]
    for given in (Hostile(), ["x" * 1000], deep):
        with pytest.raises(ConfigError) as caught:
            to_rows(VECTOR, VECTOR.dtype, given)
        assert len(str(caught.value)) < 200
