"""Distributions against SciPy: densities, entropies, moments of samples; and action heads."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from jaxdrl.core.distributions import Categorical, MultiCategorical, Normal, TanhNormal, action_head
from jaxdrl.core.spaces import Box, Discrete, MultiDiscrete

LOGITS = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32) * 2
NVEC = (2, 3)


def close(actual, expected, tolerance=2e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@jax.jit
def evaluate(distribution, action):
    return distribution.log_prob(action), distribution.entropy(), distribution.mode()


def draws(distribution, count=5000):
    """`[count, ...]`, each from its own key."""
    sample = jax.jit(lambda keys: jax.lax.map(lambda key: distribution.sample(key), keys))
    return np.asarray(sample(jax.random.split(jax.random.key(7), count)))


def normals(shape, event_ndim, family=Normal):
    rng = np.random.default_rng(1)
    mean, log_std = rng.normal(size=(2, *shape)).astype(np.float32)
    return family(mean, np.float32(0.5) * log_std, event_ndim)


def sum_event(x, event_ndim):
    return x.sum(axis=tuple(range(x.ndim - event_ndim, x.ndim)))


# Categorical


def test_categorical_matches_scipy():
    probs = scipy.special.softmax(LOGITS.astype(np.float64), axis=-1)
    references = [scipy.stats.rv_discrete(values=(range(5), p)) for p in probs]
    for action in range(5):
        actions = np.full(4, action, np.int32)
        log_prob, entropy, mode = evaluate(Categorical(LOGITS), actions)
        close(log_prob, [reference.logpmf(action) for reference in references])
    close(entropy, scipy.stats.entropy(probs, axis=-1))
    np.testing.assert_array_equal(mode, LOGITS.argmax(-1))
    assert mode.dtype == jnp.int32


def test_categorical_by_hand():
    # Probabilities 1/4 and 3/4.
    distribution = Categorical(jnp.array(np.log([[1.0, 3.0]]), jnp.float32))
    close(distribution.log_prob(jnp.array([1])), [np.log(0.75)])
    close(distribution.entropy(), [0.25 * np.log(4) + 0.75 * np.log(4 / 3)])


def test_categorical_samples_follow_the_probabilities():
    actions = draws(Categorical(LOGITS))
    assert actions.dtype == np.int32
    assert actions.shape == (5000, 4)
    probs = scipy.special.softmax(LOGITS.astype(np.float64), axis=-1)
    for x, p in zip(actions.T, probs, strict=True):
        assert scipy.stats.chisquare(np.bincount(x, minlength=5), 5000 * p).pvalue > 1e-3
    # The elements of one batch are drawn independently, though of one key.
    assert abs(np.corrcoef(actions.T) - np.eye(4)).max() < 0.06


def test_categorical_with_forbidden_actions_is_finite():
    logits = np.array([[0.0, -np.inf, 1.0], [-np.inf, -np.inf, 0.0]], np.float32)

    @jax.jit
    @jax.grad
    def slope(logits):
        distribution = Categorical(logits)
        return (distribution.entropy() + distribution.log_prob(np.array([2, 2]))).sum()

    _, entropy, _ = evaluate(Categorical(logits), np.array([2, 2]))
    p = scipy.special.expit(1.0)
    close(entropy, [-p * np.log(p) - (1 - p) * np.log(1 - p), 0.0])
    assert np.isfinite(slope(logits)).all()
    assert not (draws(Categorical(logits), 500) == 1).any()


# MultiCategorical


def test_multi_categorical_is_the_product_of_its_components():
    distribution = MultiCategorical(LOGITS, NVEC)
    parts = [Categorical(LOGITS[:, :2]), Categorical(LOGITS[:, 2:])]
    total = np.zeros(4)
    for action in np.ndindex(*NVEC):
        actions = np.tile(np.array(action, np.int32), (4, 1))
        whole = evaluate(distribution, actions)
        each = [evaluate(part, actions[:, i]) for i, part in enumerate(parts)]
        close(whole[0], each[0][0] + each[1][0])
        close(whole[1], each[0][1] + each[1][1])
        np.testing.assert_array_equal(whole[2], np.stack([each[0][2], each[1][2]], axis=-1))
        total += np.exp(whole[0])
    close(total, np.ones(4))


def test_multi_categorical_samples_components_independently():
    logits = np.log(np.array([0.3, 0.7, 0.2, 0.3, 0.5], np.float32))
    actions = draws(MultiCategorical(logits, NVEC))
    assert actions.dtype == np.int32
    assert actions.shape == (5000, 2)
    counts = np.bincount(actions @ [3, 1], minlength=6)
    expected = 5000 * np.outer([0.3, 0.7], [0.2, 0.3, 0.5]).ravel()
    assert scipy.stats.chisquare(counts, expected).pvalue > 1e-3


def test_multi_categorical_refuses_wrong_logits():
    with pytest.raises(ValueError, match=r"sum\(nvec\)=5.*got shape \(2, 4\)"):
        MultiCategorical(np.zeros((2, 4), np.float32), NVEC).mode()


# Normal


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


# All of them


@pytest.mark.parametrize("family", [Normal, TanhNormal])
def test_refuses_to_broadcast(family):
    right, wrong = np.zeros((3, 2), np.float32), np.zeros((3, 1), np.float32)
    message = r"has shape \(3, 1\) but expected \(3, 2\). \[input 0 is %s\]"
    with pytest.raises(ValueError, match=message % "log_std"):
        family(right, wrong, 1).sample(jax.random.key(0))
    with pytest.raises(ValueError, match=message % "action"):
        family(right, right, 1).log_prob(wrong)
    with pytest.raises(ValueError, match=message % "log_std"):
        family(right, wrong, 1).log_prob(right)
    with pytest.raises(ValueError, match=message % "log_std"):
        family(right, wrong, 1).entropy()


def test_categorical_refuses_to_broadcast():
    logits, action = np.zeros((3, 5), np.float32), np.zeros((3, 1), np.int32)
    message = r"has shape \(3, 1\) but expected %s. \[input 0 is action\]"
    with pytest.raises(ValueError, match=message % r"\(3\)"):
        Categorical(logits).log_prob(action)
    with pytest.raises(ValueError, match=message % r"\(3, 2\)"):
        MultiCategorical(logits, NVEC).log_prob(action)


@pytest.mark.parametrize(
    "distribution",
    [
        Categorical(LOGITS),
        MultiCategorical(LOGITS, NVEC),
        normals((4, 2), 1),
        normals((4, 2), 1, TanhNormal),
    ],
    ids=lambda d: type(d).__name__,
)
def test_is_a_pytree_and_vmaps(distribution):
    @jax.jit
    @jax.vmap
    def draw(distribution, key):
        action = distribution.sample(key)
        return action, evaluate(distribution, action)

    keys = jax.random.split(jax.random.key(0), 4)
    actions, each = draw(distribution, keys)
    assert actions.shape == distribution.mode().shape
    jax.tree.map(close, each, evaluate(distribution, actions))


# Action heads


def test_head_of_discrete_spaces():
    head = action_head(Discrete(5, "uint8"), "tanh_normal")
    distribution = head.distribution(LOGITS)
    assert isinstance(distribution, Categorical)
    action = head.to_env(distribution.mode())
    assert action.dtype == jnp.uint8
    np.testing.assert_array_equal(action, LOGITS.argmax(-1))

    head = action_head(MultiDiscrete(NVEC))
    distribution = head.distribution(LOGITS)
    assert distribution.nvec == NVEC
    action = head.to_env(distribution.mode())
    assert action.shape == (4, 2)
    assert action.dtype == jnp.int32


@pytest.mark.parametrize("kind", ["normal", "tanh_normal"])
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_head_of_a_box_scales_to_its_range(kind, shape):
    space = Box(-1.0, 3.0, shape)  # middle 1, half of the range 2
    head = action_head(space, kind)
    outputs = np.zeros((2, *shape), np.float32)
    distribution = head.distribution((outputs, outputs))
    assert isinstance(distribution, Normal if kind == "normal" else TanhNormal)
    assert jax.eval_shape(distribution.entropy).shape == (2,)

    u = np.array([-9.0, -1.0, -0.5, 0.0, 0.25, 1.0, 9.0], np.float32)
    u = np.broadcast_to(u.reshape(7, *[1] * len(shape)), (7, *shape))
    action = jax.jit(head.to_env)(u)
    assert action.dtype == jnp.float32
    close(action, 1 + 2 * (np.clip(u, -1, 1) if kind == "normal" else np.tanh(u)))
    assert all(space.contains(a) for a in np.asarray(action))
    np.testing.assert_array_equal(jax.jit(head.to_env)(u[0]), action[0])  # without a batch


@pytest.mark.parametrize("kind", ["normal", "tanh_normal"])
def test_no_rounding_steps_over_a_bound(kind):
    """Of 500 pairs of bounds many have a middle plus a half that is above the upper one."""
    low, high = np.sort(np.random.default_rng(8).normal(size=(2, 500)).astype(np.float32), axis=0)
    middle = np.float32(low.astype(float) / 2 + high.astype(float) / 2)
    half = np.float32(high.astype(float) / 2 - low.astype(float) / 2)
    assert ((middle + half > high) | (middle - half < low)).sum() > 50
    u = np.array([[-30.0], [30.0]], np.float32).repeat(500, axis=1)
    action = np.asarray(jax.jit(action_head(Box(low, high, (500,)), kind).to_env)(u))
    assert (action >= low).all()
    assert (action <= high).all()
    np.testing.assert_allclose(action, [low, high], rtol=1e-5, atol=1e-6)


def test_head_by_hand_with_bounds_of_all_kinds():
    inf = np.inf
    space = Box([-1.0, 0.0, -inf, -inf], [3.0, inf, 2.0, inf], (4,))
    u = np.array([[0.25] * 4, [9.0] * 4, [-9.0] * 4], np.float32)
    expected = [[1.5, 0.25, 0.25, 0.25], [3.0, 9.0, 2.0, 9.0], [-1.0, 0.0, -9.0, -9.0]]
    close(jax.jit(action_head(space, "normal").to_env)(u), expected)
    with pytest.raises(ValueError, match=r"'tanh_normal' needs finite.*low=\[.*inf.*'normal'"):
        action_head(space, "tanh_normal")


@pytest.mark.parametrize("kind", ["normal", "tanh_normal"])
def test_head_of_an_integer_box_rounds(kind):
    head = action_head(Box(-2, 2, (), "int8"), kind)
    inside = np.array([-1.0, -0.8, -0.7, -0.3, -0.2, 0.2, 0.3, 0.7, 0.8, 1.0], np.float32)
    u = np.clip(np.arctanh(inside * 0.9999), -9, 9) if kind == "tanh_normal" else inside
    action = jax.jit(head.to_env)(u.astype(np.float32))
    assert action.dtype == jnp.int8
    assert action.tolist() == [-2, -2, -1, -1, 0, 0, 1, 1, 2, 2]


def test_head_of_float64_and_of_the_largest_floats():
    largest = np.finfo(np.float32).max
    u = np.array([-2.0, 0.0, 2.0], np.float32)
    assert np.isfinite(jax.jit(action_head(Box(-largest, largest, ())).to_env)(u)).all()
    head = action_head(Box(-1.0, 1.0, (), "float64"))  # without x64, and without a warning
    assert jax.eval_shape(head.to_env, u).dtype == jnp.float32


def test_head_refuses():
    with pytest.raises(TypeError, match="got dict"):
        action_head({"n": 2})
    with pytest.raises(ValueError, match=r"action_distribution must be .* got 'beta'"):
        action_head(Discrete(2), "beta")
