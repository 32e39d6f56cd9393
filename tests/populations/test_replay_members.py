"""Members with a replay buffer: the bits of their runs alone, and no copy of their buffers."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import jaxdrl
import probe_environments as probes
from jaxdrl import DQNConfig, with_settings
from jaxdrl.populations.state import member
from jaxdrl.runs.metrics_log import sha256

FULLY_OPTIMIZED = True

CONFIG = with_settings(
    DQNConfig(),
    num_envs=16,
    num_steps=4,
    num_gradient_steps=2,
    buffer_size=128,
    batch_size=32,
    learning_starts=64,
    n_step=2,
    target_update_every=3,
    hidden_sizes=(8,),
    reproducible=True,
)
RATES = (1e-3, 1e-2)
MESHES = {"none": {}, "2x2": {"population": 2, "data": 2}}
SLOW = pytest.mark.slow


def population(name, config=CONFIG, one_by_one=True):
    mesh = jaxdrl.make_mesh(**MESHES[name]) if MESHES[name] else None

    def make(hyperparams):
        return jaxdrl.dqn(probes.counter(4), with_settings(config, **hyperparams), mesh=mesh)

    return jaxdrl.population(make, mesh=mesh, one_by_one=one_by_one)


def started(algorithm):
    return jax.jit(algorithm.init)(jax.random.key(0), {"learning_rate": jnp.array(RATES)})


@pytest.mark.parametrize("name", [pytest.param("none", marks=SLOW), "2x2"])
def test_a_member_has_the_bits_of_its_run_alone(name):
    """The buffer has gone round once."""
    together = population(name)
    state = jaxdrl.train(together, started(together), num_updates=3)
    keys = jax.random.split(jax.random.key(0), len(RATES))
    init = jax.jit(jaxdrl.dqn(probes.counter(4), CONFIG).init)  # which the rate has no part in
    for i, rate in enumerate(RATES):
        alone = jaxdrl.dqn(probes.counter(4), with_settings(CONFIG, learning_rate=rate))
        expected = jaxdrl.train(alone, init(keys[i]), num_updates=3)
        own = member(state, i)
        learner = dataclasses.replace(own.learner, hyperparams=())  # which its config has alone
        assert sha256(dataclasses.replace(own, learner=learner)) == sha256(expected)


@pytest.mark.parametrize(
    "one_by_one", [True, pytest.param(False, marks=SLOW), pytest.param(None, marks=SLOW)]
)
def test_no_buffer_is_copied(one_by_one):
    config = with_settings(CONFIG, buffer_size=160_000, reproducible=bool(one_by_one))
    together = population("none", config, one_by_one)
    state = jax.eval_shape(lambda key: together.init(key, {"learning_rate": jnp.array(RATES)}), KEY)
    found = jaxdrl.jit_step(together).lower(state).compile().memory_analysis()
    kept = state.actor.replay
    arrays = jax.tree.leaves((kept.obs, kept.action, kept.reward, kept.ends, kept.final_obs))
    num_bytes = sum(x.size * x.dtype.itemsize for x in arrays)
    assert found.alias_size_in_bytes > num_bytes
    assert found.temp_size_in_bytes < 0.1 * num_bytes


KEY = jax.eval_shape(lambda: jax.random.key(0))
