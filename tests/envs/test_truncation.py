"""Limits on the length of episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from jaxdrl.envs.truncation import time_limit
from jaxdrl.envs.type_checks import check_types
from jaxdrl.errors import ConfigError
from probe_environments import constant_reward, counter, delayed_reward


def ends(env, num_steps):
    """`(terminated, truncated)` of each of `num_steps` steps from one reset, run past the end."""
    key = jax.random.key(0)
    action = jnp.zeros((), jnp.int32)
    _, state = env.reset(key, env.default_params)
    flags = []
    for _ in range(num_steps):
        _, state, _, terminated, truncated, _ = env.step(key, state, action, env.default_params)
        assert (terminated.dtype, truncated.dtype) == (jnp.bool, jnp.bool)
        flags.append((bool(terminated), bool(truncated)))
    return flags


NOTHING, TERMINATED, TRUNCATED = (False, False), (True, False), (False, True)


@pytest.mark.parametrize(
    ("env", "limit", "expected"),
    [
        (constant_reward(9, "terminated"), 3, [NOTHING, NOTHING, TRUNCATED]),
        (constant_reward(2, "terminated"), 3, [NOTHING, TERMINATED]),
        (constant_reward(3, "terminated"), 3, [NOTHING, NOTHING, TERMINATED]),
        (constant_reward(3, "truncated"), 3, [NOTHING, NOTHING, TRUNCATED]),
        (constant_reward(2, "truncated"), 3, [NOTHING, TRUNCATED]),
        (constant_reward(9, "truncated"), 1, [TRUNCATED]),
        (constant_reward(1, "terminated"), 1, [TERMINATED]),
    ],
)
def test_time_limit_truncates_at_the_limit_unless_terminated(env, limit, expected):
    assert ends(time_limit(env, limit), len(expected)) == expected


@pytest.mark.parametrize("limits", [(4, 2), (2, 4), (2, 2)])
def test_the_shorter_of_nested_limits_holds(limits):
    env = constant_reward(9, "terminated")
    for limit in limits:
        env = time_limit(env, limit)
    assert ends(env, 2) == [NOTHING, TRUNCATED]
    assert env.max_episode_steps == 2
    check_types(env)


def test_time_limit_states_the_longest_possible_episode():
    unlimited = constant_reward(9, "terminated")._replace(max_episode_steps=None)
    assert time_limit(unlimited, 4).max_episode_steps == 4
    assert time_limit(constant_reward(9, "truncated"), 4).max_episode_steps == 4
    assert time_limit(constant_reward(2, "truncated"), 4).max_episode_steps == 2
    assert jaxdrl.time_limit is time_limit


def test_time_limit_counts_from_each_reset_and_changes_nothing_else():
    env, key = counter(1000), jax.random.key(1)
    limited = time_limit(env, 3)
    obs, state = env.reset(key, ())
    limited_obs, limited_state = limited.reset(jax.random.clone(key), ())
    np.testing.assert_array_equal(limited_obs, obs)
    action = jnp.ones((), jnp.int32)
    for i in range(2):
        obs, state, reward, *_ = env.step(jax.random.key(i), state, action, ())
        limited_obs, limited_state, limited_reward, *_ = limited.step(
            jax.random.key(i), limited_state, action, ()
        )
        np.testing.assert_array_equal(limited_obs, obs)
        assert limited_reward == reward
        assert limited_state.inner.draw == state.draw
        assert limited_state.num_steps == i + 1
    assert limited.reset(jax.random.key(2), ())[1].num_steps == 0
    for field in ("name", "observation_space", "action_space", "default_params"):
        assert getattr(limited, field) == getattr(env, field)


@pytest.mark.parametrize("limit", [0, -1, 2.5, None, True, "5"])
def test_time_limit_refuses_what_is_not_a_count(limit):
    with pytest.raises(ConfigError, match=r"max_episode_steps = .*integer of at least 1"):
        time_limit(delayed_reward(), limit)
