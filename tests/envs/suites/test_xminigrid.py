"""The adapter of XLand-MiniGrid against its own API, and what it refuses."""

import re
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
import suite_contract
from jaxdrl.envs.suites import registry
from jaxdrl.envs.type_checks import check_types
from jaxdrl.errors import ConfigError

xminigrid = pytest.importorskip("xminigrid")


SMALL = "MiniGrid-EmptyRandom-5x5"


@lru_cache
def their_task(task):
    """Its own limits are beyond the steps that are taken."""
    raw, params = xminigrid.make(task)

    def convert(tiles):
        tile, colour = (jax.nn.one_hot(tiles[..., i], n) for i, n in enumerate((13, 12)))
        return jnp.concatenate([tile, colour], axis=-1) > 0

    def reset(key):
        timestep = raw.reset(params, jax.random.key_data(key))
        return convert(timestep.observation), timestep

    def step(key, timestep, action):
        timestep = raw.step(params, timestep, action)
        return convert(timestep.observation), timestep, timestep.reward, timestep.last()

    return suite_contract.Theirs(reset, step)


@pytest.mark.parametrize(
    ("task", "limit", "num_ended"),
    [(SMALL, 60, 1), ("MiniGrid-DoorKey-5x5", 20, 0), ("MiniGrid-MemoryS8", 60, 1)],
)
def test_agrees_with_xminigrid_step_by_step(task, limit, num_ended):
    env = jaxdrl.make(f"xminigrid/{task}", max_episode_steps=limit)
    assert suite_contract.check_agreement(env, their_task(task), limit) >= num_ended


def test_bootstraps_from_the_true_successor_where_the_limit_cuts():
    """Also where the suite's own limit falls on the same step."""
    env = jaxdrl.make(f"xminigrid/{SMALL}", max_steps=3)
    suite_contract.check_bootstrap(env, their_task(SMALL), 3)


def test_the_reward_is_measured_by_max_steps_with_any_limit():
    """The goal of the smallest empty room is 5 actions away: two forward, right, two forward."""
    rewards = []
    for params in ({}, {"max_episode_steps": 5}, {"max_steps": 50.0}):
        env = jaxdrl.make("xminigrid/MiniGrid-Empty-5x5", **params)
        play = jax.jit(partial(play_actions, env))
        reward, terminated, truncated = jax.device_get(play(jnp.array([0, 0, 1, 0, 0])))
        assert terminated.tolist() == [False] * 4 + [True]
        assert not truncated.any()  # at the last step that is allowed it is an end all the same
        assert not reward[:-1].any()
        rewards.append(float(reward[-1]))
    np.testing.assert_allclose(rewards, [1 - 0.9 * 5 / 100, 1 - 0.9 * 5 / 100, 1 - 0.9 * 5 / 50])


def play_actions(env, actions):
    def step(state, action):
        _, state, *ends = env.step(jax.random.key(0), state, action, ())[:5]
        return state, tuple(ends)

    return jax.lax.scan(step, env.reset(jax.random.key(0), ())[1], actions)[1]


@pytest.mark.parametrize(
    ("task", "params", "shape", "limit"),
    [
        ("MiniGrid-Empty-5x5", {}, (7, 7, 25), 100),
        ("MiniGrid-DoorKey-8x8", {"view_size": 5.0}, (5, 5, 25), 640),
        ("MiniGrid-Empty-8x8", {"height": 6, "width": 6}, (7, 7, 25), 4 * 6 * 6),
        ("MiniGrid-Playground", {"num_objects": 3, "max_episode_steps": 9.0}, (7, 7, 25), 9),
    ],
)
def test_parameters(task, params, shape, limit):
    """What follows from others, such as the limit from the size, follows from those given."""
    env = jaxdrl.make(f"xminigrid/{task}", **params)
    check_types(env)
    assert (env.observation_space.shape, env.max_episode_steps) == (shape, limit)


def test_a_ruleset_makes_a_task_of_xland():
    goal = xminigrid.core.goals.AgentHoldGoal(tile=jnp.array([3, 1], jnp.uint8)).encode()
    rules = xminigrid.core.rules.EmptyRule().encode()[None]
    ruleset = xminigrid.types.RuleSet(goal, rules, jnp.array([[3, 1]], jnp.uint8))
    env = jaxdrl.make("xminigrid/XLand-MiniGrid-R1-9x9", ruleset=ruleset)
    check_types(env)
    assert env.observation_space.shape == (5, 5, 25)


@pytest.mark.slow
def test_every_task_keeps_its_types():
    for task in registry.load("xminigrid").list_tasks():
        env = jaxdrl.make(f"xminigrid/{task}")
        check_types(env)
        assert env.name == f"xminigrid/{task}" and env.max_episode_steps > 0


SLOW = ("MiniGrid-DoorKey-5x5", "MiniGrid-MemoryS8")


@pytest.mark.parametrize(
    "task", [SMALL, *(pytest.param(task, marks=pytest.mark.slow) for task in SLOW)]
)
def test_keeps_the_contract(task):
    report = jaxdrl.check_environment(jaxdrl.make(f"xminigrid/{task}"), num_steps=64)
    assert report.holds, report


def test_draws_a_state():
    env = jaxdrl.make("xminigrid/MiniGrid-Empty-5x5")
    _, state = jax.device_get(jax.jit(env.reset)(jax.random.key(0), ()))
    picture = env.draw(state, ())
    assert (picture.shape, picture.dtype) == ((80, 80, 3), np.uint8)
    corner, goal = picture[8, 8], picture[3 * 16 + 8, 3 * 16 + 8]
    assert np.ptp(corner) == 0 and goal[1] > goal[0]  # a grey wall, and a green goal


@pytest.mark.parametrize(
    ("task", "params", "words"),
    [
        ("MiniGrid-Emty-8x8", {}, "env = 'xminigrid/MiniGrid-Emty-8x8': unknown; the nearest: Min"),
        ("MiniGrid-Empty-8x8", {"view_sise": 5}, "view_sise = 5: xminigrid/MiniGrid-Empty-8x8 has"),
        ("MiniGrid-Empty-8x8", {"view_size": 5.5}, "view_size = 5.5: must be a whole number"),
        ("MiniGrid-Empty-8x8", {"max_episode_steps": 0}, "max_episode_steps = 0"),
        (
            "XLand-MiniGrid-R1-9x9",
            {},
            "has no goal of its own; make it in Python with an xminigrid.",
        ),
    ],
)
def test_refuses(task, params, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        jaxdrl.make(f"xminigrid/{task}", **params)
