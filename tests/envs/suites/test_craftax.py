"""Tasks of Craftax against Craftax itself, and what is refused."""

import re
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("craftax")

import suite_contract
from jaxdrl import ConfigError, check_environment, make
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.envs.protocol import replace_params
from jaxdrl.envs.suites import craftax
from jaxdrl.envs.truncation import TimeLimitState
from jaxdrl.envs.type_checks import check_types

CLASSIC, FULL = craftax.TASKS
TASKS = [CLASSIC, pytest.param(FULL, marks=pytest.mark.slow)]


@lru_cache
def their_task(task):
    """Theirs counts up to a limit of its own, which is far off here."""
    from craftax.craftax_env import make_craftax_env_from_name

    with default_promotion():
        env = make_craftax_env_from_name(task, auto_reset=False)
        params = env.default_params

    def reset(key):
        return env.reset_env(jax.random.key_data(key), params)

    def step(key, state, action):
        return env.step_env(jax.random.key_data(key), state, action, params)[:4]

    return suite_contract.Theirs(reset, step)


@lru_cache
def limited(task):
    return make(f"craftax/{task}", max_episode_steps=40.0)


@pytest.mark.parametrize("task", TASKS)
def test_agrees_with_craftax_step_by_step(task):
    suite_contract.check_agreement(limited(task), their_task(task), 40)


@pytest.mark.parametrize("task", TASKS)
def test_keeps_the_contract(task):
    report = check_environment(limited(task))
    assert report.holds, report


def test_the_limit_of_craftax_itself_is_no_death():
    """At the step where Craftax says that the episode is done, the same happens, without an end."""
    step = suite_contract.ours(limited(CLASSIC)).step
    their_reset, their_step = suite_contract.compiled(their_task(CLASSIC))
    _, state = their_reset(suite_contract.key_data(0, 5))
    state = state.replace(timestep=jnp.full_like(state.timestep, 10_000 - 1))
    env_state = TimeLimitState(inner=state, num_steps=jnp.zeros(5, jnp.int32))
    keys, action = suite_contract.key_data(1, 5), jnp.zeros(5, jnp.int32)
    their_obs, _, _, done = their_step(keys, state, action)
    obs, _, _, terminated, truncated = step(keys, env_state, action)
    np.testing.assert_array_equal(obs, their_obs)
    assert done.all() and not terminated.any() and not truncated.any()


@pytest.mark.slow
def test_bootstraps_from_the_true_successor_where_the_limit_cuts():
    env = make(f"craftax/{CLASSIC}", max_episode_steps=5)
    suite_contract.check_bootstrap(env, their_task(CLASSIC), 5)


@pytest.mark.parametrize(("task", "limit"), [(CLASSIC, 10_000), (FULL, 100_000)])
def test_limits_and_spaces_are_those_of_craftax(task, limit):
    env = make(f"craftax/{task}")
    assert env.max_episode_steps == limit
    check_types(env)
    assert env.costly_reset
    assert make(f"craftax/{task}", max_episode_steps=None).max_episode_steps is None


def test_parameters_are_those_of_craftax():
    env = make(f"craftax/{CLASSIC}", day_length=200.0, always_diamond=0.0)
    assert (env.default_params.day_length, env.default_params.always_diamond) == (200, False)
    assert env.default_params.zombie_health == 5
    changed = replace_params(env, {"zombie_health": 7.0})
    assert changed.zombie_health == 7 and changed.max_timesteps == env.default_params.max_timesteps
    with pytest.raises(ConfigError, match="max_timesteps = 9: is computed from other parameters"):
        replace_params(env, {"max_timesteps": 9.0})


@pytest.mark.parametrize(
    ("task", "params", "words"),
    [
        (
            "Craftax-Symbolic-v2",
            {},
            "env = 'craftax/Craftax-Symbolic-v2': unknown; the nearest: Cra",
        ),
        (
            "Craftax-Pixels-v1",
            {},
            "in a pickle, and loading one can run code; use craftax/Craftax-Sy",
        ),
        ("Craftax-Classic-Pixels-v1", {}, "use craftax/Craftax-Classic-Symbolic-v1"),
        (CLASSIC, {"max_timesteps": 5}, "max_timesteps = 5: use max_episode_steps instead"),
        (
            CLASSIC,
            {"day_lenght": 5},
            "env_params.day_lenght = 5: craftax/Craftax-Classic-Symbolic-v1",
        ),
        (CLASSIC, {"max_episode_steps": 0.5}, "max_episode_steps = 0.5: must be an integer of at"),
    ],
)
def test_what_craftax_has_not_is_refused(task, params, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        make(f"craftax/{task}", **params)
