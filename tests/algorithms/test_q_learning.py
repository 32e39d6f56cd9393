"""What algorithms that learn action values share: exploration, and values of a network."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrl.algorithms import q_learning


def settings(**changes):
    given = {"initial_epsilon": 1.0, "final_epsilon": 0.2, "exploration_env_steps": 800.0}
    return SimpleNamespace(**{**given, "env_steps_per_update": 100, **changes})


@pytest.mark.parametrize(("updates", "expected"), [(0, 1.0), (2, 0.8), (8, 0.2), (100, 0.2)])
def test_epsilon_falls_over_environment_steps(updates, expected):
    found = q_learning.epsilon(settings(), jnp.int32(updates))
    assert float(found) == pytest.approx(expected)


def test_without_a_length_epsilon_is_constant():
    found = q_learning.epsilon(settings(exploration_env_steps=None), jnp.int32(0))
    assert float(found) == pytest.approx(0.2)


def test_a_network_is_read_as_action_values():
    q_values = jnp.array([[1.0, 3.0], [-2.0, -jnp.inf]])
    distribution, value = q_learning.interpret(settings(), jnp.int32(4), q_values, jnp.zeros(2))
    np.testing.assert_array_equal(value, [3.0, -2.0])
    np.testing.assert_allclose(distribution.epsilon, [0.6, 0.6])
    chosen = q_learning.of_action(q_values, jnp.array([0, 0]))
    np.testing.assert_array_equal(chosen, [1.0, -2.0])
