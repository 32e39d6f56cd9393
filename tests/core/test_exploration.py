"""The epsilon-greedy distribution against counts, and probabilities written out by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrl.core.exploration import EpsilonGreedy

NO = -math.inf


def rows(distribution, count):
    """`count` copies, each of which has a key of its own."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), distribution)


def draws(distribution, count=20_000):
    keys = jax.random.split(jax.random.key(3), count)
    sample = jax.jit(jax.vmap(lambda row, key: row.sample(key)))
    return np.asarray(sample(rows(distribution, count), keys))


def test_by_hand():
    q_values = jnp.array([[1.0, 3.0, 2.0, 0.0], [5.0, NO, 4.0, NO], [7.0, 7.0, 7.0, NO]])
    found = EpsilonGreedy(q_values=q_values, epsilon=jnp.array([0.4, 0.5, 0.0]))
    expected = [[0.1, 0.7, 0.1, 0.1], [0.75, 0.0, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0]]
    for action in range(4):
        log_prob = found.log_prob(jnp.full(3, action, jnp.int32))
        np.testing.assert_allclose(jnp.exp(log_prob), np.array(expected)[:, action], atol=1e-6)
    of_first = -(0.7 * math.log(0.7) + 0.3 * math.log(0.1))
    of_second = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    np.testing.assert_allclose(found.entropy(), [of_first, of_second, 0.0], atol=1e-6)
    np.testing.assert_array_equal(found.mode(), [1, 0, 0])  # the first of equals
    assert found.mode().dtype == found.sample(jax.random.key(0)).dtype == jnp.int32


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("q_values", [[0.0, 2.0, 1.0], [NO, 1.0, 2.0, NO, -5.0], [NO, 3.0]])
def test_samples_follow_the_probabilities(q_values, epsilon):
    distribution = EpsilonGreedy(q_values=jnp.array(q_values), epsilon=jnp.float32(epsilon))
    found = np.bincount(draws(distribution), minlength=len(q_values)) / 20_000
    allowed = np.array(q_values) > NO
    expected = np.where(allowed, epsilon / allowed.sum(), 0.0)
    expected[np.argmax(q_values)] += 1.0 - epsilon
    assert not found[~allowed].any()
    np.testing.assert_allclose(found, expected, atol=0.015)
    if epsilon == 0.0:
        assert found.max() == 1.0


def test_each_row_of_a_batch_explores_by_itself():
    q_values = jnp.zeros((20_000, 2)).at[:, 1].set(1.0)
    epsilon = jnp.where(jnp.arange(20_000) < 10_000, 0.0, 1.0)
    found = EpsilonGreedy(q_values=q_values, epsilon=epsilon).sample(jax.random.key(0))
    assert found[:10_000].all()
    assert found[10_000:].mean() == pytest.approx(0.5, abs=0.02)


def test_gradients_stay_finite_where_actions_are_forbidden():
    def entropy(epsilon):
        return EpsilonGreedy(q_values=jnp.array([1.0, NO, 2.0]), epsilon=epsilon).entropy()

    assert np.isfinite(jax.grad(entropy)(0.5))
    assert np.isfinite(entropy(jnp.float32(0.0)))


def test_refuses_an_epsilon_of_another_shape():
    wrong = EpsilonGreedy(q_values=jnp.zeros((3, 2)), epsilon=jnp.zeros((3, 1)))
    with pytest.raises(ValueError, match="input 0 is epsilon"):
        wrong.sample(jax.random.key(0))
    with pytest.raises(ValueError, match="input 0 is epsilon"):
        wrong.entropy()
    right = EpsilonGreedy(q_values=jnp.zeros((3, 2)), epsilon=jnp.zeros(3))
    with pytest.raises(ValueError, match="input 0 is action"):
        right.log_prob(jnp.zeros((3, 1), jnp.int32))
