"""Categorical distributions against SciPy, what all distributions have in common, and heads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
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
