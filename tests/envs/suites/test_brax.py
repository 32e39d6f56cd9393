"""Tasks of Brax against Brax itself, and what is refused."""

import re
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("brax")

import suite_contract
from jaxdrl import ConfigError, check_environment, make
from jaxdrl.envs.suites import brax

TASKS = [
    "inverted_pendulum",
    *(pytest.param(t, marks=pytest.mark.slow) for t in ("reacher", "ant")),
]
LIMIT = 25


@lru_cache
def their_task(task):
    from brax import envs

    with brax.their_rules():
        env = envs.get_environment(task)

    def step(key, state, action):
        with brax.their_rules():
            state = env.step(state, action)
        return state.obs, state, state.reward, state.done

    def reset(key):
        with brax.their_rules():
            state = env.reset(key)
        return state.obs, state

    return suite_contract.Theirs(reset, step)


@pytest.mark.parametrize("task", TASKS)
def test_agrees_with_brax_step_by_step(task):
    env = make(f"brax/{task}", max_episode_steps=LIMIT)
    num_terminated = suite_contract.check_agreement(env, their_task(task), LIMIT)
    assert num_terminated > 0 or task != "inverted_pendulum"


@pytest.mark.parametrize("task", TASKS)
def test_keeps_the_contract(task):
    report = check_environment(make(f"brax/{task}", max_episode_steps=LIMIT))
    assert report.holds, report


def test_bootstraps_from_the_true_successor_where_the_limit_cuts():
    env = make("brax/inverted_pendulum", max_episode_steps=4.0)
    suite_contract.check_bootstrap(env, their_task("inverted_pendulum"), 4)


def test_step_leaves_the_state_that_it_is_given_alone():
    """Brax itself writes into the dictionary `metrics` of that state."""
    env = make("brax/reacher", max_episode_steps=None)
    _, shapes = jax.eval_shape(env.reset, jax.random.key(0), ())
    env_state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    before = jax.tree.leaves(env_state)
    jax.eval_shape(lambda: env.step(jax.random.key(0), env_state, jnp.zeros(2), ())[:5])
    assert len(before) > 10 and len(env_state.metrics) > 0
    assert all(x is y for x, y in zip(before, jax.tree.leaves(env_state), strict=True))


def test_a_state_is_drawn_in_its_own_position():
    env = make("brax/inverted_pendulum", max_episode_steps=None)
    _, shapes = jax.eval_shape(env.reset, jax.random.key(0), ())
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    tilted = state.replace(
        pipeline_state=state.pipeline_state.replace(q=np.array([0.0, 1.0], np.float32))
    )
    pictures = [env.draw(env_state, ()) for env_state in (state, tilted)]
    assert pictures[0].shape == (280, 400, 3) and (pictures[0] != pictures[1]).any()


def test_the_tasks_are_those_of_brax_with_its_own_limit():
    from brax import envs

    assert {*brax.list_tasks(), "fast"} == set(envs._envs)
    assert make("brax/inverted_pendulum").max_episode_steps == 1000
    assert make("brax/inverted_pendulum", max_episode_steps=None).max_episode_steps is None


@pytest.mark.parametrize(
    ("task", "params", "words"),
    [
        ("aunt", {}, "env = 'brax/aunt': unknown; the nearest: ant"),
        ("fast", {}, "env = 'brax/fast': unknown"),
        (
            "ant",
            {"backing": 1},
            "env_params.backing = 1: brax/ant has no such parameter; the nearest: back",
        ),
        (
            "ant",
            {"backend": "sprng"},
            "env_params.backend = 'sprng': must be one of generalized, positional, spring, mjx",
        ),
        (
            "ant",
            {"backend": 3.0},
            "env_params.backend = 3.0: must be a string, such as 'generalized'",
        ),
        (
            "inverted_pendulum",
            {"max_episode_steps": 0.0},
            "max_episode_steps = 0: must be an integer",
        ),
    ],
)
def test_what_brax_has_not_is_refused(task, params, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        make(f"brax/{task}", **params)
