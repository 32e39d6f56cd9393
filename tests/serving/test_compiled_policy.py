"""A policy compiled for a few batch sizes acts on any number of rows as it would on all at once."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from jaxdrl import PPOConfig, SACConfig
from jaxdrl.analysis.policy_function import PolicyFunction, policy_function
from jaxdrl.analysis.policy_inputs import Unread
from jaxdrl.serving.compiled_policy import CompiledPolicy

LEARNER = jnp.arange(3.0)


def shapes(*trees):
    (batch,) = jax.export.symbolic_shape("batch")
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch, *x.shape), x.dtype), trees)


def feed_forward(learner, obs):
    return ((obs["x"] * learner[None]).sum(axis=1),)


def recurrent(learner, obs, carry, episode_start):
    total = jnp.where(episode_start[:, None], 0.0, carry["actor"]) + obs["x"] * learner[None]
    return total.sum(axis=1), {"actor": total, "critic": carry["critic"] + obs["z"]}


OBS = {"x": jnp.zeros(3), "z": jnp.zeros(1)}
FLAT = PolicyFunction(feed_forward, shapes(OBS), Unread(("z",)))
MEMORY = PolicyFunction(
    recurrent,
    shapes(OBS, {"actor": jnp.zeros(3), "critic": jnp.zeros(1)}, jnp.array(True)),
    Unread(("z",), ("critic",)),
)


@pytest.fixture(scope="module")
def policies():
    return [CompiledPolicy(function, LEARNER, (8, 2, 2)) for function in (FLAT, MEMORY)]


@pytest.mark.parametrize("num", [0, 1, 2, 3, 8, 9, 29])
def test_rows_are_padded_and_split(policies, num):
    flat, memory = policies
    rng = np.random.default_rng(num)
    x, start = rng.normal(size=(num, 3)).astype(np.float32), rng.random(num) < 0.5
    weights = np.asarray(LEARNER)
    action, carry = flat.act(flat.part_of(LEARNER), {"x": x}, (), start)
    np.testing.assert_allclose(action, (x * weights).sum(axis=1), rtol=1e-6, atol=1e-6)
    assert carry == () and action.shape == (num,)
    before = rng.normal(size=(num, 3)).astype(np.float32)
    action, carry = memory.act(memory.part_of(LEARNER), {"x": x}, {"actor": before}, start)
    expected = np.where(start[:, None], 0, before) + x * weights
    np.testing.assert_allclose(carry["actor"], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(action, expected.sum(axis=1), rtol=1e-5, atol=1e-6)
    assert list(carry) == ["actor"]


def test_nothing_is_compiled_after_the_start(policies, caplog):
    with jax.log_compiles():
        jax.jit(lambda x: x + 1)(1.0)
        assert "Compiling" in caplog.text
        caplog.clear()
        for policy in policies:
            part = policy.part_of(LEARNER)
            for num in (1, 5, 20):
                obs, carry = {"x": np.zeros((num, 3), np.float32)}, policy.initial_carry(num)
                policy.act(part, obs, carry, np.ones(num, bool))
        assert "Compiling" not in caplog.text


def test_what_it_takes(policies):
    flat, memory = policies
    assert flat.sizes == (2, 8) and flat.dtypes == {"x": np.float32}
    assert flat.initial_carry(4) == ()
    assert memory.initial_carry(4)["actor"].shape == (4, 3)
    assert list(memory.initial_carry(4)) == ["actor"]


def test_a_learner_of_another_shape_is_refused(policies):
    policies[0].rehearse(policies[0].part_of(LEARNER + 1))
    with pytest.raises(TypeError):
        policies[0].rehearse(policies[0].part_of(jnp.arange(4.0)))


LEARNERS = {
    # Actor 4-8-2, and the means and variances of 4 observations; its critic is as large.
    "ppo": (jaxdrl.ppo, PPOConfig(), "CartPole-v1", {"normalize_observations": True}, 58 + 8),
    # Actor 3-8-2 for mean and standard deviation.
    "sac": (jaxdrl.sac, SACConfig(), "Pendulum-v1", {}, 50),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_only_what_decides_actions_is_on_the_device(name):
    make, config, env, changes, num_floats = LEARNERS[name]
    env = jaxdrl.make(env)
    config = jaxdrl.with_settings(config, num_envs=8, hidden_sizes=(8,), **changes)
    agent = make(env, config)
    learner = jax.device_get(agent.init(jax.random.key(0)).learner)
    gc.collect()
    others = {id(x) for x in jax.live_arrays()}
    policy = CompiledPolicy(policy_function(env, agent.policy, learner), learner, (1,))
    part = policy.part_of(learner)
    policy.rehearse(part)
    gc.collect()
    on_device = sum(x.nbytes for x in jax.live_arrays() if id(x) not in others)
    key = 8
    assert sum(x.nbytes for x in part) == 4 * num_floats + key
    assert on_device <= 4 * num_floats + 4 * key
    assert sum(x.nbytes for x in jax.tree.leaves(learner)) > 4 * (4 * num_floats)
