"""V-trace on the learner's own data, which it must leave as it is; old data is in `ppo/`."""

import jax
import numpy as np
import pytest

import jaxdrl
from jaxdrl import PPOConfig, with_settings

SMALL = {"num_envs": 16, "num_steps": 8, "num_epochs": 1, "num_minibatches": 2, "num_shards": 4}


@pytest.mark.parametrize(
    ("name", "params", "changes"),
    [
        ("Pendulum-v1", {"max_steps_in_episode": 5}, {"normalize_rewards": True}),
        ("CartPole-v1", {}, {"memory": "gru", "memory_size": 8, "sequence_length": 4}),
    ],
)
def test_data_of_its_own_is_not_corrected(name, params, changes):
    """Neither with truncated episodes nor with a memory."""
    env, after = jaxdrl.make(name, **params), {}
    plain = with_settings(PPOConfig(), **SMALL, **changes, hidden_sizes=(8,))
    init = jax.jit(jaxdrl.ppo(env, plain).init)
    for correction in ("none", "vtrace"):
        agent = jaxdrl.ppo(env, with_settings(plain, correction=correction))
        start = init(jax.random.key(0))
        state, metrics = jax.jit(agent.train_step)(start)
        after[correction] = jax.device_get((state.learner.params, metrics))
    old, both = jax.device_get(start.learner.params), (after["none"][0], after["vtrace"][0])
    for before, one, other in zip(*map(jax.tree.leaves, (old, *both)), strict=True):
        moved = np.abs(one - before).max()
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-3 * moved)
    for metric, value in after["none"][1].items():
        np.testing.assert_allclose(value, after["vtrace"][1][metric], rtol=1e-3, atol=1e-5)
