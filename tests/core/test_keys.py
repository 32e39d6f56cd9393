"""Keys of one kind, whatever the default of JAX is."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
import probe_environments as probes
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.settings import with_settings
from jaxdrl.core import keys
from jaxdrl.errors import ConfigError
from jaxdrl.runs import checkpoint, finite_states

OTHERS = ["rbg", "unsafe_rbg"]
FAST = with_settings(PPOConfig(), num_envs=8, num_steps=2, num_minibatches=1, hidden_sizes=(2,))
REPRODUCIBLE = with_settings(FAST, reproducible=True)


def data(key):
    return np.asarray(jax.random.key_data(key)).tolist()


@pytest.mark.parametrize("impl", OTHERS)
def test_a_seed_makes_the_same_key_under_any_default(impl):
    expected = data(jax.random.split(jax.random.key(3, impl="threefry2x32"), 4))
    with jax.default_prng_impl(impl), jax.threefry_partitionable(False):
        key = keys.make_key(3)
        assert str(keys.abstract_key().dtype) == str(key.dtype) == "key<fry>"
        with keys.pinned():
            assert data(jax.random.split(key, 4)) == expected
            assert str(jax.random.key(3).dtype) == "key<fry>"


@pytest.mark.parametrize("impl", OTHERS)
def test_reproducible_mode_refuses_keys_that_do_not_keep_the_bits(impl):
    agent = jaxdrl.ppo(probes.counter(4), REPRODUCIBLE)
    key = jax.random.key(0, impl=impl)
    with pytest.raises(ConfigError) as caught:
        jax.eval_shape(agent.init, key)
    assert str(caught.value) == (
        f"key: its implementation is {impl}, whose bits depend on the number of devices; with "
        "reproducible = True it must be threefry2x32: jax.random.key(seed, impl='threefry2x32')"
    )
    fast = jaxdrl.ppo(probes.counter(4), FAST)
    assert str(jax.eval_shape(fast.init, key).learner.key.dtype) != "key<fry>"


@pytest.mark.parametrize("impl", OTHERS)
def test_environments_that_make_keys_have_the_same_state_under_any_default(impl):
    def reset(key, params):
        obs, state = probes.counter(4).reset(key, params)
        return obs, (state, jax.random.PRNGKey(0))  # two numbers, or four

    def step(key, state, action, params):
        obs, inner, *others = probes.counter(4).step(key, state[0], action, params)
        return obs, (inner, jax.random.split(state[1])[0]), *others

    env = probes.counter(4)._replace(reset=reset, step=step)
    with jax.default_prng_impl(impl):
        agent = jaxdrl.ppo(env, REPRODUCIBLE)
        state = jax.eval_shape(agent.init, keys.abstract_key())
        after, _ = jax.eval_shape(agent.train_step, state)
    assert state.actor.env_state[1].shape == after.actor.env_state[1].shape == (8, 2)


@pytest.mark.parametrize("impl", OTHERS)
def test_a_checkpoint_keeps_the_kind_of_its_keys(tmp_path, impl):
    def state(impl):
        key = jax.random.key(5, impl=impl)
        learner = {"num_updates": jnp.int32(0), "key": key}
        return {"learner": learner, "actor": {"key": jax.random.split(key, 8)}}

    with jax.debug_key_reuse(False):
        saved = state(impl)
        described, arrays = checkpoint.describe(saved), checkpoint.to_host(saved)
        path = checkpoint.write(tmp_path, 0, arrays, described, {})
        abstract = jax.eval_shape(lambda: state("threefry2x32"))
        loaded = finite_states.load(path, abstract, "this")
        chex.assert_trees_all_equal_dtypes(loaded, saved)
        assert data(loaded["actor"]["key"]) == data(saved["actor"]["key"])
