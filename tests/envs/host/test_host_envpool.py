"""EnvPool's tasks against its own pools, and what decides their episodes."""

import re
from contextlib import closing

import jax
import numpy as np
import pytest

import jaxdrl
from jaxdrl import ConfigError
from jaxdrl.envs.host.protocol import CopyError
from jaxdrl.envs.host.replay import random_actions
from jaxdrl.envs.type_checks import check_types

adapter = pytest.importorskip("jaxdrl.envs.host.envpool")
envpool = pytest.importorskip("envpool")

ONE, BOTH = np.ones(1, bool), np.ones(2, bool)


def pool_of(task, seeds, **settings):
    return envpool.make_gymnasium(
        task, num_envs=len(seeds), num_threads=1, env_seed=seeds, **settings
    )


@pytest.mark.filterwarnings("ignore:.*precision lowered by casting")
@pytest.mark.parametrize("task", ["CartPole-v1", "HalfCheetah-v4", "Catch-v0"])
def test_agrees_with_a_pool_that_resets_itself_but_for_the_steps_that_are_none(task):
    env, pool = jaxdrl.make(f"envpool/{task}", max_episode_steps=60), pool_of(task, [5])
    check_types(env)
    random, num_ended, num_steps = np.random.default_rng(0), 0, 0
    with closing(env.host.make(1)) as batch:
        obs, expected = batch.reset(ONE, np.array([5])), pool.reset()[0]
        while num_steps < 200:
            num_steps += 1
            np.testing.assert_array_equal(obs, expected.astype(np.float32))
            action = random_actions(env.action_space, random, 1)
            obs, reward, terminated, truncated = batch.step(action)
            expected, their_reward, *ends, _ = pool.step(action)
            np.testing.assert_array_equal(obs, expected.astype(np.float32))
            assert reward.tolist() == their_reward.astype(np.float32).tolist()
            assert not (terminated & truncated).any()
            if truncated and not ends[1]:  # by our limit, which the pool does not know
                pool.reset(np.array([0]))
                break
            assert (terminated, truncated) == tuple(ends)
            if terminated:
                num_ended += 1
                obs, (expected, their_reward, *_) = batch.reset(ONE, ONE), pool.step(action)
                assert their_reward == 0  # the step that is none
    assert num_ended or task == "HalfCheetah-v4"
    assert num_steps == 60 or task != "HalfCheetah-v4"


def lengths(limit, seed, num_episodes=3):
    """`(length, terminated, truncated)` of CartPole's first episodes, always pushed right."""
    found = []
    env = jaxdrl.make("envpool/CartPole-v1", max_episode_steps=limit)
    with closing(env.host.make(1)) as batch:
        for _ in range(num_episodes):
            batch.reset(ONE, np.array([seed]))
            for step in range(1, 100):
                *_, terminated, truncated = batch.step(np.ones(1, np.int32))
                if terminated or truncated:
                    found.append((step, bool(terminated[0]), bool(truncated[0])))
                    break
    return found


def test_a_game_that_ends_at_the_very_limit_is_terminated():
    natural = lengths(None, 3)
    assert all(flags == (True, False) for _, *flags in natural for flags in [tuple(flags)])
    shortest = min(length for length, *_ in natural)
    for length, terminated, truncated in lengths(shortest, 3):
        assert length == shortest and terminated != truncated
    assert [t for _, t, _ in lengths(shortest, 3)] == [n == shortest for n, *_ in natural]


def played(batch, actions, begin):
    """The observations of both copies and where an episode ended."""
    obs = [begin(batch)]
    for action in actions:
        found, *_, terminated, truncated = batch.step(action)
        if (terminated | truncated).any():
            found = batch.reset(terminated | truncated, BOTH)
        obs.append(found)
    return obs, terminated | truncated


@pytest.mark.parametrize("task", ["CartPole-v1", "HalfCheetah-v5", "Pong-v5"])
def test_episodes_continue_from_first_seeds_numbers_and_actions(task):
    env = jaxdrl.make(f"envpool/{task}", max_episode_steps=40)
    assert env.host.replays
    random = np.random.default_rng(2)
    actions = random_actions(env.action_space, random, 2 * 90).reshape(90, 2, -1)
    actions = actions.reshape(90, 2, *env.action_space.shape)
    seeds, number, since = np.array([7, 8]), np.zeros(2, int), np.zeros(2, int)
    with closing(env.host.make(2)) as batch:
        obs = batch.reset(BOTH, seeds)
        for step in range(60):
            obs, *_, terminated, truncated = batch.step(actions[step])
            ended = terminated | truncated
            since = np.where(ended, 0, since + 1)
            number += ended
            if ended.any():
                obs = batch.reset(ended, seeds + 50)  # which it ignores
        kept = np.zeros((2, 40, *env.action_space.shape), actions.dtype)
        for row in range(2):
            kept[row, : since[row]] = actions[60 - since[row] : 60, row]
        rest, _ = played(batch, actions[60:], lambda batch: obs)
    assert (number > 0).all()
    with closing(env.host.make(2)) as batch:
        again, _ = played(batch, actions[60:], lambda b: b.seek(seeds, number, kept, since))
    for x, y in zip(rest, again, strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_number_of_threads_changes_nothing_and_arrays_are_left_alone():
    found = []
    for num_threads in (1, 2):
        env = jaxdrl.make("envpool/CartPole-v1", num_threads=float(num_threads))
        with closing(env.host.make(2)) as batch:
            actions = np.random.default_rng(0).integers(0, 2, (50, 2), np.int32)
            obs, _ = played(batch, actions, lambda batch: batch.reset(BOTH, np.array([3, 4])))
            copies = jax.tree.map(np.copy, obs)
            for _ in range(20):
                batch.reset(BOTH, BOTH)
                batch.step(actions[0])
            np.testing.assert_array_equal(obs, copies)
            found.append(obs)
    np.testing.assert_array_equal(*found)


def test_rows_that_are_not_reset_keep_their_observation():
    with closing(jaxdrl.make("envpool/CartPole-v1").host.make(2)) as batch:
        batch.reset(BOTH, np.array([3, 4]))
        before, *_ = batch.step(np.zeros(2, np.int32))
        after = batch.reset(np.array([False, True]), BOTH)
        np.testing.assert_array_equal(after[0], before[0])
        assert (after[1] != before[1]).any()
        np.testing.assert_array_equal(batch.reset(~BOTH, BOTH), after)


def test_pictures_have_their_channels_last():
    env, pool = jaxdrl.make("envpool/Pong-v5"), pool_of("Pong-v5", [5])
    assert env.observation_space.shape == (84, 84, 4) and env.max_episode_steps == 27_000
    with closing(env.host.make(1)) as batch:
        obs, expected = batch.reset(ONE, np.array([5])), pool.reset()[0]
        for _ in range(5):
            np.testing.assert_array_equal(obs, expected.transpose(0, 2, 3, 1))
            obs, expected = batch.step(np.array([2]))[0], pool.step(np.array([2]))[0]


def test_a_picture_is_drawn():
    env = jaxdrl.make("envpool/CartPole-v1")
    with closing(env.host.make(1)) as batch:
        assert batch.draw is None
    with closing(env.host.make_drawn(2)) as batch:
        batch.reset(BOTH, BOTH)
        picture = batch.draw(1)
    assert picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8


def test_bounds_that_are_none_and_randomness_in_steps():
    env = jaxdrl.make("envpool/LunarLander-v2")
    assert np.isinf(env.observation_space.low).all() and not env.host.replays
    assert np.isinf(jaxdrl.make("envpool/WalkerWalk-v1").observation_space["height"].low)
    for params in ({"repeat_action_probability": 0.25}, {"episodic_life": True}):
        assert not jaxdrl.make("envpool/Pong-v5", **params).host.replays


def test_what_would_abort_the_process_is_an_error():
    batch = jaxdrl.make("envpool/HalfCheetah-v5").host.make(2)
    batch.reset(BOTH, BOTH)
    with pytest.raises(ValueError, match="envpool/HalfCheetah-v5: 1 actions for 2 copies"):
        batch.step(np.zeros((2, 6), np.float32)[:1])
    batch.close()
    batch.close()
    with pytest.raises(RuntimeError, match="its copies are closed"):
        batch.step(np.zeros((2, 6), np.float32))


def test_a_pool_that_fails_names_the_task(monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError("no such file")

    batch = jaxdrl.make("envpool/CartPole-v1").host.make(1)
    monkeypatch.setattr(envpool, "make_gymnasium", fails)
    with pytest.raises(CopyError, match="envpool/CartPole-v1: RuntimeError: no such file"):
        batch.reset(ONE, ONE)


@pytest.mark.parametrize(
    ("task", "params", "words"),
    [
        ("CartPol-v1", {}, "env = 'envpool/CartPol-v1': unknown; the nearest: CartPole-v1"),
        ("Pong-v5", {"frameskip": 2}, "env_params.frameskip = 2: envpool/Pong-v5 has no such"),
        ("Pong-v5", {"frame_skip": 2.5}, "env_params.frame_skip = 2.5: must be a whole number"),
        ("Pong-v5", {"num_threads": -1}, "num_threads = -1: must be a whole number of threads"),
        ("TicTacToe-v1", {}, "players; only one is supported"),
    ],
)
def test_refuses(task, params, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        jaxdrl.make(f"envpool/{task}", **params)


@pytest.mark.slow
def test_every_task_is_made_or_says_why_not():
    refused = {}
    for task in adapter.SUITE.list_tasks():
        try:
            check_types(jaxdrl.make(f"envpool/{task}"))
        except ConfigError as error:
            refused[task] = str(error)
    assert len(refused) < 120, refused
