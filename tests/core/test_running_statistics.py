"""Running moments against float64 NumPy over everything seen."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrl.core.running_statistics import (
    RunningStatistics,
    expand,
    init_statistics,
    normalize,
    scale,
    update_statistics,
)

STATISTICS = RunningStatistics(
    count=jnp.float32(10), mean=jnp.array([1.0, -2.0]), variance=jnp.array([4.0, 0.25])
)
X = jnp.array([[1.0, -2.0], [5.0, -1.0], [-9.0, 98.0]])
NORMALIZED = [[0.0, 0.0], [2.0, 2.0], [-5.0, 200.0]]  # (X - mean) / (2, 0.5)
SCALED = [[0.5, -4.0], [2.5, -2.0], [-4.5, 196.0]]


def sample(shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


update_compiled = jax.jit(update_statistics, static_argnums=1)


def merged(batches, shape):
    """Statistics after the exact moments of each batch, one after the other."""
    statistics = init_statistics(sample(shape))
    for batch in batches:
        mean, variance = batch.mean(0), batch.var(0)
        statistics = update_compiled(
            statistics, len(batch), jnp.float32(mean), jnp.float32(variance)
        )
    return statistics


def batches_of(sizes, mean, std, shape=(3,), drift=0.0):
    rng = np.random.default_rng(0)
    return [rng.normal(mean + drift * i, std, (n, *shape)) for i, n in enumerate(sizes)]


@pytest.mark.parametrize(
    ("mean", "std", "drift"), [(0.0, 1.0, 0.0), (1e4, 1.0, 0.0), (-3.0, 20.0, 5.0)]
)
@pytest.mark.parametrize("sizes", [(40, 40, 40), (7, 100, 1, 500), (1,), (2,) * 100])
def test_merged_moments_are_those_of_all_samples(mean, std, drift, sizes):
    batches = batches_of(sizes, mean, std, drift=drift)
    samples = np.concatenate(batches)
    statistics = merged(batches, (3,))
    assert statistics.count == len(samples)
    np.testing.assert_allclose(statistics.mean, samples.mean(0), rtol=1e-6, atol=1e-5 * std)
    # At 1e4 a float32 mean is known to 5e-4 only; the variance takes no harm from that.
    np.testing.assert_allclose(statistics.variance, samples.var(0), rtol=2e-3, atol=1e-6)


def test_variance_of_data_far_from_zero_stays_exact_over_many_updates():
    batches = batches_of((256,) * 100, 1e4, 1.0)
    samples = np.concatenate(batches)
    statistics = merged(batches, (3,))
    assert statistics.count == len(samples)
    np.testing.assert_allclose(statistics.variance, samples.var(0), rtol=1e-3)
    normalized = np.float64(normalize(jnp.float32(samples), statistics))
    # Each of 100 roundings of the mean is off by 5e-4 at most, half a unit in the last place.
    np.testing.assert_allclose(normalized.mean(0), 0.0, atol=5e-3)
    np.testing.assert_allclose(normalized.std(0), 1.0, rtol=1e-3)


def test_the_order_of_batches_does_not_matter():
    batches = batches_of((10, 200, 35), 2.0, 3.0, drift=4.0)
    forth, back = merged(batches, (3,)), merged(batches[::-1], (3,))
    assert forth.count == back.count == 245
    np.testing.assert_allclose(forth.mean, back.mean, rtol=1e-6)
    np.testing.assert_allclose(forth.variance, back.variance, rtol=1e-6)


def test_a_merge_worked_out_by_hand():
    # {1, 3} and then {5, 5, 5, 5, 5, 5}: mean 34 / 8, variance (1 + 9 + 6 * 25) / 8 - mean^2.
    first = update_statistics(init_statistics(sample(())), 2, jnp.float32(2), jnp.float32(1))
    both = update_statistics(first, 6, jnp.float32(5), jnp.float32(0))
    assert (first.count, first.mean, first.variance) == (2, 2, 1)
    assert (both.count, both.mean, both.variance) == (8, 4.25, 1.9375)


@pytest.mark.parametrize("shape", [(), (3,), (4, 2)])
def test_the_first_batch_replaces_the_initial_moments(shape):
    start = init_statistics(sample(shape))
    assert start.count == 0
    np.testing.assert_array_equal(start.mean, np.zeros(shape))
    np.testing.assert_array_equal(start.variance, np.ones(shape))
    mean, variance = jnp.full(shape, 7.5), jnp.full(shape, 100.0)
    statistics = update_statistics(start, 8, mean, variance)
    assert statistics.count == 8
    np.testing.assert_array_equal(statistics.mean, mean)
    np.testing.assert_array_equal(statistics.variance, variance)


HUGE = [1e20, -3e38, np.inf, np.nan, 0.0]


@pytest.mark.parametrize("variance", [0.0, np.inf, np.nan])
def test_moments_that_cannot_be_merged_leave_the_old_ones(variance):
    """Each number by itself; the last is sound where its variance is."""
    before = update_statistics(init_statistics(sample((5,))), 4, jnp.full(5, 2.0), jnp.full(5, 3.0))
    moments = jnp.float32(HUGE), jnp.full(5, variance, jnp.float32)
    after = update_statistics(before, 4, *moments)
    np.testing.assert_array_equal(after.mean[:4], 2.0)
    np.testing.assert_array_equal(after.variance[:4], 3.0)
    assert (after.mean[4], after.variance[4]) == ((1.0, 2.5) if variance == 0 else (2.0, 3.0))
    assert np.isfinite(normalize(jnp.float32([3e38, -3e38, 1e20, 0, 0]), after, 10.0)).all()


def test_types_are_kept():
    start = init_statistics(sample((2,)))
    after = update_statistics(start, 8, jnp.zeros(2), jnp.ones(2))
    chex.assert_trees_all_equal_shapes_and_dtypes(after, start)
    for leaf in jax.tree.leaves(after):
        assert (leaf.dtype, leaf.weak_type) == (jnp.float32, False)


@pytest.mark.parametrize(
    ("function", "expected"), [(normalize, NORMALIZED), (scale, SCALED)], ids=["normalize", "scale"]
)
def test_values_and_their_clip(function, expected):
    np.testing.assert_allclose(function(X, STATISTICS), expected, rtol=1e-6)
    clipped = np.clip(expected, -3, 3)
    np.testing.assert_allclose(function(X, STATISTICS, 3.0), clipped, rtol=1e-6)
    np.testing.assert_allclose(function(X, STATISTICS, jnp.float32(3)), clipped, rtol=1e-6)


def test_scale_does_not_move_the_mean():
    assert scale(jnp.float32(0), init_statistics(sample(()))) == 0
    rewards = scale(jnp.ones((5, 2)), STATISTICS)
    np.testing.assert_allclose(rewards, [[0.5, 2.0]] * 5, rtol=1e-6)


def test_initial_statistics_change_nothing_but_by_the_clip():
    np.testing.assert_allclose(normalize(X, init_statistics(sample((2,)))), X, rtol=1e-6)
    clipped = normalize(X, init_statistics(sample((2,))), 10.0)
    np.testing.assert_allclose(clipped, np.clip(X, -10, 10), rtol=1e-6)


def test_refuses_to_broadcast():
    for mean, variance in ((jnp.zeros((1,)), jnp.ones((2,))), (jnp.zeros((2,)), jnp.ones(()))):
        with pytest.raises(ValueError, match=r"shapes: \(2,\) != .*the new mean, the new var"):
            update_compiled(STATISTICS, 3, mean, variance)
    with pytest.raises(ValueError, match=r"shape \(3, 1\) but expected \(..., 2\). \[input 0 is x"):
        normalize(X[:, :1], STATISTICS)


def test_a_constant_observation_gives_zero():
    statistics = update_statistics(init_statistics(sample(())), 4, jnp.float32(5), jnp.float32(0))
    np.testing.assert_array_equal(normalize(jnp.full(3, 5.0), statistics), np.zeros(3))
    # epsilon stands below the root: 1e-4 / sqrt(0 + 1e-8) = 1
    near = normalize(jnp.full(3, 5.0) + jnp.full(3, 0.5), statistics, epsilon=0.25)
    np.testing.assert_allclose(near, np.ones(3), rtol=1e-6)


def test_moments_of_one_sample_spread_over_leading_axes():
    assert expand(jnp.ones(2), jnp.ones((5, 4, 2))).shape == (1, 1, 2)
    assert expand(jnp.ones((4, 2)), jnp.ones((5, 4, 2))).shape == (1, 4, 2)
    assert expand(jnp.ones(()), jnp.ones((5, 4))).shape == (1, 1)
    images = jnp.ones((7, 4, 4, 3))
    assert normalize(images, init_statistics(sample((4, 4, 3)))).shape == images.shape
