"""TD3's loss, delay and exploration. `test_twin_critics.py` has what it shares with SAC."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_sac import ROWS, minibatch

import jaxdrl
import probe_environments as probes
from jaxdrl import TD3Config, with_settings
from jaxdrl.algorithms import td3 as module
from jaxdrl.core.spaces import Box

CONFIG = with_settings(TD3Config(), gamma=0.9, hidden_sizes=(8,), n_step=2, target_noise=0.4)
ENV = probes.constant_reward(5, "truncated", Box(-2.0, 2.0, (3,)))


def start(config):
    algorithm = jaxdrl.td3(ENV, config)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    wave = lambda x: x + 0.1 * jnp.cos(9.0 * jnp.arange(float(x.size)).reshape(x.shape))  # noqa: E731
    params = jax.tree.map(wave, state.learner.params)
    return algorithm.learn.args[0].loss.args[0], state.learner, params


def targets_by_loop(made, learner, batch):
    """`(return, discount, target critics' outputs [2, rows, ...])`."""
    noise = np.stack([jax.random.normal(jax.random.key(seed), (1, 3))[0] for seed in batch.seed])
    action = np.tanh(made.parts.actor(learner.target_params["actor"], batch.next_obs))
    action = np.clip(action + np.clip(0.4 * noise, -0.5, 0.5), -1, 1)
    q = made.parts.critics(learner.target_params["critic"], batch.next_obs, jnp.float32(action))
    lengths = np.asarray(batch.num_steps)
    rewards = np.asarray(batch.reward)
    returns = [sum(0.9**k * rewards[i, k] for k in range(lengths[i])) for i in range(ROWS)]
    discount = np.where(batch.terminated, 0.0, 0.9**lengths)
    return np.array(returns), discount, np.float64(q)


def test_its_losses_are_those_of_numpy():
    made, learner, params = start(CONFIG)
    batch = minibatch((3,))
    returns, discount, q_next = targets_by_loop(made, learner, batch)
    target = returns + discount * q_next.min(axis=0)
    stored = np.clip(batch.action, -1.0, 1.0)
    q = np.float64(made.parts.critics(params["critic"], batch.obs, stored))
    errors = 0.5 * ((q - target) ** 2).sum(axis=0)
    action = jnp.tanh(made.parts.actor(params["actor"], batch.obs))
    policy_loss = -float(made.parts.critics(params["critic"], batch.obs, action)[0].mean())
    for due in (True, False):
        _, metrics = module.loss(made, learner, jnp.array(due), params, batch)
        value_loss = (np.asarray(batch.weight) * errors).mean()
        np.testing.assert_allclose(metrics["value_loss"], value_loss, rtol=1e-4)
        seen = CONFIG.policy_delay * policy_loss if due else 0.0
        np.testing.assert_allclose(metrics["policy_loss"], seen, rtol=1e-4)


def test_its_loss_with_atoms_is_the_cross_entropy_from_the_lower_critic():
    config = with_settings(CONFIG, num_atoms=7, v_min=-3.0, v_max=3.0)
    made, learner, params = start(config)
    batch = minibatch((3,))
    returns, discount, logits = targets_by_loop(made, learner, batch)
    z = np.linspace(-3, 3, 7)
    probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    lower = np.argmin(probs @ z, axis=0)
    stored = np.clip(batch.action, -1.0, 1.0)
    q = np.float64(made.parts.critics(params["critic"], batch.obs, stored))
    log_q = q - np.log(np.exp(q).sum(axis=-1, keepdims=True))
    errors = np.zeros(ROWS)
    for row in range(ROWS):
        target = np.zeros(7)
        for j in range(7):  # onto the nearest two atoms, in proportion
            place = np.clip(returns[row] + discount[row] * z[j], -3, 3) + 3
            below = min(int(place), 5)
            target[below] += probs[lower[row], row, j] * (below + 1 - place)
            target[below + 1] += probs[lower[row], row, j] * (place - below)
        errors[row] = -(target * log_q[:, row]).sum()
    _, metrics = module.loss(made, learner, jnp.array(True), params, batch)
    expected = (np.asarray(batch.weight) * errors).mean()
    np.testing.assert_allclose(metrics["value_loss"], expected, rtol=1e-4)


def test_each_loss_moves_its_own_part_and_the_actor_waits():
    made, learner, params = start(CONFIG)
    batch = minibatch((3,))

    def gradient(due, of):
        def part(params):
            total, metrics = module.loss(made, learner, jnp.array(due), params, batch)
            return total if of == "total" else metrics[of]

        return jax.device_get(jax.grad(part)(params))

    total, waiting = gradient(True, "total"), gradient(False, "total")
    for part, of, factor in (("actor", "policy_loss", 2.0), ("critic", "value_loss", 1.0)):
        alone = gradient(True, of)
        for one, other in zip(*map(jax.tree.leaves, (total[part], alone[part])), strict=True):
            np.testing.assert_allclose(one * factor, other, rtol=1e-5, atol=1e-7)
        assert max(np.abs(x).max() for x in jax.tree.leaves(total[part])) > 1e-4
    assert not any(np.any(x) for x in jax.tree.leaves(waiting["actor"]))
    assert any(np.any(x) for x in jax.tree.leaves(waiting["critic"]))


@pytest.mark.parametrize(("num_gradient_steps", "moves"), [(2, False), (3, True)])
def test_actor_and_targets_move_with_every_third_step_alone(num_gradient_steps, moves):
    config = replace(
        with_settings(CONFIG, policy_delay=3, num_gradient_steps=num_gradient_steps),
        **{"num_envs": 8, "num_steps": 8, "learning_starts": 64, "buffer_size": 128},
    )
    algorithm = jaxdrl.td3(ENV, config)
    before = jax.jit(algorithm.init)(jax.random.key(0))
    after, _ = jax.jit(algorithm.train_step)(before)

    def same(of):
        return all(map(np.array_equal, *(jax.tree.leaves(of(x.learner)) for x in (before, after))))

    assert not same(lambda learner: learner.params["critic"])
    for of in (
        lambda learner: learner.params["actor"],
        lambda learner: learner.opt_state["actor"],
        lambda learner: learner.target_params,
    ):
        assert same(of) != moves


def test_environments_explore_with_noise_of_their_own_and_at_first_with_any_action():
    config = with_settings(
        CONFIG, num_envs=8, learning_starts=32, max_exploration_noise=0.8, target_noise=0.0
    )
    made, learner, _ = start(config)
    agent = made.agent

    def after(num_updates):
        return replace(learner, num_updates=jnp.array(num_updates))

    mean = jnp.full((4, 3), 0.5)
    shown = agent.head.distribution((mean, jnp.zeros((4, 3))))
    ids = jnp.array([0, 7, 3, 1])
    later = agent.explore(shown, after(4), ids)
    np.testing.assert_allclose(later.mean, 0.5)
    expected = 0.1 + 0.7 * np.array([0, 7, 3, 1]) / 7
    np.testing.assert_allclose(np.exp(later.log_std), expected[:, None].repeat(3, 1), rtol=1e-5)
    at_first = agent.explore(shown, after(3), ids)
    np.testing.assert_array_equal(at_first.mean, 0.0)
    np.testing.assert_array_equal(at_first.log_std, 0.0)
