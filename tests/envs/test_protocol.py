"""Weak types."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.envs.protocol import strong_types


def test_strong_types_keeps_values_and_dtypes():
    weak = {
        "float": jnp.asarray(1.5),
        "int": 3,
        "bool": True,
        "array": np.arange(3, dtype=np.uint8),
        "key": jax.random.key(7),
    }
    assert weak["float"].weak_type
    strong = strong_types(weak)
    assert jax.random.key_data(strong.pop("key")).tolist() == [0, 7]
    assert not any(leaf.weak_type for leaf in strong.values())
    dtypes = {name: leaf.dtype.name for name, leaf in strong.items()}
    assert dtypes == {"float": "float32", "int": "int32", "bool": "bool", "array": "uint8"}
    assert (strong["float"], strong["int"], strong["bool"]) == (1.5, 3, True)
    np.testing.assert_array_equal(strong["array"], [0, 1, 2])


def test_strong_types_under_jit():
    result = jax.eval_shape(lambda: strong_types({"time": jnp.asarray(0), "x": 1.0}))
    assert not any(leaf.weak_type for leaf in result.values())
