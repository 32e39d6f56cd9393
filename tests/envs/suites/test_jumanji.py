"""The Jumanji adapter against Jumanji itself, and what it refuses."""

import re
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
import suite_contract
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.envs.suites import registry
from jaxdrl.envs.type_checks import check_types
from jaxdrl.errors import ConfigError
from jaxdrl.networks.build import check_mask

jumanji = pytest.importorskip("jumanji")
adapter = pytest.importorskip("jaxdrl.envs.suites.jumanji")


def one_hot(x, n):
    return jax.nn.one_hot(x, n, dtype=jnp.bool)


def snake(obs):
    return {"grid": obs.grid}


def maze(obs):
    places = {"agent_position": obs.agent_position, "target_position": obs.target_position}
    tens = {
        name: {"row": one_hot(p.row, 10), "col": one_hot(p.col, 10)} for name, p in places.items()
    }
    return {"walls": obs.walls, **tens}


def minesweeper(obs):
    return {"board": one_hot(obs.board + 1, 10)}


def connector(obs):
    return {"grid": one_hot(obs.grid, 32)}


# By task: the observation but for the mask, steps, and how many of five episodes end at least.
TASKS = {
    "Snake-v1": (snake, 60, 2),
    "Maze-v0": (maze, 40, 0),
    "Minesweeper-v0": (minesweeper, 30, 3),
    "Connector-v3": (connector, 30, 0),
}


def some_slow(fast, slow):
    return [*fast, *(pytest.param(task, marks=pytest.mark.slow) for task in slow)]


@lru_cache
def their_task(task):
    """Jumanji's own limits are beyond the steps that are taken."""
    raw, to_ours = jumanji.make(task), TASKS[task][0]

    def convert(obs):
        return {**to_ours(obs), "action_mask": obs.action_mask.ravel()}

    def reset(key):
        state, timestep = raw.reset(jax.random.key_data(key))
        return convert(timestep.observation), state

    def step(key, state, action):
        if task == "Minesweeper-v0":  # row and column, of which not every pair is allowed
            action = jnp.stack([action // 10, action % 10])
        state, timestep = raw.step(state, action)
        return convert(timestep.observation), state, jnp.sum(timestep.reward), timestep.last()

    return suite_contract.Theirs(reset, step)


@pytest.mark.parametrize("task", some_slow(list(TASKS)[:3], ["Connector-v3"]))
def test_agrees_with_jumanji_step_by_step(task):
    _, limit, num_ended = TASKS[task]
    env = jaxdrl.make(f"jumanji/{task}", max_episode_steps=limit)
    assert suite_contract.check_agreement(env, their_task(task), limit) >= num_ended


@pytest.mark.parametrize("task", some_slow(["Snake-v1"], ["Maze-v0"]))
def test_bootstraps_from_the_true_successor_where_the_limit_cuts(task):
    env = jaxdrl.make(f"jumanji/{task}", max_episode_steps=3)
    suite_contract.check_bootstrap(env, their_task(task), 3)


@pytest.mark.slow
def test_bootstraps_where_a_state_has_a_place_for_each_step():
    """The longer limit, with more places, is what there is instead of none."""
    longer = jaxdrl.make("jumanji/MMST-v0", max_episode_steps=50)

    def reset(key):
        return longer.reset(key, ())

    def step(key, state, action):
        return longer.step(key, state, action, ())[:4]

    env = jaxdrl.make("jumanji/MMST-v0", max_episode_steps=3)
    suite_contract.check_bootstrap(env, suite_contract.Theirs(reset, step), 3)


def test_a_deadline_is_an_end():
    """A find is worth nothing at the last step of SearchAndRescue, so that nothing can follow."""
    env = jaxdrl.make("jumanji/SearchAndRescue-v0", max_episode_steps=4)
    assert env.max_episode_steps == 4 and env.action_mask is None
    assert env.action_space.shape == (2, 2) and env.observation_space["step"].high == 4

    def step(state, key):
        action = env.action_space.sample(key)
        _, state, *ends = env.step(jax.random.key(0), state, action, ())[:5]
        return state, tuple(ends)

    _, state = env.reset(jax.random.key(0), ())
    keys = jax.vmap(jax.random.key)(jnp.arange(4))
    _, terminated, truncated = jax.jit(partial(jax.lax.scan, step))(state, keys)[1]
    assert terminated.tolist() == [False, False, False, True] and not truncated.any()


@pytest.mark.parametrize(
    ("task", "params", "limit", "actions"),
    [
        ("Snake-v1", {"num_rows": 5.0, "num_cols": 6}, 4000, "Discrete(n=4"),
        ("RubiksCube-partly-scrambled-v0", {}, 20, "MultiDiscrete(nvec=(6, 1, 3))"),
        ("Maze-v0", {}, 100, "Discrete(n=4"),
        ("Maze-v0", {"max_episode_steps": 7.0}, 7, "Discrete(n=4"),
        ("Game2048-v1", {"board_size": 3}, None, "Discrete(n=4"),
        ("Tetris-v0", {"max_episode_steps": None}, None, "Discrete(n=40"),
        ("MultiCVRP-v0", {}, None, "MultiDiscrete(nvec=(21, 21))"),
        ("BinPack-v2", {"obs_num_ems": 5}, None, "Discrete(n=100"),
    ],
)
def test_limits_parameters_and_actions(task, params, limit, actions):
    env = jaxdrl.make(f"jumanji/{task}", **params)
    check_types(env)
    check_mask(env)
    assert env.max_episode_steps == limit
    assert repr(env.action_space).startswith(actions)
    assert jax.config.jax_numpy_dtype_promotion == "strict"


@pytest.mark.slow
def test_every_task_keeps_its_types():
    for task in registry.load("jumanji").list_tasks():
        env = jaxdrl.make(f"jumanji/{task}")
        check_types(env)
        check_mask(env)
        assert env.name == f"jumanji/{task}"


def test_the_tiles_of_2048_are_one_hot():
    board = jnp.array([[0, 1], [17, 30]])  # exponents; those above 18 count as 18
    with default_promotion():
        _, convert = adapter._part("board", jumanji.specs.Array((2, 2), jnp.int32, "board"))
        obs = convert(board)
    assert obs.shape == (2, 2, 19) and obs.dtype == jnp.bool
    assert np.argmax(obs, axis=-1).tolist() == [[0, 1], [17, 18]]
    assert np.all(obs.sum(axis=-1) == 1)


def test_a_mask_that_leaves_nothing_allows_everything():
    """Else a run would stop where a full board waits for its end."""
    env = jaxdrl.make("jumanji/Connector-v3")
    mask = np.zeros((10, 5), bool)
    mask[0, 2] = True
    found = env.action_mask({"action_mask": jnp.asarray(mask.ravel())}).reshape(10, 5)
    assert found[0].tolist() == mask[0].tolist() and found[1:].all()


@pytest.mark.parametrize(
    "task", some_slow(["Game2048-v1"], ["Snake-v1", "Maze-v0", "Connector-v3"])
)
def test_keeps_the_contract(task):
    report = jaxdrl.check_environment(jaxdrl.make(f"jumanji/{task}"), num_steps=64)
    assert report.holds, report


SOKOBAN = "env = 'jumanji/Sokoban-v0': would have to download its levels; make it in Python with a"


@pytest.mark.parametrize(
    ("task", "params", "words"),
    [
        ("Snak-v1", {}, "env = 'jumanji/Snak-v1': unknown; the nearest: Snake-v1"),
        (
            "Snake-v1",
            {"num_row": 5},
            "env_params.num_row = 5: jumanji/Snake-v1 has no such parameter",
        ),
        ("Snake-v1", {"num_rows": 5.5}, "env_params.num_rows = 5.5: must be a whole number"),
        ("Snake-v1", {"time_limit": 5}, "env_params.time_limit = 5: use max_episode_steps instead"),
        ("Snake-v1", {"max_episode_steps": 0}, "max_episode_steps = 0"),
        ("Snake-v1", {"max_episode_steps": 2.5}, "max_episode_steps = 2.5"),
        ("MMST-v0", {"max_episode_steps": None}, "max_episode_steps = None: jumanji/MMST-v0 needs"),
        ("SearchAndRescue-v0", {"max_episode_steps": None}, "max_episode_steps = None"),
        ("Sokoban-v0", {}, SOKOBAN),
    ],
)
def test_refuses(task, params, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        jaxdrl.make(f"jumanji/{task}", **params)


@pytest.mark.slow
def test_a_generator_makes_sokoban_without_a_download():
    from jumanji.environments.routing.sokoban.generator import SimpleSolveGenerator

    env = jaxdrl.make("jumanji/Sokoban-v0", generator=SimpleSolveGenerator())
    check_types(env)
    assert env.max_episode_steps == 120
