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
jumanji_spaces = pytest.importorskip("jaxdrl.envs.suites.jumanji_spaces")


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
        _, convert = jumanji_spaces.part_of(
            "board", jumanji.specs.Array((2, 2), jnp.int32, "board")
        )
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


# By task: agents, steps, and how many of five episodes end at least.
AGENTS = {
    "Connector-v3": (10, 30, 1),
    "LevelBasedForaging-v0": (2, 20, 0),
    "RobotWarehouse-v0": (4, 20, 0),
    "Cleaner-v0": (3, 20, 2),
}


def own_first(grid, num):
    """The board of Connector as each agent sees it: label by label, its own before the others'."""
    boards = []
    for agent in range(num):
        order = [(agent + i) % num for i in range(num)]
        to_ours = {0: 0} | {
            1 + 3 * owner + part: 1 + 3 * place + part
            for place, owner in enumerate(order)
            for part in range(3)
        }
        table = jnp.asarray([to_ours[label] for label in range(1 + 3 * num)])
        boards.append(one_hot(table[grid], 2 + 3 * num))
    return jnp.stack(boards)


@lru_cache
def their_agents(task):
    """Jumanji's own limits are beyond the steps that are taken."""
    with default_promotion():
        raw, num = jumanji.make(task), AGENTS[task][0]

    def convert(obs):
        of_task = {
            "Connector-v3": lambda: {"grid": own_first(obs.grid, num)},
            "Cleaner-v0": lambda: {
                "grid": jnp.stack([one_hot(obs.grid, 3)] * num),
                "agents_locations": one_hot(obs.agents_locations, 11),
            },
        }.get(task, lambda: {"agents_view": obs.agents_view})()
        return of_task | {"action_mask": obs.action_mask, "agent_id": one_hot(jnp.arange(num), num)}

    def reset(key):
        state, timestep = raw.reset(jax.random.key_data(key))
        return convert(timestep.observation), state

    def step(key, state, action):
        state, timestep = raw.step(state, action)
        reward = jnp.zeros(num) + timestep.reward
        return convert(timestep.observation), state, reward, timestep.last()

    return suite_contract.Theirs(reset, step)


@pytest.mark.parametrize("task", some_slow(list(AGENTS)[:1], list(AGENTS)[1:]))
def test_agents_agree_with_jumanji_step_by_step(task):
    _, limit, num_ended = AGENTS[task]
    env = jaxdrl.make(f"jumanji/{task}", per_agent=1.0, max_episode_steps=limit)
    assert suite_contract.check_agreement(env, their_agents(task), limit) >= num_ended


@pytest.mark.parametrize("task", some_slow(["LevelBasedForaging-v0"], ["RobotWarehouse-v0"]))
def test_a_team_bootstraps_from_each_agents_true_successor(task):
    env = jaxdrl.make(f"jumanji/{task}", per_agent=1, max_episode_steps=3)
    suite_contract.check_bootstrap(env, their_agents(task), 3)


@pytest.mark.parametrize("task", some_slow(["LevelBasedForaging-v0"], ["Connector-v3"]))
def test_rewards_of_agents_add_up_to_those_of_the_task_without(task):
    """With the same actions, and the same ends."""
    agents = jaxdrl.make(f"jumanji/{task}", per_agent=1)
    as_one = jaxdrl.make(f"jumanji/{task}")
    assert as_one.num_agents is None and agents.num_agents == as_one.action_space.shape[0]

    def both(key):
        keys = jax.random.wrap_key_data(key)
        return agents.reset(keys, ())[1], as_one.reset(keys, ())[1]

    def step(states, action):
        key = jax.random.key(0)
        _, first, reward, *ends, _ = agents.step(key, states[0], action, ())
        _, second, total, *other_ends, _ = as_one.step(key, states[1], action, ())
        return (first, second), (reward.sum(), total, jnp.stack(ends), jnp.stack(other_ends))

    actions = np.random.default_rng(0).integers(5, size=(40, agents.num_agents), dtype=np.int32)
    play = suite_contract.jit(lambda key: jax.lax.scan(step, both(key), jnp.asarray(actions))[1])
    reward, total, ends, other_ends = play(suite_contract.key_data(3, 1)[0])
    np.testing.assert_allclose(reward, total, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ends, other_ends)


@pytest.mark.parametrize(("task", "num"), [(task, AGENTS[task][0]) for task in AGENTS])
def test_agents_have_spaces_of_their_own(task, num):
    env = jaxdrl.make(f"jumanji/{task}", per_agent=1)
    check_types(env)
    check_mask(env)
    assert (env.num_agents, env.is_competitive) == (num, False)
    assert env.action_space == jaxdrl.spaces.Discrete(
        4 if task == "Cleaner-v0" else env.action_space.n
    )
    assert (env.active is None) == (task != "Connector-v3")
    assert env.max_episode_steps == jaxdrl.make(f"jumanji/{task}").max_episode_steps


def test_an_agent_of_connector_that_cannot_move_is_not_active():
    env = jaxdrl.make("jumanji/Connector-v3", per_agent=1, max_episode_steps=None)
    masks = jnp.array([[True] + [False] * 4, [True, False, True, False, False]])
    assert [bool(env.active({"action_mask": mask})) for mask in masks] == [False, True]
    obs, state = jax.jit(env.reset)(jax.random.key(0), ())
    assert jax.vmap(env.active)(obs).sum() > 5
    agents = state.agents
    heads = np.argmax(np.asarray(obs["grid"])[:, agents.position[:, 0], agents.position[:, 1]], -1)
    assert np.diag(heads).tolist() == [2] * 10  # its own head


@pytest.mark.parametrize(
    "task", some_slow(["LevelBasedForaging-v0"], ["Connector-v3", "RobotWarehouse-v0"])
)
def test_agents_keep_the_contract(task):
    report = jaxdrl.check_environment(jaxdrl.make(f"jumanji/{task}", per_agent=1), num_steps=64)
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
        ("Snake-v1", {"per_agent": 1}, "env_params.per_agent = 1: jumanji/Snake-v1 has no agents"),
        ("Connector-v3", {"per_agent": 2}, "env_params.per_agent = 2: must be 0 or 1"),
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
