"""SAC's loss: its parts by NumPy, and which part each moves."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
import probe_environments as probes
from jaxdrl import SACConfig, with_settings
from jaxdrl.actors.asynchronous import asynchronous
from jaxdrl.algorithms import sac as module
from jaxdrl.algorithms.replay import Minibatch
from jaxdrl.core.spaces import Box
from jaxdrl.errors import ConfigError

CONFIG = with_settings(
    SACConfig(),
    gamma=0.9,
    reward_scale=0.5,
    initial_temperature=0.3,
    target_entropy=-0.7,
    hidden_sizes=(8,),
    n_step=2,
)
ROWS = 6


def minibatch(shape, n=2):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, n + 1, ROWS)
    reward = rng.normal(size=(ROWS, n)) * (np.arange(n) < lengths[:, None])
    return Minibatch(
        obs=jnp.asarray(rng.normal(size=(ROWS, 5)), jnp.float32),
        action=jnp.asarray(rng.normal(size=(ROWS, *shape)), jnp.float32),
        reward=jnp.asarray(reward, jnp.float32),
        num_steps=jnp.asarray(lengths, jnp.int32),
        terminated=jnp.asarray([True, False, False, True, False, False]),
        next_obs=jnp.asarray(rng.normal(size=(ROWS, 5)), jnp.float32),
        weight=jnp.asarray([1.0, 1, 0, 1, 1, 1]),
        seed=jnp.arange(7, 7 + ROWS, dtype=jnp.uint32),
    )


@pytest.fixture(scope="module")
def made():
    env = probes.constant_reward(5, "truncated", Box(-2.0, 2.0, (3,)))
    algorithm = jaxdrl.sac(env, CONFIG)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    params = jax.tree.map(
        lambda x: x + 0.1 * jnp.cos(9.0 * jnp.arange(float(x.size)).reshape(x.shape)),
        state.learner.params,
    )
    return algorithm.learn.args[0].loss.args[0], state.learner, params


def log_density(u, mean, log_std):
    """Of tanh(u), in float64."""
    normal = -0.5 * ((u - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
    return (normal - np.log1p(-(np.tanh(u) ** 2))).sum(axis=-1)


def test_its_losses_are_those_of_numpy(made):
    made, learner, params = made
    batch = minibatch((3,))
    _, metrics = jax.jit(lambda p: module.loss(made, learner, p, batch))(params)

    noise = np.stack([jax.random.normal(jax.random.key(seed), (2, 3)) for seed in batch.seed])
    temperature = np.exp(float(params["log_temperature"]))
    target, log_probs, q_pi = [], [], []
    for obs, i in ((batch.next_obs, 1), (batch.obs, 0)):
        mean, log_std = map(np.float64, made.parts.actor(params["actor"], obs))
        u = mean + np.exp(log_std) * noise[:, i]
        log_probs.append(log_density(u, mean, log_std))
        critics = learner.target_params["critic"] if i else params["critic"]
        q_pi.append(np.float64(made.parts.critics(critics, obs, jnp.tanh(jnp.float32(u)))))
    for row in range(ROWS):
        num = int(batch.num_steps[row])
        total = 0.5 * sum(0.9**k * float(batch.reward[row, k]) for k in range(num))
        after = min(q_pi[0][:, row]) - temperature * log_probs[0][row]
        target.append(total + (0.0 if batch.terminated[row] else 0.9**num * after))
    q = np.float64(made.parts.critics(params["critic"], batch.obs, jnp.tanh(batch.action)))
    errors = 0.5 * (q - np.array(target)) ** 2
    expected = {
        "value_loss": (np.asarray(batch.weight) * errors.sum(axis=0)).mean(),
        "policy_loss": (temperature * log_probs[1] - q_pi[1].min(axis=0)).mean(),
        "entropy": -log_probs[1].mean(),
        "temperature": temperature,
        "value": q_pi[1].min(axis=0).mean(),
    }
    assert set(metrics) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)


def test_each_loss_moves_its_own_part(made):
    made, learner, params = made
    batch = minibatch((3,))

    def gradient(of):
        def part(params):
            total, metrics = module.loss(made, learner, params, batch)
            return total if of == "total" else metrics[of]

        return jax.jit(jax.grad(part))(params)

    total = gradient("total")
    for part, name in (("actor", "policy_loss"), ("critic", "value_loss")):
        assert optax_norm(total[part]) > 1e-3
        alone = jax.tree.leaves(gradient(name)[part])
        for one, other in zip(jax.tree.leaves(total[part]), alone, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    _, metrics = module.loss(made, learner, params, batch)
    slope = metrics["temperature"] * (metrics["entropy"] - 3 * -0.7)
    np.testing.assert_allclose(total["log_temperature"], slope, rtol=1e-5)


def optax_norm(tree):
    return np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(tree)))


def test_a_temperature_that_is_not_learnt_stays():
    env = probes.continuous_target(-1.0, 1.0, (1,))
    config = with_settings(
        CONFIG, learn_temperature=False, learning_starts=64, buffer_size=128, num_steps=8
    )
    algorithm = jaxdrl.sac(env, config)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    assert set(state.learner.params) == {"actor", "critic"}
    _, metrics = jax.jit(algorithm.train_step)(state)
    np.testing.assert_allclose(metrics["temperature"], 0.3, rtol=1e-6)


def test_held_noise_is_that_of_the_policy_and_lasts_for_a_rollout():
    """It differs between environments and rollouts, and is standard normal over many."""
    env = probes.constant_reward(5, "truncated", Box(-2.0, 2.0, (3,)))
    algorithm = jaxdrl.sac(env, with_settings(CONFIG, hold_noise=True))
    learner = jax.jit(algorithm.init)(jax.random.key(0)).learner
    agent = algorithm.learn.args[0].agent
    num = 2000
    shown = agent.head.distribution((jnp.full((num, 3), 0.5), jnp.full((num, 3), jnp.log(2.0))))

    @jax.jit
    def sampled(num_updates, key):
        held = agent.explore(shown, replace(learner, num_updates=num_updates), jnp.arange(num))
        return held.sample(key)

    with jax.debug_key_reuse(False):
        first, again = (sampled(3, jax.random.key(i)) for i in (1, 2))
        later = sampled(4, jax.random.key(1))
    np.testing.assert_allclose(first, again, atol=2e-3)
    noise = (np.stack([first, later]) - 0.5) / 2.0
    assert np.abs(noise.mean(axis=1)).max() < 0.1
    assert np.abs(noise.std(axis=1) - 1.0).max() < 0.1
    assert np.abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.1
    with pytest.raises(ConfigError, match=r"^hold_noise = True: must be False for an environment"):
        jaxdrl.sac(env._replace(host=object()), with_settings(CONFIG, hold_noise=True))


def test_noise_is_not_held_where_actors_act():
    env = probes.constant_reward(5, "truncated", Box(-2.0, 2.0, (3,)))
    algorithm = asynchronous(jaxdrl.sac(env, with_settings(CONFIG, hold_noise=True)), 1)
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    with pytest.raises(ConfigError, match=r"^hold_noise = True: must be False where actors act"):
        jax.eval_shape(algorithm.rollout, state.learner, state.actor)
