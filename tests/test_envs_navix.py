"""The NAVIX adapter against NAVIX itself, and what it refuses."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from jaxdrl.config import ConfigError
from jaxdrl.envs.protocol import check_types
from jaxdrl.promotion import default_promotion
from suite_contract import check_agrees, check_short_limit

adapter = pytest.importorskip("jaxdrl.envs.navix")
navix = pytest.importorskip("navix")


@pytest.mark.parametrize(
    ("task", "num_steps", "num_ended"),
    [
        ("Navix-Empty-Random-5x5-v0", 60, 1),
        ("Navix-DoorKey-5x5-v0", 20, 0),
        ("Navix-Dynamic-Obstacles-5x5-v0", 30, 3),
    ],
)
def test_agrees_with_the_api_of_navix(task, num_steps, num_ended):
    """Its own limits are beyond the steps that are taken."""
    raw = navix.make(task)
    env = jaxdrl.make(f"navix/{task}", max_episode_steps=None)
    assert raw.max_steps > num_steps

    def convert(symbols):
        parts = [jax.nn.one_hot(symbols[..., i], n) for i, n in enumerate((11, 6, 4))]
        return jnp.concatenate(parts, axis=-1) > 0

    def raw_reset(key):
        with default_promotion():
            timestep = strong(raw.reset(jax.random.key_data(key)))
        return convert(timestep.observation), timestep

    def raw_step(timestep, action):
        with default_promotion():
            timestep = strong(raw.step(timestep, action))
        return convert(timestep.observation), timestep, timestep.reward, timestep.is_done()

    assert check_agrees(env, raw_reset, raw_step, num_steps=num_steps) >= num_ended


def strong(tree):
    return jax.tree.map(lambda x: jnp.asarray(x).astype(jnp.asarray(x).dtype), tree)


def test_a_limit_cuts_and_changes_nothing_else():
    """Nor does the suite's own, which falls on the same step."""
    check_short_limit(partial(jaxdrl.make, "navix/Navix-Empty-Random-5x5-v0", max_steps=3), 3)


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


@pytest.mark.parametrize(
    "task",
    [
        "Navix-Empty-Random-5x5-v0",
        pytest.param("Navix-DoorKey-5x5-v0", marks=pytest.mark.slow),
        pytest.param("Navix-Dynamic-Obstacles-5x5-v0", marks=pytest.mark.slow),
    ],
)
def test_keeps_the_contract(task):
    report = jaxdrl.check_environment(jaxdrl.make(f"navix/{task}"), num_steps=64)
    assert report.holds, str(report)


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
