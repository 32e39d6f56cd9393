"""Gymnasium environments in one process and in many, row by row against an oracle."""

import multiprocessing
import re
import threading
import time
from contextlib import closing
from functools import partial
from traceback import walk_tb

import gymnasium
import jax
import numpy as np
import pytest

import counting_host
import jaxdrl
from counting_gymnasium import FAILING, LONGEST, Counting, make_counting
from deadlines import within
from jaxdrl import ConfigError
from jaxdrl.envs.host.protocol import CopyError
from jaxdrl.envs.type_checks import check_types

EVERY = np.ones(3, bool)
SEEDS = np.array([1, 9, 22], np.uint32)


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No worker is, after a second that the kernel may take."""
    yield
    deadline = time.monotonic() + 1
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert multiprocessing.active_children() == []


def made(processes=False, *, name=None, **how):
    own = {"step_timeout": how.pop("step_timeout", 30.0), "replays": how.pop("replays", True)}
    return jaxdrl.from_gymnasium(
        partial(make_counting, **how), name=name, processes=processes, **own
    )


def play(batch, oracle, num_steps=40):
    """Plays both alike, with a reset where an episode ends, and compares every row."""
    random, number = np.random.default_rng(0), SEEDS.copy()
    found, expected = batch.reset(EVERY, number), oracle.reset(EVERY, number)
    kept = []
    for _ in range(num_steps):
        np.testing.assert_array_equal(found, expected)
        kept.append((found, found.copy()))
        action = random.integers(0, 3, 3)
        (found, *rest), (expected, *others) = batch.step(action), oracle.step(action)
        assert [(x.dtype, x.tolist()) for x in rest] == [(x.dtype, x.tolist()) for x in others]
        np.testing.assert_array_equal(found, expected)
        kept.append((found, found.copy()))
        ended = rest[1] | rest[2]
        if ended.any():
            number = number + 3
            found, expected = batch.reset(ended, number), oracle.reset(ended, number)
    assert all((now == before).all() for now, before in kept)  # nobody wrote to them later


@pytest.mark.parametrize("processes", [False, True])
def test_every_row_is_that_of_the_oracle(processes):
    env = made(processes)
    check_types(env)
    assert (env.name, env.max_episode_steps) == ("Counting", LONGEST)
    with closing(env.host.make(3)) as batch:
        within(60, lambda: play(batch, counting_host.make_counting(3)))


@pytest.mark.parametrize("processes", [False, True])
def test_dictionaries_and_pictures_keep_their_names_and_types(processes):
    env = made(processes, kind="dict")
    check_types(env)
    with closing(env.host.make(3)) as batch:
        batch.reset(EVERY, SEEDS)
        obs, *_ = batch.step(np.array([0, 1, 2]))
    assert {name: (x.shape, str(x.dtype)) for name, x in obs.items()} == {
        "counts": ((3, 3), "float32"),
        "picture": ((3, 2, 2, 1), "uint8"),
    }
    assert obs["counts"][:, 2].tolist() == [0, 1, 2] and (obs["picture"] == 1).all()


def test_rows_that_are_not_reset_keep_their_observation():
    for processes in (False, True):
        with closing(made(processes).host.make(3)) as batch:
            before = batch.reset(EVERY, SEEDS)
            none = batch.reset(~EVERY, SEEDS + 1)
            some = batch.reset(np.array([True, False, False]), SEEDS + 1)
        np.testing.assert_array_equal(none, before)
        np.testing.assert_array_equal(some[1:], before[1:])
        assert some[0, 0] == 2


@pytest.mark.parametrize("task", ["CartPole-v1", "Pendulum-v1"])
def test_agrees_with_gymnasium_step_by_step(task):
    env, own = jaxdrl.make(f"gymnasium/{task}"), gymnasium.make(task)
    random = np.random.default_rng(1)
    with closing(env.host.make(1)) as batch:
        obs, expected = batch.reset(np.ones(1, bool), np.array([5])), own.reset(seed=5)[0]
        for _ in range(env.max_episode_steps):
            np.testing.assert_array_equal(obs[0], expected)
            own.action_space.seed(int(random.integers(1000)))
            action = own.action_space.sample()
            obs, reward, terminated, truncated = batch.step(np.asarray(action)[None])
            expected, their_reward, *ends, _ = own.step(action)
            assert (terminated[0], truncated[0]) == tuple(ends)
            assert reward[0] == np.float32(their_reward)
            if any(ends):
                np.testing.assert_array_equal(obs[0], expected)
                break
    assert any(ends)


@pytest.mark.parametrize(
    ("fails", "processes", "words"),
    [
        ("raises", False, "Counting: copy 1 raised ValueError in step: 100% wrong"),
        ("raises", True, "Counting: copy 1 raised ValueError in step: 100% wrong"),
        ("hangs", True, "Counting: copy 1: no answer to a step within 1 s"),
        ("dies", True, "Counting: the process of copy 1 was killed by SIGKILL"),
    ],
)
def test_a_copy_that_fails_is_named_with_the_cause(fails, processes, words):
    batch = made(processes, fails=fails, step_timeout=1.0).host.make(3)
    batch.reset(EVERY, np.array([1, FAILING, 2]))
    batch.step(np.zeros(3, int))
    with pytest.raises(CopyError, match=re.escape(words)):
        within(20, lambda: batch.step(np.zeros(3, int)))
    within(2, batch.close)


def test_what_a_process_raised_comes_with_its_traceback():
    with closing(made(True, fails="raises").host.make(1)) as batch:
        batch.reset(np.ones(1, bool), np.array([FAILING]))
        batch.step(np.zeros(1, int))
        with pytest.raises(CopyError) as caught:
            within(20, lambda: batch.step(np.zeros(1, int)))
    assert "in fail\n" in "".join(caught.value.__notes__)


def test_a_process_that_was_killed_between_two_steps_is_named():
    with closing(made(True).host.make(2)) as batch:
        batch.reset(np.ones(2, bool), SEEDS[:2])
        children = sorted(multiprocessing.active_children(), key=lambda p: p.name)
        children[1].kill()
        children[1].join()
        with pytest.raises(CopyError, match="copy 1 was killed by SIGKILL") as caught:
            within(20, lambda: [batch.step(np.zeros(2, int)) for _ in range(2)])
    cause = caught.value.__cause__
    assert isinstance(cause, BrokenPipeError)
    held = [x for frame, _ in walk_tb(cause.__traceback__) for x in frame.f_locals.values()]
    assert not any(isinstance(x, memoryview) for x in held)


def test_closing_ends_a_step_that_hangs_in_another_thread():
    batch = made(True, fails="hangs").host.make(2)
    batch.reset(np.ones(2, bool), np.array([1, FAILING]))
    batch.step(np.zeros(2, int))
    caught = []

    def step():
        try:
            batch.step(np.zeros(2, int))
        except Exception as error:
            caught.append(str(error))

    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    time.sleep(0.2)
    within(2, batch.close)
    thread.join(2)
    assert not thread.is_alive()
    assert caught == ["Counting: was closed during a step"]


def test_closing_during_a_step_in_this_process_waits_for_its_end():
    closed, began, go = [], threading.Event(), threading.Event()

    class Slow(Counting):
        def step(self, action):
            began.set()
            go.wait(5)
            return super().step(action)

        def close(self):
            closed.append(True)

    env = jaxdrl.from_gymnasium(Slow, replays=False)
    closed.clear()
    batch = env.host.make(1)
    batch.reset(np.ones(1, bool), SEEDS[:1])
    thread = threading.Thread(target=batch.step, args=(np.zeros(1, int),), daemon=True)
    thread.start()
    assert began.wait(5)
    batch.close()
    assert closed == []
    go.set()
    thread.join(5)
    assert closed == [True]
    batch.close()
    assert closed == [True]
    with pytest.raises(RuntimeError, match="its copies are closed"):
        batch.step(np.zeros(1, int))


def test_a_picture_is_drawn_of_each_copy():
    for processes in (False, True):
        env = jaxdrl.from_gymnasium(
            make_counting,
            processes=processes,
            replays=True,
            make_drawn=partial(make_counting, render_mode="rgb_array"),
        )
        with closing(env.host.make(1)) as batch:
            assert batch.draw is None
        with closing(env.host.make_drawn(2)) as batch:
            batch.reset(np.ones(2, bool), SEEDS[:2])
            batch.step(np.zeros(2, int))
            assert (batch.draw(1) == np.full((8, 8, 3), 20, np.uint8)).all()


class Unseeded(Counting):
    def look(self):
        return super().look() + np.array([0, 0, np.random.default_rng().integers(1000)])


class Remembers(Counting):
    before = 0

    def step(self, action):
        self.before += int(action)
        obs, _, *rest = super().step(action)
        return obs, self.before, *rest


@pytest.mark.parametrize(("kind", "can"), [(Counting, True), (Unseeded, False), (Remembers, False)])
def test_the_probe_finds_what_replays(kind, can):
    env = jaxdrl.from_gymnasium(kind, max_episode_steps=12)
    assert env.host.replays is can
    assert not jaxdrl.from_gymnasium(kind).host.replays  # without a limit none does


def test_a_limit_of_ones_own_truncates():
    env = jaxdrl.from_gymnasium(Counting, max_episode_steps=2, name="short")
    assert (env.name, env.max_episode_steps) == ("short", 2)
    with closing(env.host.make(1)) as batch:
        batch.reset(np.ones(1, bool), np.array([3]))
        flags = [[x.tolist() for x in batch.step(np.zeros(1, int))[2:]] for _ in range(2)]
    assert flags == [[[False], [False]], [[False], [True]]]


def test_arguments_of_the_constructor_and_the_limit():
    env = jaxdrl.make("gymnasium/Pendulum-v1", g=2.0, max_episode_steps=7.0, processes=0.0)
    assert env.max_episode_steps == 7
    with closing(env.host.make(1)) as batch:
        batch.reset(np.ones(1, bool), SEEDS[:1])
        truncated = [batch.step(np.zeros((1, 1), np.float32))[3].item() for _ in range(7)]
    assert truncated == [False] * 6 + [True]
    assert jaxdrl.make("gymnasium/Pendulum-v1", max_episode_steps=None).max_episode_steps is None


def vector():
    return gymnasium.make_vec("CartPole-v1", num_envs=2)


@pytest.mark.parametrize(
    ("make_env", "words"),
    [
        (Counting(), "must be a function that makes an environment"),
        (vector, "is a vector environment, which resets its copies by itself"),
        (lambda: gymnasium.wrappers.Autoreset(Counting()), "the wrapper Autoreset resets it"),
        (lambda: 3, "what it makes, a int, is not a gymnasium.Env"),
        (lambda: gymnasium.make("Blackjack-v1"), "the observation space is a Tuple"),
    ],
)
def test_what_cannot_give_a_true_successor_is_refused(make_env, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        jaxdrl.from_gymnasium(make_env)


def test_an_observation_that_is_not_of_its_space_is_refused_at_once():
    class Wrong(Counting):
        def look(self):
            return super().look()[:2]

    words = r"Wrong: the observation is float64\[2\], but its space says float32\[3\]"
    with pytest.raises(ConfigError, match=words):
        jaxdrl.from_gymnasium(Wrong)


def test_one_environment_for_all_copies_is_refused():
    one = Counting()
    env = jaxdrl.from_gymnasium(lambda: one, replays=False)
    with pytest.raises(ConfigError, match="make_env returned the same environment twice"):
        env.host.make(2)


@pytest.mark.parametrize(
    ("task", "params", "words"),
    [
        ("CartPol-v1", {}, "env = 'gymnasium/CartPol-v1': unknown; the nearest: CartPole-v1"),
        ("Pendulum-v1", {"gravity": 1}, "env_params.gravity = 1: gymnasium/Pendulum-v1 has no"),
        ("CartPole-v1", {"processes": 2}, "env_params.processes = 2: must be 0 or 1"),
        ("CartPole-v1", {"step_timeout": 0}, "step_timeout = 0"),
        ("CartPole-v1", {"max_episode_steps": 0}, "max_episode_steps = 0"),
    ],
)
def test_refuses(task, params, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        jaxdrl.make(f"gymnasium/{task}", **params)


def test_mujoco_that_is_missing_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mujoco", None)
    monkeypatch.delitem(__import__("sys").modules, "gymnasium.envs.mujoco", raising=False)
    with pytest.raises(ConfigError, match=re.escape("pip install 'jaxdrl[mujoco]'")):
        jaxdrl.make("gymnasium/HalfCheetah-v5")


def test_an_algorithm_takes_it():
    env = jaxdrl.make("gymnasium/CartPole-v1")
    agent = jaxdrl.ppo(env, jaxdrl.PPOConfig(num_envs=8, num_steps=2, num_minibatches=1))
    state = jax.eval_shape(agent.init, jax.eval_shape(lambda: jax.random.key(0)))
    assert state.actor.obs.shape == (8, 4)


def test_the_list_has_the_newest_of_each():
    from jaxdrl.envs.host.gymnasium import SUITE

    tasks = SUITE.list_tasks()
    assert {"CartPole-v1", "HalfCheetah-v5"} <= set(tasks) and "CartPole-v0" not in tasks
