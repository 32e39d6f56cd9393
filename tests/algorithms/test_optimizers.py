"""What optimisers are given beside the gradient, and which are refused before anything compiles."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import jaxdrl
import probe_environments as probes
from jaxdrl.algorithms.optimizers import of_own, radam, rmsprop
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.settings import with_settings
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.errors import ConfigError

PARAMS = {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros((3,))}
SMALL = with_settings(
    PPOConfig(), num_envs=8, num_steps=2, num_minibatches=1, num_epochs=1, hidden_sizes=(2,)
)


def needs(optimizer):
    return of_own(optimizer, PARAMS).takes


@pytest.mark.parametrize(
    ("optimizer", "names"),
    [
        (optax.adam(1e-3), ()),
        (optax.MultiSteps(optax.adam(1e-3), 2).gradient_transformation(), ()),
        (contrib.sam(optax.sgd(0.1), optax.sgd(0.1)), ()),
        (optax.polyak_sgd(), ("value",)),
        (optax.chain(optax.adam(1e-3), contrib.reduce_on_plateau()), ("value",)),
        (contrib.momo(), ("value",)),
    ],
)
def test_what_an_optimiser_needs(optimizer, names):
    assert needs(optimizer) == names


def changes_type():
    def update(updates, state, params=None):
        return updates, state.astype(jnp.float32) + 0.5

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (optax.lbfgs(), "loss of a minibatch alone .*'value_fn'.*such as optax.adam"),
        (optax.lookahead(optax.sgd(0.1), 5, 0.5), "loss of a minibatch alone .*'fast'"),
        (contrib.sam(optax.sgd(0.1), optax.sgd(0.1), opaque_mode=True), "alone .*grad_fn"),
        (changes_type(), "float32'.* after .*int32'.*; both must be the same"),
    ],
)
def test_what_cannot_be_given_is_refused_in_one_sentence(optimizer, words):
    with pytest.raises(ConfigError, match=f"^optimizer: .*{words}"):
        jaxdrl.ppo(probes.action_reward(), SMALL, optimizer=optimizer)


def test_rmsprop_clips_by_the_global_norm_and_has_its_epsilon_inside_the_root():
    optimizer, params = rmsprop(1.0, 0.8, 0.04), {"a": jnp.array([1.0, 2.0])}
    gradient, rate = {"a": jnp.array([3.0, 4.0])}, {"learning_rate": 0.5}
    state, expected, mean = optimizer.init(params), np.array([1.0, 2.0]), 0.0
    for _ in range(2):
        params, state = optimizer.step(gradient, rate, params, state)
        clipped = np.array([0.6, 0.8])
        mean = 0.8 * mean + 0.2 * clipped**2
        expected -= 0.5 * clipped / np.sqrt(mean + 0.04)
    np.testing.assert_allclose(params["a"], expected, rtol=1e-6)


def test_rectified_adam_is_that_of_optax():
    """Before and after its sixth step, from which on it divides by the deviation."""
    ours = radam(0.5, 1e-4)
    theirs = optax.chain(optax.clip_by_global_norm(0.5), optax.radam(0.1, eps=1e-4))
    params = others = {"a": jnp.array([1.0, 2.0]), "b": jnp.ones((2, 2))}
    state, other_state = ours.init(params), theirs.init(others)
    for i in range(12):
        gradient = jax.tree.map(lambda x, i=i: jnp.cos(3.0 * x + i), others)
        params, state = ours.step(gradient, {"learning_rate": 0.1}, params, state)
        with default_promotion():
            updates, other_state = theirs.update(gradient, other_state, others)
        others = optax.apply_updates(others, updates)
        for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(others), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_devices", [1, 2])
def test_the_value_is_the_loss_of_the_whole_minibatch(num_devices):
    """An optimiser that keeps it, and the loss by its parts."""

    def update(updates, state, params=None, *, value):
        return jax.tree.map(jnp.zeros_like, updates), value

    keeps = optax.GradientTransformationExtraArgs(lambda params: jnp.zeros(()), update)
    config = replace(SMALL, value_coef=0.5, entropy_coef=0.25)
    mesh = jaxdrl.make_mesh(num_devices)
    agent = jaxdrl.ppo(probes.observation_action_reward(), config, optimizer=keeps, mesh=mesh)
    state, metrics = jax.jit(agent.train_step)(jax.jit(agent.init)(jax.random.key(0)))
    parts = metrics["policy_loss"] + 0.5 * metrics["value_loss"] - 0.25 * metrics["entropy"]
    np.testing.assert_allclose(state.learner.opt_state, parts, rtol=1e-5)
    assert "learning_rate" not in metrics  # it plays no part


def test_the_learning_rate_of_the_config_is_a_metric_where_it_is_used():
    agent = jaxdrl.ppo(probes.action_reward(), SMALL)
    state = jax.eval_shape(agent.init, jax.random.key(0))
    assert "learning_rate" in jax.eval_shape(agent.train_step, state)[1]
