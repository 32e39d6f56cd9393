"""The Pgx adapter against Pgx itself, whose turn it is, and what it refuses."""

import re
import sys
import warnings
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

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

sys.path.insert(0, str(Path(__file__).parents[3] / "experiments"))

import board_games

pgx = pytest.importorskip("pgx")
adapter = pytest.importorskip("jaxdrl.envs.suites.pgx")

TASKS = {
    "tic_tac_toe": (9, 5),
    "connect_four": (42, 3),
    "kuhn_poker": (3, 5),
    "leduc_holdem": (8, 5),
    "backgammon": (25, 0),
    "othello": (20, 0),
    "hex": (20, 0),
    "2048": (20, 0),
    "go_9x9": (20, 0),
    "gardner_chess": (20, 0),
    "animal_shogi": (20, 0),
    "chess": (8, 0),
}
"""By game: the moves that are played, and how many of five games end at least."""

SLOW = ("go_9x9", "gardner_chess", "animal_shogi", "chess")

CONTRACTS = ("backgammon", "sparrow_mahjong", "leduc_holdem", "go_9x9", "2048")


def some_slow(tasks):
    return [pytest.param(x, marks=pytest.mark.slow) if x in SLOW else x for x in tasks]


@lru_cache
def their_task(task):
    """By Pgx's deprecated way to observe as any player; Pgx's state, and its player of each agent.

    Backgammon shows the board to whoever waits as the other one sees it. From the other side the
    points are numbered backwards, and the checkers are the other's.
    """
    with default_promotion():
        raw = pgx.make(task)

    def from_the_other_side(seen):
        points, bars, offs = seen[:24], seen[24:26], seen[26:28]
        return jnp.concatenate([-points[::-1], -bars[::-1], -offs[::-1], seen[28:]])

    def seen_by(state, player):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            other = raw.observe(state, player)
        if task == "backgammon":
            other = from_the_other_side(other)
        return jnp.where(player == state.current_player, state.observation, other)

    def convert(state, players):
        mask = state.legal_action_mask
        if task == "2048":
            return {"observation": state.observation, "action_mask": mask}
        waits = jnp.zeros_like(mask).at[0].set(True)
        on_turn = players == state.current_player
        return {
            "observation": jnp.stack([seen_by(state, player) for player in players]),
            "action_mask": jnp.stack([jnp.where(is_on, mask, waits) for is_on in on_turn]),
            "on_turn": on_turn,
        }

    def reset(key):
        state = raw.init(jax.random.key_data(key))
        players = jnp.stack([state.current_player, 1 - state.current_player])
        return convert(state, players), (state, players)

    def step(key, state, action):
        state, players = state
        key = jax.random.key_data(key)
        if task == "2048":
            state = raw.step(state, action, key)
            return convert(state, players), (state, players), state.rewards[0], state.terminated
        move = jnp.where(players[0] == state.current_player, action[0], action[1])
        state = raw.step(state, move, key)
        reward = jnp.stack([state.rewards[player] for player in players])
        return convert(state, players), (state, players), reward, state.terminated

    return suite_contract.Theirs(reset, step)


@pytest.mark.parametrize("task", some_slow(TASKS))
def test_agrees_with_pgx_step_by_step(task):
    limit, num_ended = TASKS[task]
    longest = adapter.LONGEST.get(task)
    env = jaxdrl.make(f"pgx/{task}", max_episode_steps=None if limit == longest else limit)
    ended = suite_contract.check_agreement(env, their_task(task), limit, all_allowed=True)
    assert ended >= num_ended


def test_bootstraps_from_the_true_successor_where_a_limit_cuts():
    env = jaxdrl.make("pgx/tic_tac_toe", max_episode_steps=3)
    suite_contract.check_bootstrap(env, their_task("tic_tac_toe"), 3)


def play(env, moves, key=0):
    """What `moves` one after the other lead to, `[moves + 1, ...]` and `[moves, ...]`."""
    reset, step = suite_contract.ours(env)
    keys = suite_contract.key_data(key, 1)
    obs, state = reset(keys)
    seen, ends = [obs], []
    for move in moves:
        of_agents = np.where(np.asarray(obs["on_turn"]), move, 0).astype(np.int32)
        obs, state, *end = step(keys, state, jnp.asarray(of_agents))
        seen.append(obs)
        ends.append(end)
    stacked = jax.device_get(
        [jax.tree.map(lambda *x: jnp.stack(x)[:, 0], *y) for y in (seen, ends)]
    )
    return stacked[0], *stacked[1]


def test_the_last_move_of_the_one_who_loses_is_followed_by_its_own_reward():
    """Agent 0 fills the upper row, and wins with its third move."""
    env = jaxdrl.make("pgx/tic_tac_toe")
    seen, reward, terminated, truncated = play(env, [0, 3, 1, 4, 2])
    assert reward.tolist() == [[0, 0]] * 4 + [[1, -1]]
    assert terminated.tolist() == [False] * 4 + [True] and not truncated.any()
    assert seen["on_turn"][:5].tolist() == [[True, False], [False, True]] * 2 + [[True, False]]
    assert jax.vmap(jax.vmap(env.active))(seen).tolist() == seen["on_turn"].tolist()
    own, others = seen["observation"][3, :, ..., 0], seen["observation"][3, :, ..., 1]
    assert own[0].ravel().tolist() == [True, True] + [False] * 7  # whoever is on turn
    np.testing.assert_array_equal(own, others[::-1])
    waits = [True] + [False] * 8
    assert seen["action_mask"][3, 0].tolist() == waits == seen["action_mask"][4, 1].tolist()
    assert seen["action_mask"][4, 0].tolist() == [False] * 2 + [True] + [False] * 2 + [True] * 4


def test_a_draw_is_an_end_with_nothing_for_anybody():
    env = jaxdrl.make("pgx/tic_tac_toe")
    _, reward, terminated, truncated = play(env, [4, 0, 2, 6, 3, 5, 1, 7, 8])
    assert terminated.tolist() == [False] * 8 + [True]
    assert not reward.any() and not truncated.any()


def test_agent_0_moves_first_whomever_pgx_draws():
    env = jaxdrl.make("pgx/tic_tac_toe")
    obs, state = suite_contract.ours(env).reset(suite_contract.key_data(0, 16))
    assert obs["on_turn"].tolist() == [[True, False]] * 16
    assert set(state.inner.current_player.tolist()) == {0, 1}


def test_three_players_follow_each_other_around_the_table():
    env = jaxdrl.make("pgx/sparrow_mahjong")
    assert env.num_agents == 3
    reset, step = suite_contract.ours(env)
    keys = suite_contract.key_data(1, 4)
    obs, state = reset(keys)
    running = np.ones(4, bool)
    for t in range(4):
        assert running.any()
        assert obs["on_turn"][running].tolist() == [[i == t % 3 for i in range(3)]] * running.sum()
        action = jnp.argmax(obs["action_mask"], axis=-1).astype(jnp.int32)
        obs, state, _, terminated, _ = step(keys, state, action)
        running &= ~np.asarray(terminated)


def test_both_sides_of_backgammon_start_from_the_same_position():
    obs, _ = suite_contract.ours(jaxdrl.make("pgx/backgammon")).reset(suite_contract.key_data(0, 2))
    board, dice = obs["observation"][..., :28], obs["observation"][..., 28:]
    np.testing.assert_array_equal(board[:, 0], board[:, 1])
    assert np.all(dice[:, 0].sum(axis=-1) == 2) and not dice[:, 1].any()


@pytest.mark.parametrize(
    ("task", "num"),
    [
        ("kuhn_poker", 64),
        ("leduc_holdem", 8192),
        ("tic_tac_toe", 64),
        pytest.param("sparrow_mahjong", 512, marks=pytest.mark.slow),
    ],
)
def test_the_longest_of_random_games_is_as_long_as_is_said(task, num):
    env = jaxdrl.make(f"pgx/{task}")
    act = suite_contract.jit(partial(suite_contract.random_actions, env, all_allowed=True))
    reset, step = suite_contract.ours(env)
    obs, state = reset(suite_contract.key_data(0, num))
    running = np.ones(num, bool)
    for t in range(env.max_episode_steps):
        assert running.any()
        keys = suite_contract.key_data(t, num)
        obs, state, _, terminated, _ = step(keys, state, act(keys, obs))
        running &= ~np.asarray(terminated)
    assert not running.any()


@pytest.mark.parametrize(
    ("task", "params", "limit", "agents"),
    [
        ("connect_four", {"max_episode_steps": 7.0}, 7, 2),
        ("hex", {}, 122, 2),
        ("backgammon", {}, None, 2),
        ("2048", {}, None, None),
        ("go_9x9", {"komi": 0.5, "history_length": 2.0, "max_terminal_steps": 10}, 10, 2),
    ],
)
def test_limits_parameters_and_agents(task, params, limit, agents):
    env = jaxdrl.make(f"pgx/{task}", **params)
    check_types(env)
    check_mask(env)
    assert (env.max_episode_steps, env.num_agents) == (limit, agents)
    assert env.is_competitive == (agents is not None) == (env.active is not None)
    assert jax.config.jax_numpy_dtype_promotion == "strict"


def test_a_game_of_go_is_scored_after_its_last_move():
    """Black has the whole board, but for a komi that is larger."""
    env = jaxdrl.make("pgx/go_9x9", komi=100, max_terminal_steps=3)
    assert env.observation_space["observation"].shape == (9, 9, 17)
    _, reward, terminated, truncated = play(env, [0, 81, 1])
    assert terminated.tolist() == [False, False, True] and not truncated.any()
    assert reward[-1].tolist() == [-1, 1]


@pytest.mark.parametrize(
    "task", ["tic_tac_toe", *(pytest.param(x, marks=pytest.mark.slow) for x in CONTRACTS)]
)
def test_keeps_the_contract(task):
    report = jaxdrl.check_environment(jaxdrl.make(f"pgx/{task}"), num_steps=64)
    assert report.holds, report


@pytest.mark.slow
def test_the_preset_of_tic_tac_toe_never_loses():
    """Greedily, against every line of play, from both seats."""
    experiment = jaxdrl.make_experiment("pgx/tic_tac_toe")
    config = replace(experiment.algorithm, anneal_env_steps=float(experiment.total_env_steps))
    agent = jaxdrl.ppo(jaxdrl.make(experiment.env), config)
    num_updates = experiment.total_env_steps // config.env_steps_per_update
    state = jaxdrl.train(agent, jax.jit(agent.init)(jax.random.key(0)), num_updates=num_updates)
    moves = board_games.greedy_moves(agent.policy, state.learner)
    lines = [board_games.every_line(moves, seat) for seat in (0, 1)]
    assert all(found.num_lost == 0 and found.num_won > 50 for found in lines), lines


@pytest.mark.slow
def test_gymnax_has_what_is_left_out():
    for task in pgx.available_envs():
        if task.startswith("minatar-"):
            with pytest.raises(ConfigError) as caught:
                jaxdrl.make(f"pgx/{task}")
            assert str(caught.value).split()[-1] in registry.GYMNAX.list_tasks()


@pytest.mark.slow
def test_every_game_keeps_its_types():
    tasks = registry.load("pgx").list_tasks()
    assert {"shogi", "go_19x19"} < set(tasks)
    for task in tasks:
        env = jaxdrl.make(f"pgx/{task}")
        check_types(env)
        check_mask(env)
        assert env.name == f"pgx/{task}"


GPL = (
    "env = 'pgx/minatar-space_invaders': left out, because this part of Pgx is under the GPL-3; "
    "gymnax has the game as SpaceInvaders-MinAtar"
)


@pytest.mark.parametrize(
    ("task", "params", "words"),
    [
        ("minatar-space_invaders", {}, GPL),
        ("tictactoe", {}, "env = 'pgx/tictactoe': unknown; the nearest: tic_tac_toe"),
        ("bridge_bidding", {}, "env = 'pgx/bridge_bidding': unknown"),
        ("hex", {"size": 5}, "env_params.size = 5: pgx/hex has no such parameter; it has none"),
        ("go_9x9", {"komy": 5}, "env_params.komy = 5: pgx/go_9x9 has no such parameter; the near"),
        ("go_9x9", {"history_length": 1.5}, "history_length = 1.5: must be a whole number"),
        ("chess", {"max_episode_steps": 0}, "max_episode_steps = 0"),
    ],
)
def test_refuses(task, params, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        jaxdrl.make(f"pgx/{task}", **params)


def test_the_part_under_the_gpl_is_neither_listed_nor_imported():
    assert "minatar-breakout" in pgx.available_envs()
    assert not any("minatar" in task for task in registry.load("pgx").list_tasks())
    assert not any("minatar" in module for module in sys.modules)
