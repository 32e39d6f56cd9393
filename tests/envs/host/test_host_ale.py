"""Games of ALE against its own vector environment, and what decides their episodes."""

import re
from contextlib import closing

import numpy as np
import pytest

import jaxdrl
from jaxdrl import ConfigError
from jaxdrl.envs.host.protocol import CopyError
from jaxdrl.envs.type_checks import check_types

adapter = pytest.importorskip("jaxdrl.envs.host.ale")
vector_env = pytest.importorskip("ale_py.vector_env")

BOTH = np.ones(2, bool)
SMALL = {"img_height": 24, "img_width": 20, "stack_num": 2}


def test_agrees_with_their_environment_that_keeps_the_last_observation():
    """It is in `final_obs` where they reset in the same step."""
    env = jaxdrl.make("ale/Breakout-v5", **SMALL)
    check_types(env)
    theirs = vector_env.AtariVectorEnv("breakout", 2, autoreset_mode="SameStep", **SMALL)
    random, num_ended = np.random.default_rng(0), 0
    with closing(env.host.make(2)) as batch:
        obs = batch.reset(BOTH, np.array([5, 6]))
        expected, _ = theirs.reset(seed=np.array([5, 6]))
        for step in range(230):
            np.testing.assert_array_equal(obs, expected.transpose(0, 2, 3, 1))
            action = random.integers(0, 4, 2)
            obs, reward, *ends = batch.step(action)
            expected, their_reward, *their_ends, info = theirs.step(action)
            assert [x.tolist() for x in (reward, *ends)] == [
                x.tolist() for x in (their_reward, *their_ends)
            ]
            ended = ends[0] | ends[1]
            if ended.any():
                num_ended += ended.sum()
                last = info["final_obs"].transpose(0, 2, 3, 1)
                np.testing.assert_array_equal(obs[ended], last[ended])
                seeds = np.array([step, 1000 + step])
                obs = batch.reset(ended, seeds)
                expected, _ = theirs.reset(seed=seeds[ended], options={"reset_mask": ended})
    assert num_ended >= 2
    assert reward.dtype == np.float32


def test_a_seed_decides_its_episode_in_a_copy_that_has_played():
    env = jaxdrl.make("ale/Pong-v5", repeat_action_probability=0.25, **SMALL)
    assert env.host.replays
    actions = np.random.default_rng(1).integers(0, 6, 40)
    found = []
    with closing(env.host.make(2)) as batch:
        before = batch.reset(np.array([True, False]), np.array([1, 2]))
        np.testing.assert_array_equal(batch.reset(~BOTH, BOTH), before)
        for num_steps in (0, 7):
            for _ in range(num_steps):
                before, *_ = batch.step(np.array([3, 2]))
            obs = batch.reset(np.array([True, False]), np.array([2**31 - 2, 0]))
            np.testing.assert_array_equal(obs[1], before[1])
            copies = obs.copy()
            found.append([obs[0], *(batch.step(np.full(2, a))[0][0] for a in actions)])
            np.testing.assert_array_equal(obs, copies)
    np.testing.assert_array_equal(*found)


def test_the_limit_counts_steps():
    assert jaxdrl.make("ale/Pong-v5").max_episode_steps == 27_000
    assert jaxdrl.make("ale/Pong-v5", frameskip=2.0).max_episode_steps == 54_000
    assert jaxdrl.make("ale/Pong-v5", max_episode_steps=None).max_episode_steps is None
    with closing(jaxdrl.make("ale/Pong-v5", max_episode_steps=3, **SMALL).host.make(1)) as batch:
        batch.reset(np.ones(1, bool), np.array([1]))
        flags = [batch.step(np.zeros(1, int))[2:] for _ in range(3)]
    assert [x.item() for _, x in flags] == [False, False, True]
    assert not any(x.item() for x, _ in flags)


def test_colours_and_all_actions():
    env = jaxdrl.make("ale/Pong-v5", grayscale=0.0, full_action_space=1.0, **SMALL)
    assert env.observation_space.shape == (24, 20, 6) and env.action_space.n == 18
    grey = jaxdrl.make("ale/Pong-v5", full_action_space=True, **SMALL)
    with closing(env.host.make_drawn(1)) as batch, closing(grey.host.make_drawn(1)) as other:
        assert env.host.make(1).draw is None
        for copies in (batch, other):
            copies.reset(np.ones(1, bool), np.array([1]))
            obs, *_ = copies.step(np.zeros(1, int))
            picture = copies.draw(0)
            assert (picture.shape, picture.dtype) == ((24, 20, 3), np.uint8)
            newest = obs[0, ..., -3:] if copies is batch else obs[0, ..., -1:]
            assert (picture == newest).all()


def test_continuous_actions():
    env = jaxdrl.make("ale/Pong-v5", continuous=True, **SMALL)
    assert env.action_space.shape == (3,)
    with closing(env.host.make(1)) as batch:
        batch.reset(np.ones(1, bool), np.array([1]))
        batch.step(np.zeros((1, 3), np.float32))


def test_a_wrong_number_of_actions_names_the_game_and_a_closed_batch_says_so():
    batch = jaxdrl.make("ale/Pong-v5", **SMALL).host.make(2)
    batch.reset(BOTH, np.array([1, 2]))
    with pytest.raises(CopyError, match="ale/Pong-v5: AssertionError"):
        batch.step(np.zeros(1, int))
    batch.close()
    batch.close()
    with pytest.raises(RuntimeError, match="its copies are closed"):
        batch.step(np.zeros(2, int))


def test_the_list_has_games_for_one_player():
    tasks = adapter.SUITE.list_tasks()
    assert len(tasks) > 100 and {"Breakout-v5", "MsPacman-v5"} <= set(tasks)


@pytest.mark.parametrize(
    ("task", "params", "words"),
    [
        ("Breakou-v5", {}, "env = 'ale/Breakou-v5': unknown; the nearest: Breakout-v5"),
        ("Pong-v5", {"frame_skip": 2}, "env_params.frame_skip = 2: ale/Pong-v5 has no such"),
        ("Pong-v5", {"episodic_life": 1}, "env_params.episodic_life = True: a reset begins a new"),
        ("Pong-v5", {"num_threads": 0.5}, "num_threads = 0.5: must be a whole number"),
        ("Pong-v5", {"frameskip": 0}, "frameskip"),
    ],
)
def test_refuses(task, params, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        jaxdrl.make(f"ale/{task}", **params)
