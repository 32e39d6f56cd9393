"""Targets and losses of critics against NumPy: loops over rows and atoms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrl.core import action_values

RNG = np.random.default_rng(0)


def test_the_clipped_double_q_target_is_that_of_a_loop():
    rewards, lengths = RNG.normal(size=(6, 3)), RNG.integers(1, 4, 6)
    ended, q_values = RNG.random(6) < 0.5, RNG.normal(size=(2, 6))
    expected, returns, discount = [], [], []
    for row, num in enumerate(lengths):
        returns.append(sum(0.9**k * rewards[row, k] for k in range(num)))
        discount.append(0.0 if ended[row] else 0.9**num)
        lowest = min(q_values[0, row], q_values[1, row])
        expected.append(returns[-1] + (0.0 if ended[row] else 0.9**num * lowest))
    given = (jnp.asarray(x, jnp.float32) for x in (returns, discount, q_values))
    found = action_values.clipped_double_q(*given)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="returns"):
        action_values.clipped_double_q(jnp.ones(3), jnp.ones(4), jnp.ones((2, 4)))


def test_the_temperature_rises_where_the_entropy_is_too_low():
    log_prob = np.array([0.5, 1.5, -0.5])
    for target, sign in ((-2.0, 1), (0.0, -1)):  # the entropy is -0.5

        def loss(log_temperature, target=target):
            each = action_values.temperature_loss(log_temperature, jnp.array(log_prob), target)
            return each.mean()

        value, slope = jax.value_and_grad(loss)(jnp.float32(0.3))
        expected = np.exp(0.3) * (-0.5 - target)
        np.testing.assert_allclose([value, slope], expected, rtol=1e-5)
        assert np.sign(slope) == sign


def projected(probs, reward, discount, v_min, v_max):
    """Each atom's probability goes to the two atoms that are next to where the atom goes."""
    found, num = np.zeros_like(probs), probs.size
    step = (v_max - v_min) / (num - 1)
    for j, prob in enumerate(probs):
        place = (np.clip(reward + discount * (v_min + j * step), v_min, v_max) - v_min) / step
        below = min(int(np.floor(place + 1e-9)), num - 1)
        above = min(below + 1, num - 1)
        found[below] += prob * (1.0 - (place - below))
        found[above] += prob * (place - below)
    return found


@pytest.mark.parametrize(("v_min", "v_max"), [(-2.0, 3.0), (0.0, 1.0)])
def test_the_projection_is_that_of_a_loop_and_loses_nothing(v_min, v_max):
    probs = RNG.dirichlet(np.ones(11), size=40)
    rewards, discount = RNG.normal(size=40), RNG.choice([0.0, 0.5, 0.99], 40)
    given = (jnp.asarray(x, jnp.float32) for x in (probs, rewards, discount))
    found = np.asarray(action_values.project(*given, v_min, v_max))
    rows = zip(probs, rewards, discount, strict=True)
    expected = [projected(*row, v_min, v_max) for row in rows]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-5)
    # Where nothing is clipped, the mean is that of R + discount Z.
    z = np.linspace(v_min, v_max, 11)
    inside = (rewards + discount * v_max <= v_max) & (rewards + discount * v_min >= v_min)
    assert inside.any()
    mean = rewards + discount * (probs @ z)
    np.testing.assert_allclose((found @ z)[inside], mean[inside], atol=1e-4)


def test_atoms_and_what_is_learnt_of_them():
    np.testing.assert_allclose(action_values.atoms(-1.0, 3.0, 5), [-1, 0, 1, 2, 3])
    logits = RNG.normal(size=(4, 5))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mean = action_values.mean_of_atoms(jnp.asarray(logits, jnp.float32), -1.0, 3.0)
    np.testing.assert_allclose(mean, probs @ np.linspace(-1, 3, 5), rtol=1e-4)
    target = RNG.dirichlet(np.ones(5), size=4)
    given = (jnp.asarray(x, jnp.float32) for x in (target, logits))
    expected = [-sum(p * np.log(q)) for p, q in zip(target, probs, strict=True)]
    np.testing.assert_allclose(action_values.cross_entropy(*given), expected, rtol=1e-4)
