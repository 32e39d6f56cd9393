"""Keys are told from other arrays, axes merged and masks extended, arrays without elements too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrl.core.trees import is_key, match_rank, merge_leading_axes


def test_only_typed_keys_are_keys():
    key = jax.random.key(0)
    abstract = jax.eval_shape(lambda: jax.random.split(key, 3))
    assert is_key(key) and is_key(abstract)
    for other in (jax.random.PRNGKey(0), np.zeros(2, np.uint32), 1.5, None, "key"):
        assert not is_key(other)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_leading_axes_are_merged_in_order(shape):
    x = np.arange(np.prod(shape)).reshape(shape)
    tree = merge_leading_axes({"x": jnp.asarray(x)})
    np.testing.assert_array_equal(tree["x"], x.reshape(shape[0] * shape[1], *shape[2:]))


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 0)])
def test_a_mask_selects_rows(shape):
    mask = jnp.array([True, False, True])
    chosen = jnp.where(match_rank(mask, jnp.ones(shape)), jnp.ones(shape), jnp.zeros(shape))
    for row, keep in zip(np.asarray(chosen), mask.tolist(), strict=True):
        assert (row == keep).all()
