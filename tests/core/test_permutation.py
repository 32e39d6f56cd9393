"""The permutation: one to one at every size, and random enough to shuffle."""

import functools
import math

import jax
import numpy as np
import pytest
import scipy.stats
from jax.sharding import PartitionSpec as P

from jaxdrl.core.permutation import grid, permutation

SMALL = [1, 2, 3, 4, 5, 8]
LARGE = [127, 128, 1000, 4096, 6144]
COUNT = 5000


@functools.cache
def permutations(size):
    """Orders `[count, size]`, each of its own key."""

    def of_key(key):
        return permutation(key, size)

    keys = jax.random.split(jax.random.key(0), COUNT if size in SMALL else 50)
    return np.asarray(jax.jit(lambda keys: jax.lax.map(of_key, keys))(keys))


@pytest.mark.parametrize("size", SMALL + LARGE)
def test_is_a_bijection(size):
    orders = permutations(size)
    assert orders.dtype == np.int32
    np.testing.assert_array_equal(np.sort(orders), np.tile(np.arange(size), (len(orders), 1)))
    if size in LARGE:
        assert len(np.unique(orders, axis=0)) == len(orders)  # other keys, other orders
        fixed_points = (orders == np.arange(size)).sum(axis=1)
        assert 0.3 < fixed_points.mean() < 2


def test_grid_holds_every_size_with_little_to_spare():
    for size in [*range(3, 3000), 2**20 + 7, 2**31 - 1]:
        rows, columns = grid(size)
        assert size <= rows * columns < size + rows
        assert 2 <= rows <= columns <= 4 * rows + 3
    assert grid(4096) == (64, 64)
    assert grid(6144) == (64, 96)


@pytest.mark.parametrize("size", SMALL)
def test_every_element_goes_everywhere_equally_often(size):
    orders = permutations(size)
    pvalues = [scipy.stats.chisquare(np.bincount(x, minlength=size)).pvalue for x in orders.T]
    # And every pair of neighbours to every pair of places.
    allowed = ~np.eye(size, dtype=bool).ravel()
    for i in range(size - 1):
        pairs = np.bincount(orders[:, i] * size + orders[:, i + 1], minlength=size * size)
        pvalues.append(scipy.stats.chisquare(pairs[allowed]).pvalue)
    assert size == 1 or min(pvalues) > 1e-4


@pytest.mark.parametrize("size", [3, 4, 5])
def test_all_orders_are_equally_likely(size):
    codes = permutations(size) @ size ** np.arange(size)
    _, counts = np.unique(codes, return_counts=True)
    assert len(counts) == math.factorial(size)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("size", [1000, 4096, 6144])
def test_has_no_serial_correlation(size):
    orders = permutations(size).astype(np.float64)
    limit = 5 / np.sqrt(orders.size)
    index = np.arange(size)
    assert abs(np.mean([np.corrcoef(order, index)[0, 1] for order in orders])) < limit
    for lag in (1, 2, 3, 32, 64, 100):
        between = [np.corrcoef(order[:-lag], order[lag:])[0, 1] for order in orders]
        assert abs(np.mean(between)) < limit
    # Nor between the orders of two epochs.
    assert abs(np.corrcoef(orders) - np.eye(len(orders))).max() < 5 / np.sqrt(size)


def test_minibatches_are_fair_samples():
    """An eighth of the shuffled samples holds about an eighth of every stretch of the rollout."""
    counts = [np.bincount(order[:512] // 64, minlength=64) for order in permutations(4096)]
    # Hypergeometric: 64 of 4096 marked, 512 drawn.
    variance = 64 * (1 / 8) * (7 / 8) * (4096 - 64) / 4095
    assert 0.9 < np.var(counts) / variance < 1.1


def test_vmap_and_shards_agree_with_one_call():
    size, of_one = 5, jax.jit(lambda key: permutation(key, 5))
    looped = np.stack([of_one(jax.random.key(seed)) for seed in range(8)])
    devices = max(n for n in (8, 4, 2, 1) if n <= len(jax.devices()))
    mesh = jax.make_mesh((devices,), ("env",), axis_types=(jax.sharding.AxisType.Auto,))

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=P("env"), out_specs=P("env"))
    def of_shard(keys):
        return jax.vmap(lambda key: permutation(key, size))(keys)

    keys = jax.vmap(jax.random.key)(np.arange(8))
    np.testing.assert_array_equal(jax.jit(of_shard)(keys), looped)


def test_is_stable():
    """A resumed run must shuffle as it began: these numbers may not change."""
    assert permutations(8)[:2].tolist() == [[4, 5, 3, 0, 2, 7, 1, 6], [2, 4, 6, 1, 3, 0, 7, 5]]


def test_largest_size_traces():
    shape = jax.eval_shape(lambda: permutation(jax.random.key(0), 2**31 - 1)).shape
    assert shape == (2**31 - 1,)


@pytest.mark.parametrize("size", [0, -1, 2**31])
def test_refuses_sizes_out_of_range(size):
    with pytest.raises(ValueError, match=rf"size must be from 1 to .* got size={size}"):
        permutation(jax.random.key(0), size)


def test_refuses_what_is_no_integer():
    with pytest.raises(TypeError, match="integer"):
        permutation(jax.random.key(0), 4.0)
