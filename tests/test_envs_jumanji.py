"""The Jumanji adapter against Jumanji itself, and what it refuses."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from jaxdrl.architectures import check_mask
from jaxdrl.config import ConfigError
from jaxdrl.envs import suites
from jaxdrl.envs.protocol import check_types
from jaxdrl.promotion import default_promotion
from suite_contract import check_agrees, check_short_limit

jumanji = pytest.importorskip("jumanji")
adapter = pytest.importorskip("jaxdrl.envs.jumanji")


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
    "Snake-v1": (snake, 60, 3),
    "Maze-v0": (maze, 40, 0),
    "Minesweeper-v0": (minesweeper, 30, 3),
    "Connector-v3": (connector, 30, 0),
}


CHECKED = [
    "Game2048-v1",
    *(
        pytest.param(task, marks=pytest.mark.slow)
        for task in ("Snake-v1", "Maze-v0", "Connector-v3")
    ),
]


@pytest.mark.parametrize(
    "task", [*list(TASKS)[:3], pytest.param("Connector-v3", marks=pytest.mark.slow)]
)
def test_agrees_with_the_api_of_jumanji(task):
    """Jumanji's own limits are beyond the steps that are taken."""
    to_ours, num_steps, num_ended = TASKS[task]
    raw, env = jumanji.make(task), jaxdrl.make(f"jumanji/{task}", max_episode_steps=None)

    def convert(obs):
        return {**to_ours(obs), "action_mask": obs.action_mask.ravel()}

    def raw_reset(key):
        with default_promotion():
            state, timestep = raw.reset(jax.random.key_data(key))
            return convert(timestep.observation), state

    def raw_step(state, action):
        if task == "Minesweeper-v0":  # row and column, of which not every pair is allowed
            action = jnp.stack([action // 10, action % 10])
        with default_promotion():
            state, timestep = raw.step(state, action)
        return convert(timestep.observation), state, jnp.sum(timestep.reward), timestep.last()

    ended = check_agrees(env, raw_reset, raw_step, num_steps=num_steps)
    assert ended >= num_ended


@pytest.mark.parametrize(
    "task", ["Snake-v1", *(pytest.param(x, marks=pytest.mark.slow) for x in ("Maze-v0", "MMST-v0"))]
)
def test_a_limit_cuts_and_changes_nothing_else(task):
    def make(*, max_episode_steps):
        if task == "MMST-v0" and max_episode_steps is None:  # its state has a place for each step
            return jaxdrl.make("jumanji/MMST-v0", max_episode_steps=50)._replace(
                max_episode_steps=None
            )
        return jaxdrl.make(f"jumanji/{task}", max_episode_steps=max_episode_steps)

    check_short_limit(make, 3)


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
    for task in suites.load("jumanji").list_tasks():
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


@pytest.mark.parametrize("task", CHECKED)
def test_keeps_the_contract(task):
    report = jaxdrl.check_environment(jaxdrl.make(f"jumanji/{task}"), num_steps=64)
    assert report.holds, str(report)


SOKOBAN = "env = 'jumanji/Sokoban-v0': would have to download its levels; make it in Python with a"


@pytest.mark.parametrize(
    ("task", "params", "words"),
    [
        ("Snak-v1", {}, "env = 'jumanji/Snak-v1': unknown; the nearest: Snake-v1"),
        ("Snake-v1", {"num_row": 5}, "env_params.num_row = 5: jumanji/Snake-v1 has no such one"),
        ("Snake-v1", {"num_rows": 5.5}, "env_params.num_rows = 5.5: must be a whole number"),
        ("Snake-v1", {"time_limit": 5}, "env_params.time_limit = 5: is max_episode_steps here"),
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
