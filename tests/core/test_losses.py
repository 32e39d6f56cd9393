"""Elementwise losses against the printed formulas, evaluated one number at a time."""

import math
import re

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxdrl.core import losses

number = st.floats(-2.0, 2.0, width=32)
triples = st.lists(st.tuples(number, number, number), min_size=4, max_size=4)
epsilons = st.floats(0.0, 0.5, width=32)
examples = hypothesis.settings(max_examples=30, deadline=None, derandomize=True, database=None)
surrogate = jax.jit(losses.clipped_surrogate)
clipped_value = jax.jit(losses.clipped_value)


def columns(rows):
    return jnp.asarray(np.array(rows, np.float32).T)


def close(actual, expected, tolerance=2e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@examples
@hypothesis.given(triples, epsilons)
def test_clipped_surrogate_is_equation_7_of_the_paper(rows, epsilon):
    expected = []
    for new, old, advantage in rows:
        ratio = math.exp(new) / math.exp(old)
        clipped = min(max(ratio, 1 - epsilon), 1 + epsilon)
        expected.append(-min(ratio * advantage, clipped * advantage))
    close(surrogate(*columns(rows), clip_epsilon=epsilon), expected)
    close(losses.clipped_surrogate(*columns(rows), clip_epsilon=epsilon), expected)


def test_the_gradient_of_the_policy_gradient_is_the_advantage():
    log_prob, advantage = jnp.array([-0.5, -2.0]), jnp.array([3.0, -1.0])
    close(losses.policy_gradient(log_prob, advantage), [1.5, -2.0])
    slope = jax.grad(lambda log_prob: losses.policy_gradient(log_prob, advantage).sum())
    close(slope(log_prob), -advantage)


@examples
@hypothesis.given(triples, epsilons)
def test_value_losses(rows, epsilon):
    value, old, target = columns(rows)
    plain = [0.5 * (v - t) ** 2 for v, _, t in rows]
    close(losses.squared_value(value, target), plain)
    moved = [o + min(max(v - o, -epsilon), epsilon) for v, o, _ in rows]
    expected = [max(p, 0.5 * (m - r[2]) ** 2) for p, m, r in zip(plain, moved, rows, strict=True)]
    close(clipped_value(value, old, target, clip_epsilon=epsilon), expected)
    close(losses.clipped_value(value, old, target, clip_epsilon=epsilon), expected)


def test_worked_by_hand():
    # Ratios 1.5 and 0.5 with epsilon 0.2, each with advantage 1 and -1.
    log_ratio = jnp.log(jnp.array([1.5, 1.5, 0.5, 0.5]))
    old, advantage = jnp.zeros(4), jnp.array([1.0, -1.0, 1.0, -1.0])
    loss = losses.clipped_surrogate(log_ratio, old, advantage, clip_epsilon=0.2)
    close(loss, [-1.2, 1.5, -0.5, 0.8])
    # 0.5 - log 1.5 and -0.5 - log 0.5
    close(losses.approx_kl(log_ratio, old), [0.0945349, 0.0945349, 0.1931472, 0.1931472])
    fraction = losses.clip_fraction(jnp.log(jnp.array([1.1, 1.3, 0.9, 0.7])), old, clip_epsilon=0.2)
    assert fraction.tolist() == [0.0, 1.0, 0.0, 1.0]
    # The value moved from 1 to 3, away from the target 0: 0.5 x 9. Towards it: the clipped 1.8.
    value, target = jnp.array([3.0, 0.0]), jnp.array([0.0, 0.0])
    old = jnp.array([1.0, 2.0])
    close(losses.clipped_value(value, old, target, clip_epsilon=0.2), [4.5, 0.5 * 1.8**2])


def test_gradients():
    def surrogate_of(log_ratio, advantage):
        zero = jnp.zeros_like(log_ratio)
        return losses.clipped_surrogate(log_ratio, zero, advantage, clip_epsilon=0.2).sum()

    # At the old policy it is the policy gradient; past the clip in the good direction, nothing.
    log_ratio = jnp.log(jnp.array([1.0, 1.0, 1.5, 0.5, 1.5, 0.5]))
    advantage = jnp.array([2.0, -2.0, 1.0, -1.0, -1.0, 1.0])
    close(jax.grad(surrogate_of)(log_ratio, advantage), [-2.0, 2.0, 0.0, 0.0, 1.5, -0.5])

    def value_of(value):
        old, target = jnp.ones(3), jnp.zeros(3)
        return losses.clipped_value(value, old, target, clip_epsilon=0.2).sum()

    close(jax.grad(value_of)(jnp.array([0.9, 0.5, 1.5])), [0.9, 0.0, 1.5])


def test_approx_kl_is_unbiased_and_not_negative():
    old, new = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    estimates = losses.approx_kl(jnp.log(jnp.array(new)), jnp.log(jnp.array(old)))
    assert (estimates >= 0).all()
    close(np.sum(old * np.asarray(estimates)), np.sum(old * np.log(old / new)))
    tiny = losses.approx_kl(jnp.float32(1e-4), jnp.float32(0.0))
    np.testing.assert_allclose(tiny, 5e-9, rtol=0.02)  # where exp(x) - 1 would leave no digit


def test_vmap_over_clip_epsilon():
    rows = columns([(0.5, 0.0, 1.0), (-0.5, 0.0, -1.0)])
    epsilons = jnp.array([0.1, 0.3])
    many = jax.vmap(lambda e: losses.clipped_surrogate(*rows, clip_epsilon=e))(epsilons)
    close(many, [[-1.1, 0.9], [-1.3, 0.7]])
    outside = jax.vmap(lambda e: losses.clip_fraction(*rows[:2], clip_epsilon=e))
    assert outside(jnp.array([0.1, 0.5])).tolist() == [[1.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (
            lambda *x: losses.clipped_surrogate(*x, clip_epsilon=0.2),
            "log_prob, old_log_prob, advantage",
        ),
        (losses.policy_gradient, "log_prob, advantage"),
        (losses.squared_value, "value, target"),
        (lambda *x: losses.clipped_value(*x, clip_epsilon=0.2), "value, old_value, target"),
        (losses.approx_kl, "log_prob, old_log_prob"),
        (lambda *x: losses.clip_fraction(*x, clip_epsilon=0.2), "log_prob, old_log_prob"),
    ],
)
def test_refuses_to_broadcast(function, names):
    count = len(names.split(", "))
    for i in range(count):
        inputs = [jnp.ones(3)] * count
        inputs[i] = jnp.ones((3, 1))
        shapes = [x.shape for x in inputs]
        message = f"Arrays have different shapes: {shapes}. [{names}]"
        for call in (function, jax.jit(function)):
            with pytest.raises(ValueError, match=re.escape(message)):
                call(*inputs)
