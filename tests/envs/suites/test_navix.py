"""The NAVIX adapter against NAVIX itself, and what it refuses."""

import re
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
import suite_contract
from jaxdrl.envs.type_checks import check_types
from jaxdrl.errors import ConfigError

adapter = pytest.importorskip("jaxdrl.envs.suites.navix")
navix = pytest.importorskip("navix")


SMALL = "Navix-Empty-Random-5x5-v0"


@lru_cache
def their_task(task):
    """Its own limits are beyond the steps that are taken."""
    raw = navix.make(task)

    def convert(symbols):
        parts = [jax.nn.one_hot(symbols[..., i], n) for i, n in enumerate((11, 6, 4))]
        return jnp.concatenate(parts, axis=-1) > 0

    def reset(key):
        timestep = raw.reset(jax.random.key_data(key))
        return convert(timestep.observation), timestep

    def step(key, timestep, action):
        timestep = raw.step(timestep, action)
        return convert(timestep.observation), timestep, timestep.reward, timestep.is_done()

    return suite_contract.Theirs(reset, step)


@pytest.mark.parametrize(
    ("task", "limit", "num_ended"),
    [
        (SMALL, 60, 1),
        ("Navix-DoorKey-5x5-v0", 20, 0),
        ("Navix-Dynamic-Obstacles-5x5-v0", 30, 3),
    ],
)
def test_agrees_with_navix_step_by_step(task, limit, num_ended):
    env = jaxdrl.make(f"navix/{task}", max_episode_steps=limit)
    assert suite_contract.check_agreement(env, their_task(task), limit) >= num_ended


def test_bootstraps_from_the_true_successor_where_the_limit_cuts():
    """Also where the suite's own limit falls on the same step."""
    env = jaxdrl.make(f"navix/{SMALL}", max_steps=3)
    suite_contract.check_bootstrap(env, their_task(SMALL), 3)


def test_the_penalty_for_time_is_measured_by_max_steps_with_any_limit():
    """The goal of the smallest empty room is 5 actions away: two forward, right, two forward."""
    rewards = []
    for params in ({}, {"penalty_coeff": 0.9, "max_episode_steps": 5}):
        env = jaxdrl.make("navix/Navix-Empty-5x5-v0", **params)
        play = jax.jit(partial(play_actions, env))
        reward, terminated, truncated = jax.device_get(play(jnp.array([2, 2, 1, 2, 2])))
        assert terminated.tolist() == [False] * 4 + [True]
        assert not truncated.any()  # at the last step that is allowed it is an end all the same
        assert not reward[:-1].any()
        rewards.append(float(reward[-1]))
    np.testing.assert_allclose(rewards, [1.0, 1 - 0.9 * 5 / 100])


def play_actions(env, actions):
    def step(state, action):
        _, state, *ends = env.step(jax.random.key(0), state, action, ())[:5]
        return state, tuple(ends)

    return jax.lax.scan(step, env.reset(jax.random.key(0), ())[1], actions)[1]


@pytest.mark.parametrize(
    ("task", "params", "shape", "limit"),
    [
        ("Navix-Empty-5x5-v0", {"random_start": 1.0}, (5, 5, 21), 100),
        ("Navix-PutNear-6x6-N2-v0", {}, (6, 6, 23), 144),
        ("Navix-MemoryS7-v0", {"max_steps": 50.0}, (7, 7, 21), 50),
    ],
)
def test_parameters_and_missions(task, params, shape, limit):
    """Two targets are two channels, and one that would be the answer is none."""
    env = jaxdrl.make(f"navix/{task}", **params)
    check_types(env)
    assert (env.observation_space.shape, env.max_episode_steps) == (shape, limit)


def test_the_mission_is_seen_where_its_target_is():
    env = jaxdrl.make("navix/Navix-GoToDoor-5x5-v0")
    obs, _ = jax.device_get(jax.jit(env.reset)(jax.random.key(3), ()))
    (place,) = np.argwhere(obs[..., 21])
    door = 4
    assert obs[*place, door] and obs[..., door].sum() > 1


def test_a_step_leaves_the_state_that_it_is_given_alone():
    env = jaxdrl.make("navix/Navix-Empty-5x5-v0", max_episode_steps=None)
    state = jax.eval_shape(env.reset, jax.random.key(0), ())[1]
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state)
    before = jax.tree.leaves(state)
    jax.eval_shape(lambda action: env.step(jax.random.key(0), state, action, ())[0], 0)
    assert all(x is y for x, y in zip(before, jax.tree.leaves(state), strict=True))


@pytest.mark.slow
def test_every_task_keeps_its_types():
    for task in adapter.SUITE.list_tasks():
        env = jaxdrl.make(f"navix/{task}")
        check_types(env)
        assert env.name == f"navix/{task}" and env.max_episode_steps > 0


SLOW = ("Navix-DoorKey-5x5-v0", "Navix-Dynamic-Obstacles-5x5-v0")


@pytest.mark.parametrize(
    "task", [SMALL, *(pytest.param(task, marks=pytest.mark.slow) for task in SLOW)]
)
def test_keeps_the_contract(task):
    report = jaxdrl.check_environment(jaxdrl.make(f"navix/{task}"), num_steps=64)
    assert report.holds, report


def test_draws_a_state():
    env = jaxdrl.make("navix/Navix-Empty-5x5-v0")
    _, state = jax.device_get(jax.jit(env.reset)(jax.random.key(0), ()))
    picture = env.draw(state, ())
    assert (picture.shape, picture.dtype) == ((40, 40, 3), np.uint8)
    goal = picture[3 * 8 + 4, 3 * 8 + 4].astype(int)
    assert goal[1] > goal[0] + 50 and goal[1] > goal[2] + 50  # green


@pytest.mark.parametrize(
    ("task", "params", "words"),
    [
        ("Navix-Emty-5x5-v0", {}, "env = 'navix/Navix-Emty-5x5-v0': unknown; the nearest: Navix"),
        ("Navix-Empty-5x5-v0", {"hight": 5}, "env_params.hight = 5: navix/Navix-Empty-5x5-v0 has"),
        ("Navix-Empty-5x5-v0", {"max_steps": 5.5}, "max_steps = 5.5: must be a whole number"),
        ("Navix-Empty-5x5-v0", {"max_episode_steps": 0}, "max_episode_steps = 0"),
    ],
)
def test_refuses(task, params, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        jaxdrl.make(f"navix/{task}", **params)
