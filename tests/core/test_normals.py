"""The normal and its squashed form against SciPy: densities, entropies, moments of samples."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from test_distributions import close, draws, evaluate, normals

from jaxdrl.core.normals import Normal, TanhNormal


def sum_event(x, event_ndim):
    return x.sum(axis=tuple(range(x.ndim - event_ndim, x.ndim)))


@pytest.mark.parametrize(
    ("shape", "event_ndim"), [((), 0), ((3,), 0), ((3, 2), 1), ((3, 2, 2), 2), ((2,), 1)]
)
def test_normal_matches_scipy(shape, event_ndim):
    distribution = normals(shape, event_ndim)
    reference = scipy.stats.norm(distribution.mean, np.exp(distribution.log_std))
    action = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    log_prob, entropy, mode = evaluate(distribution, action)
    assert log_prob.shape == shape[: len(shape) - event_ndim]
    close(log_prob, sum_event(reference.logpdf(action), event_ndim))
    close(entropy, sum_event(np.asarray(reference.entropy()), event_ndim))
    close(mode, distribution.mean)


def test_normal_by_hand():
    # Mean 1, std 2, at 5: -(4/2)^2/2 - log 2 - log(2 pi)/2; entropy log 2 + log(2 pi e)/2.
    distribution = Normal(jnp.float32(1.0), jnp.float32(0.693147), 0)
    close(distribution.log_prob(jnp.float32(5.0)), -2.0 - 0.693147 - 0.918939)
    close(distribution.entropy(), 0.693147 + 1.418939)


@pytest.mark.parametrize("family", [Normal, TanhNormal])
def test_normal_samples_have_its_moments(family):
    distribution = normals((2, 3), 1, family)
    u = draws(distribution)
    for index in np.ndindex(2, 3):
        mean, std = distribution.mean[index], np.exp(distribution.log_std[index])
        assert scipy.stats.kstest((u[:, *index] - mean) / std, "norm").pvalue > 1e-3
    correlation = np.corrcoef(u.reshape(-1, 6).T) - np.eye(6)
    assert abs(correlation).max() < 0.06


def test_normal_samples_are_differentiable():
    def total(distribution):
        u = distribution.sample(jax.random.key(0))
        return u.sum(), u

    distribution = normals((2, 3), 1)
    slope, u = jax.jit(jax.grad(total, has_aux=True))(distribution)
    close(slope.mean, np.ones((2, 3)))
    close(slope.log_std, u - distribution.mean)


# TanhNormal


@pytest.mark.parametrize(("shape", "event_ndim"), [((), 0), ((3,), 0), ((3, 2), 1)])
def test_tanh_normal_density_is_that_of_the_squashed_variable(shape, event_ndim):
    distribution = normals(shape, event_ndim, TanhNormal)
    u = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    y = np.tanh(u.astype(np.float64))
    # The density of y = tanh(u): the normal's at arctanh(y), times d arctanh(y) / dy.
    reference = scipy.stats.norm(distribution.mean, np.exp(distribution.log_std))
    expected = reference.logpdf(np.arctanh(y)) - np.log1p(-(y**2))
    log_prob, entropy, mode = evaluate(distribution, u)
    assert log_prob.shape == entropy.shape == shape[: len(shape) - event_ndim]
    close(log_prob, sum_event(np.asarray(expected), event_ndim))
    close(mode, distribution.mean)


def test_tanh_normal_is_another_tree_than_normal():
    """Else jit may run the program of one for the other: JAX compares their static fields alone."""
    trees = [jax.tree.structure(normals((3,), 0, family)) for family in (Normal, TanhNormal)]
    assert trees[0] != trees[1]


def test_tanh_normal_density_integrates_to_one():
    y, weights = np.polynomial.legendre.leggauss(200)
    u = np.arctanh(y).astype(np.float32)
    distribution = TanhNormal(np.full_like(u, 0.3), np.full_like(u, -0.5), 0)
    log_density, _, _ = evaluate(distribution, u)
    close(np.sum(weights * np.exp(log_density)), 1.0, 1e-4)


def test_tanh_normal_is_finite_far_out():
    zeros = np.zeros(3, np.float32)
    u = np.array([-30.0, 30.0, 60.0], np.float32)

    @jax.jit
    def log_prob(u):
        terms = TanhNormal(zeros, zeros, 0).log_prob(u)
        return terms.sum(), terms

    slope, terms = jax.grad(log_prob, has_aux=True)(u)
    # log(1 - tanh(u)^2) is log 4 - 2 |u| there.
    close(terms, -0.5 * u**2 - 0.5 * np.log(2 * np.pi) - (np.log(4) - 2 * np.abs(u)))
    close(slope, -u + 2 * np.sign(u))


def exact_tanh_entropy(mean, std):
    """-integral p log p over u, for p the density of tanh(u), in float64."""

    def integrand(z):
        u = mean + std * z
        log_slope = 2 * (math.log(2) - abs(u) - math.log1p(math.exp(-2 * abs(u))))
        return math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) * log_slope

    kink = min(max(-mean / std, -12), 12)
    integral, _ = scipy.integrate.quad(integrand, -12, 12, points=[kink, 0], limit=200)
    return math.log(std) + 0.5 * math.log(2 * math.pi * math.e) + integral


def test_tanh_normal_entropy():
    grid = [(m, s) for m in (-4.0, -1.0, 0.0, 0.5, 2.0) for s in (0.05, 0.3, 1.0, 2.0)]
    mean, std = np.array(grid, np.float32).T
    expected = np.array([exact_tanh_entropy(*point) for point in grid])
    _, actual, _ = evaluate(TanhNormal(mean, np.log(std), 0), mean)
    error = np.abs(actual - expected)
    assert error.max() < 1e-3
    assert error[std <= 1].max() < 1e-5
    mean, std = mean.reshape(5, 4), std.reshape(5, 4)
    _, rows, _ = evaluate(TanhNormal(mean, np.log(std), 1), mean)
    close(rows, expected.reshape(5, 4).sum(axis=1), 4e-3)


def test_tanh_normal_entropy_gradient():
    @jax.jit
    @jax.grad
    def slope(distribution):
        return distribution.entropy()

    mean, std, step = 0.4, 0.8, 1e-3
    gradient = slope(TanhNormal(np.float32(mean), np.log(np.float32(std)), 0))
    above, below = exact_tanh_entropy(mean + step, std), exact_tanh_entropy(mean - step, std)
    close(gradient.mean, (above - below) / (2 * step), 1e-3)
    above = exact_tanh_entropy(mean, std * np.exp(step))
    below = exact_tanh_entropy(mean, std * np.exp(-step))
    close(gradient.log_std, (above - below) / (2 * step), 1e-3)
