"""Tasks of MuJoCo Playground against Playground itself, and what is refused."""

import re
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("mujoco_playground", exc_type=ImportError)

import suite_contract
from jaxdrl import ConfigError, check_environment, make
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.envs.suites import playground

SLOW = ["CartpoleBalance", "ReacherEasy", "CheetahRun"]  # each compiles for half a minute
TASKS = ["PendulumSwingup", *(pytest.param(task, marks=pytest.mark.slow) for task in SLOW)]
LIMIT = 12


@lru_cache
def their_task(task):
    from mujoco_playground import registry

    with default_promotion(), playground._no_log():
        env = registry.load(task, config_overrides={"impl": "jax"})

    def reset(key):
        state = env.reset(jax.random.key_data(key))
        return state.obs, state

    def step(key, state, action):
        state = env.step(state, action)
        return state.obs, state, state.reward, state.done

    return suite_contract.Theirs(reset, step)


@lru_cache
def limited(task):
    return make(f"playground/{task}", max_episode_steps=LIMIT)


@pytest.mark.parametrize("task", TASKS)
def test_agrees_with_playground_step_by_step(task):
    num_terminated = suite_contract.check_agreement(limited(task), their_task(task), LIMIT)
    assert num_terminated == 0


@pytest.mark.parametrize("task", TASKS)
def test_keeps_the_contract(task):
    report = check_environment(limited(task))
    assert report.holds, report


@pytest.mark.slow
def test_bootstraps_from_the_true_successor_where_the_limit_cuts():
    env = make("playground/PendulumSwingup", max_episode_steps=5.0)
    suite_contract.check_bootstrap(env, their_task("PendulumSwingup"), 5)


def test_step_leaves_the_state_that_it_is_given_alone():
    """Playground itself writes into the dictionary `metrics` of that state."""
    env = make("playground/CartpoleBalance", max_episode_steps=None)
    _, shapes = jax.eval_shape(env.reset, jax.random.key(0), ())
    env_state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    before = jax.tree.leaves(env_state)
    jax.eval_shape(lambda: env.step(jax.random.key(0), env_state, jnp.zeros(1), ())[:5])
    assert len(before) > 10 and len(env_state.metrics) > 0
    assert all(x is y for x, y in zip(before, jax.tree.leaves(env_state), strict=True))


def test_a_simulation_that_left_the_numbers_ends_without_a_reward():
    reset, step = suite_contract.ours(limited("PendulumSwingup"))
    _, env_state = reset(suite_contract.key_data(0, 5))
    data = env_state.inner.data
    broken = data.replace(qvel=data.qvel.at[2].set(jnp.nan))
    env_state = env_state.replace(inner=env_state.inner.replace(data=broken))
    keys, action = suite_contract.key_data(1, 5), jnp.zeros((5, 1))
    _, _, reward, terminated, truncated = step(keys, env_state, action)
    assert terminated.tolist() == [i == 2 for i in range(5)]
    assert reward[2] == 0 and np.isfinite(reward).all() and not truncated.any()


def test_a_state_is_drawn_in_its_own_position():
    env, reset = limited("PendulumSwingup"), suite_contract.ours(limited("PendulumSwingup")).reset
    states = jax.device_get(reset(suite_contract.key_data(0, 5))[1])
    pictures = [env.draw(jax.tree.map(lambda x, i=i: x[i], states), ()) for i in range(2)]
    assert pictures[0].shape == (280, 400, 3) and pictures[0].dtype == np.uint8
    assert (pictures[0] != pictures[1]).any()


def test_no_log_of_mujoco_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make("playground/CheetahRun")  # whose model is outdated
    assert not list(tmp_path.iterdir())


def test_the_tasks_are_those_of_the_control_suite_with_its_own_limits():
    from mujoco_playground import dm_control_suite

    tasks = playground.list_tasks()
    assert len(tasks) > 20 and set(tasks) == set(dm_control_suite.ALL_ENVS)
    limits = {dm_control_suite.get_default_config(task).episode_length for task in tasks}
    assert limits == {playground.MAX_EPISODE_STEPS}
    assert playground.COSTLY.issubset(tasks)
    assert make("playground/PendulumSwingup").max_episode_steps == 1000


@pytest.mark.slow
def test_time_of_the_simulation_can_be_chosen():
    """Half as long from action to action: after twice as many steps the same time has passed."""
    env = make("playground/PendulumSwingup", ctrl_dt=0.01, max_episode_steps=None)
    reset, step = map(suite_contract.jit, (env.reset, env.step))
    _, env_state = reset(jax.random.key(0), ())
    for i in range(4):
        env_state = step(jax.random.key(i), env_state, jnp.zeros(1), ())[1]
    np.testing.assert_allclose(env_state.data.time, 0.04, rtol=1e-5)


@pytest.mark.parametrize(
    ("task", "params", "words"),
    [
        ("CartpoleBalanc", {}, "env = 'playground/CartpoleBalanc': unknown; the nearest: Cartpole"),
        ("Go1JoystickFlatTerrain", {}, "needs a robot of the MuJoCo Menagerie"),
        ("PandaPickCube", {}, "jaxdrl downloads nothing; the tasks of the control suite work"),
        ("CheetahRun", {"impl": "warp"}, "env_params.impl = 'warp': playground/CheetahRun has no"),
        ("CheetahRun", {"sim_dt": "a"}, "env_params.sim_dt = 'a': must be a number"),
    ],
)
def test_what_playground_has_not_is_refused(task, params, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        make(f"playground/{task}", **params)
