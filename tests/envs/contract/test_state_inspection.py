"""Fingerprints tell arrays apart, and what is in a state is found in whatever form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrl import spaces
from jaxdrl.envs.contract.state_inspection import (
    fingerprint,
    is_finite,
    is_in_space,
    key_leaves,
    whole_numbers,
    without_keys,
)


def test_fingerprints_tell_places_and_bits_apart():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (500, 6)).astype(np.int32)
    prints = jax.vmap(fingerprint)(x)
    assert len(np.unique(np.asarray(prints))) == len(np.unique(x, axis=0))


def test_keys_are_found_typed_and_as_old_ones():
    old, typed = jax.random.key_data(jax.random.key(1)), jax.random.key(2)
    pair = jnp.array([3, 4], jnp.uint32)
    state = {"rng": old, "inner": {"noise": typed}, "place": pair, "key": jnp.zeros(2)}
    found = key_leaves(state)
    assert set(found) == {"['rng']", "['inner']['noise']"}
    np.testing.assert_array_equal(found["['inner']['noise']"], jax.random.key_data(typed))
    np.testing.assert_array_equal(found["['rng']"], old)
    rest = without_keys(state)
    assert len(rest) == 2 and any(x is pair for x in rest)


def test_the_counts_are_the_integer_scalars():
    state = {
        "a": jnp.array([3, 4], jnp.int8),
        "b": jnp.zeros((2, 5), jnp.int32),
        "c": jnp.array([1.0, 2.0]),
        "d": jnp.array([7, 8], jnp.int32),
    }
    assert whole_numbers(state).tolist() == [[3, 7], [4, 8]]
    assert whole_numbers({"b": state["b"]}).shape == (2, 0)


@pytest.mark.parametrize(
    ("space", "x"),
    [
        (spaces.Discrete(3), np.int32(2)),
        (spaces.Discrete(3), np.int32(3)),
        (spaces.MultiDiscrete((2, 3)), np.array([1, 2], np.int32)),
        (spaces.MultiDiscrete((2, 3)), np.array([1, 3], np.int32)),
        (spaces.Box(-1.0, 1.0, (2,)), np.array([-1.0, 1.0], np.float32)),
        (spaces.Box(-1.0, 1.0, (2,)), np.array([-1.1, 1.0], np.float32)),
        (spaces.Box(-np.inf, np.inf, (2,)), np.array([np.nan, 1.0], np.float32)),
    ],
)
def test_what_is_in_a_space_is_what_the_space_says(space, x):
    inside = spaces.Discrete(1), jnp.zeros((), jnp.int32)
    both = spaces.Dict({"x": space, "y": inside[0]})
    assert bool(is_in_space(space, jnp.asarray(x))) == space.contains(x)
    assert bool(is_in_space(both, {"x": jnp.asarray(x), "y": inside[1]})) == space.contains(x)


def test_numbers_are_finite_in_every_part():
    x = jnp.array([1.0, 2.0])
    assert is_finite({"x": x, "n": jnp.array([1])})
    for bad in (jnp.inf, jnp.nan):
        assert not is_finite({"x": x, "y": x.at[1].set(bad)})
