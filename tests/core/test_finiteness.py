"""Which numbers can be calculated with, in every dtype, and what a learner holds of others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrl.core.finiteness import count_unusable, find_nonfinite, is_usable, stays_finite
from jaxdrl.core.magnitude import MAX_MAGNITUDE


def test_squares_of_ten_million_of_the_largest_usable_differences_can_be_added():
    assert np.finfo(np.float32).max > 1e7 * (2 * MAX_MAGNITUDE) ** 2


def test_what_is_usable():
    numbers = jnp.float32([0, 9e14, -9e14, 1.1e15, -2e16, 3e38, np.inf, -np.inf, np.nan])
    assert is_usable(numbers).tolist() == [True] * 3 + [False] * 6


@pytest.mark.parametrize(
    ("dtype", "numbers", "num"),
    [
        ("float32", [1e14, 1e16, np.nan, -np.inf], 3),
        ("bfloat16", [1e14, 1e16, np.nan, -3e38], 3),
        ("float16", [6e4, -6e4, np.nan, np.inf], 2),
        ("int32", [2**31 - 1, -(2**31), 0, 1], 0),
        ("uint32", [2**32 - 1, 0], 0),
        ("bool", [True, False], 0),
    ],
)
def test_unusable_numbers_of_every_dtype_are_counted(dtype, numbers, num):
    found = count_unusable(jnp.array(numbers, dtype))
    assert (found, found.dtype) == (num, jnp.float32)


BIG = 3e38
"""Two of these are too large to be added up."""


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize(
    ("before", "after", "stays"),
    [
        ([1.0, 2.0], [BIG, -BIG], True),
        ([1.0, 2.0], [BIG, BIG], True),
        ([-np.inf, BIG], [-np.inf, BIG], True),
        ([np.nan, 1.0], [np.inf, 1.0], True),
        ([1.0, 2.0], [1.0, np.nan], False),
        ([np.inf, 2.0], [np.inf, -np.inf], False),
        ([BIG, BIG], [BIG, np.inf], False),
    ],
)
def test_numbers_stay_finite_even_where_their_sum_is_not(monkeypatch, on_gpu, before, after, stays):
    """Alone, and as one of several members that are judged at once."""
    monkeypatch.setattr("jaxdrl.core.control_flow.on_gpu", lambda: on_gpu)
    before, after = jnp.float32([before, [0.0, 1.0]]), jnp.float32([after, [1.0, 2.0]])

    def judge(before, after):
        rest = {"count": jnp.int32(7), "ones": jnp.ones((2, 3))}
        return stays_finite({"x": before, **rest}, {"x": after, **rest})

    assert bool(jax.jit(judge)(before[0], after[0])) is stays
    assert jax.jit(jax.vmap(judge))(before, after).tolist() == [stays, True]


def test_whole_numbers_alone_stay_finite():
    assert stays_finite({"count": jnp.int32(1)}, {"count": jnp.int32(2)})


def learner(**changes):
    """Arrays of three members by their paths; `changes` by parts of them."""
    arrays = {
        "learner/num_updates": np.zeros(3, np.int32),
        "learner/params/kernel": np.ones((3, 2, 2), np.float32),
        "learner/params/half": np.ones((3, 2), jnp.bfloat16),
        "learner/opt_state/best": np.full(3, np.inf, np.float32),
        "learner/obs_statistics/mean": np.ones((3, 4), np.float32),
        "actor/env_state": np.full((3, 8), np.nan, np.float32),
    }
    for name, (member, value) in changes.items():
        (path,) = [path for path in arrays if path.endswith(name)]
        arrays[path][member] = value
    return arrays


def test_a_learner_may_hold_infinity_in_its_optimiser_alone():
    names, is_bad = find_nonfinite(learner())
    assert (names, is_bad.tolist()) == ([], [False] * 3)
    found = find_nonfinite(learner(kernel=(1, np.inf), best=(2, np.nan)))
    assert found[0] == ["learner/params/kernel", "learner/opt_state/best"]
    assert found[1].tolist() == [False, True, True]
    assert find_nonfinite(learner(half=(0, np.nan)))[1].tolist() == [True, False, False]
    assert find_nonfinite(learner(mean=(0, -np.inf)))[0] == ["learner/obs_statistics/mean"]


def test_one_agent_is_one_member():
    one = {path: array[0] for path, array in learner(kernel=(0, np.nan)).items()}
    assert find_nonfinite(one)[1].tolist() == [True]
