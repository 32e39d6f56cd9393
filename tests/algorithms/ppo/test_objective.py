"""The loss and its gradient, with terms of a user's own."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdrl
from jaxdrl import ConfigError, PPOConfig
from jaxdrl.algorithms.agent import Agent
from jaxdrl.algorithms.batch import Batch
from jaxdrl.algorithms.ppo import objective
from jaxdrl.config.settings import with_settings
from jaxdrl.core import distributions, losses

SMALL = with_settings(
    PPOConfig(), num_envs=16, num_steps=4, num_epochs=1, num_minibatches=2, hidden_sizes=(8,)
)


@pytest.fixture(scope="module")
def cartpole():
    return jaxdrl.make("CartPole-v1")


def test_the_loss_is_the_sum_of_its_parts_by_hand(cartpole):
    """Against NumPy in float64, for a network that gives fixed outputs."""
    rng = np.random.default_rng(0)
    logits, value = rng.normal(size=(6, 2)), rng.normal(size=6)
    columns = {
        name: rng.normal(size=6).astype(np.float32) for name in ("value", "target", "advantage")
    }
    action = np.array([0, 1, 1, 0, 1, 0], np.int32)
    all_log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    log_prob = all_log_probs[np.arange(6), action]
    old = (log_prob + rng.normal(0, 0.3, size=6)).astype(np.float32)
    ratio = np.exp(log_prob - old)
    clipped = np.clip(ratio, 0.8, 1.2)
    surrogate = np.minimum(ratio * columns["advantage"], clipped * columns["advantage"])
    moved = columns["value"] + np.clip(value - columns["value"], -0.1, 0.1)
    value_error = np.maximum((value - columns["target"]) ** 2, (moved - columns["target"]) ** 2)
    entropy = -(np.exp(all_log_probs) * all_log_probs).sum(axis=1)
    expected = -surrogate.mean() + 0.7 * 0.5 * value_error.mean() - 0.02 * entropy.mean()

    config = replace(SMALL, value_clip_epsilon=0.1, value_coef=0.7, entropy_coef=0.02)
    outputs = (jnp.asarray(logits, jnp.float32), jnp.asarray(value, jnp.float32))
    network = jaxdrl.Network(lambda n: (), lambda *_: {}, lambda *_: (*outputs, ()))
    head = distributions.action_head(cartpole.action_space)
    made = objective.PPO(Agent(cartpole, network, head, None), config, None)
    start = np.zeros(6, bool)
    batch = Batch(
        obs=jnp.zeros((6, 4)), action=action, log_prob=old, episode_start=start, carry=(), **columns
    )
    batch = jax.tree.map(lambda x: x[:, None], batch)
    loss, metrics = objective.loss(made, None, {}, batch)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert metrics["policy_loss"] == pytest.approx(-surrogate.mean(), rel=1e-5)
    assert metrics["value_loss"] == pytest.approx(0.5 * value_error.mean(), rel=1e-5)
    assert metrics["entropy"] == pytest.approx(entropy.mean(), rel=1e-5)
    assert metrics["approx_kl"] == pytest.approx((ratio - 1 - np.log(ratio)).mean(), rel=1e-4)
    assert metrics["clip_fraction"] == pytest.approx((np.abs(ratio - 1) > 0.2).mean())


def after_one_update(env, config, num_devices=None, **given):
    mesh = None if num_devices is None else jaxdrl.make_mesh(num_devices)
    agent = jaxdrl.ppo(env, config, mesh=mesh, **given)
    step = jax.jit(lambda key: agent.train_step(agent.init(key)))
    return step(jax.random.key(0))


def terms_of_ppo(params, batch, distribution, value):
    """What `value_coef = 0.7` and `entropy_coef = 0.05` say, as a user would write it."""
    kl = losses.approx_kl(distribution.log_prob(batch.action), batch.log_prob)
    return {
        "my_value": 0.35 * jnp.square(value - batch.target),
        "my_entropy": -0.05 * distribution.entropy(),
        "my_kl": jax.lax.stop_gradient(kl),
    }


@pytest.mark.parametrize(
    ("name", "num_devices", "changes"),
    [
        ("CartPole-v1", 8, {"memory": "gru", "memory_size": 8, "sequence_length": 2}),
        ("Pendulum-v1", None, {"normalize_observations": True, "remat": True, "target_kl": 1e-3}),
    ],
)
def test_terms_of_ones_own_learn_what_the_same_terms_of_ppo_do(name, num_devices, changes):
    env, plain = jaxdrl.make(name), with_settings(SMALL, **changes)
    builtin = replace(plain, value_coef=0.7, entropy_coef=0.05)
    bare = replace(plain, value_coef=0.0, entropy_coef=0.0)
    expected, expected_metrics = after_one_update(env, builtin, num_devices)
    state, metrics = after_one_update(env, bare, num_devices, extra_loss=terms_of_ppo)
    for ours, theirs in zip(
        jax.tree.leaves(state.learner.params), jax.tree.leaves(expected.learner.params), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert metrics["grad_norm"] == pytest.approx(float(expected_metrics["grad_norm"]), rel=1e-4)
    value, entropy = 0.7 * metrics["value_loss"], -0.05 * metrics["entropy"]
    assert metrics["my_value"] == pytest.approx(float(value), rel=1e-4)
    assert metrics["my_entropy"] == pytest.approx(float(entropy), rel=1e-4)
    assert metrics["my_kl"] == pytest.approx(float(metrics["approx_kl"]), rel=1e-4)
    assert metrics.keys() == expected_metrics.keys() | {"my_value", "my_entropy", "my_kl"}


def half_square(params, batch, distribution, value):
    squares = jax.tree.map(lambda x: jnp.square(x).sum(), params)
    return {"half_square": 5e3 * jax.tree.reduce(jnp.add, squares), "constant": jnp.float32(3.0)}


def test_a_term_of_the_parameters_alone_is_counted_once_on_8_devices(cartpole):
    """Its gradient is 1e4 times the parameters: a step of 5e-5 takes half of them away."""
    config = with_settings(SMALL, num_minibatches=1, reproducible=True)
    given = {"optimizer": optax.sgd(5e-5), "extra_loss": half_square}
    state, metrics = after_one_update(cartpole, config, 8, **given)
    start = jax.jit(jaxdrl.ppo(cartpole, config).init)(jax.random.key(0)).learner.params
    leaves = [jax.tree.leaves(params) for params in (state.learner.params, start)]
    for after, before in zip(*leaves, strict=True):
        np.testing.assert_allclose(after, 0.5 * before, atol=1e-3)
    squares = sum(float(np.square(x).sum()) for x in leaves[1])
    assert metrics["half_square"] == pytest.approx(5e3 * squares, rel=1e-5)
    assert metrics["constant"] == pytest.approx(3.0)


def test_the_weight_of_a_term_may_be_traced(cartpole):
    def one_update(key, weight):
        agent = jaxdrl.ppo(
            cartpole, SMALL, extra_loss=lambda p, b, d, value: {"size": weight * jnp.abs(value)}
        )
        return agent.train_step(agent.init(key))[1]["size"]

    keys = jax.random.split(jax.random.key(0), 3)
    assert jax.eval_shape(jax.vmap(one_update), keys, jnp.ones(3)).shape == (3,)


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (lambda batch, value: value, "must give a dictionary of terms by name"),
        (lambda batch, value: {"entropy": value}, "entropy.*is a metric already"),
        (lambda batch, value: {"x": value[:, None]}, r"'x'.*\(7,\), a number for each sample"),
        (lambda batch, value: {"x": batch.obs}, r"'x'.*must be float32 of shape"),
        (lambda batch, value: {"x": batch.episode_start}, r"'x'.*must be float32 of shape"),
        (lambda batch, value: {"x": 1}, r"'x'.*must be float32 of shape"),
    ],
)
def test_terms_that_cannot_be_are_refused(cartpole, give, message):
    with pytest.raises(ConfigError, match=message):
        jaxdrl.ppo(cartpole, SMALL, extra_loss=lambda p, batch, d, value: give(batch, value))


def test_what_a_term_raises_comes_through(cartpole):
    def broken(params, batch, distribution, value):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        jaxdrl.ppo(cartpole, SMALL, extra_loss=broken)


def test_the_metrics_that_an_algorithm_declares_are_those_that_it_gives(cartpole):
    agent = jaxdrl.ppo(cartpole._replace(action_mask=lambda obs: jnp.ones(2, jnp.bool)), SMALL)
    _, metrics = jax.eval_shape(lambda key: agent.train_step(agent.init(key)), jax.random.key(0))
    assert metrics.keys() == agent.metrics.keys()
