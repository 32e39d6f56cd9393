"""The contract test finds each way in which copies on the host break the contract."""

import re

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from counting_gymnasium import make_counting as make_theirs
from counting_host import counting
from jaxdrl import spaces
from jaxdrl.cli import main
from jaxdrl.envs.contract.check import check_environment
from jaxdrl.envs.host.protocol import HostBatch, HostEnvironment, on_host


def broken(env, **how):
    """What is broken, and in detail."""
    report = check_environment(env, **{"num_steps": 64, **how})
    assert report.holds == (not report.broken)
    return {found.what: found.detail for found in report.broken}


def notes(env):
    return {f.what: f.detail for f in check_environment(env).findings if f.verdict == "note"}


CARTPOLE = jaxdrl.make("gymnasium/CartPole-v1")


@pytest.mark.parametrize(
    "env",
    [
        counting(),
        CARTPOLE,
        jaxdrl.make("gymnasium/Pendulum-v1"),
        jaxdrl.make("gymnasium/FrozenLake-v1"),
        jaxdrl.make("gymnasium/Taxi-v4"),
        jaxdrl.from_gymnasium(lambda: make_theirs(kind="dict")),
    ],
    ids=lambda env: env.name,
)
def test_sound_environments_pass(env):
    report = check_environment(env)
    assert report.holds, str(report)
    assert str(report).startswith(f"{env.name}: 11 checks, none failed\n")


def spoilt(change, env=None):
    """An environment whose copies are `change(batch)`; the one that counts if there is no other."""
    env = env or counting()

    def make(num_envs):
        return change(env.host.make(num_envs))

    return env._replace(host=env.host._replace(make=make))


def changes(function):
    """Changes the results of a step by `(obs, reward, terminated, truncated) -> the same`."""
    return lambda batch: batch._replace(step=lambda action: function(*batch.step(action)))


def resets_in_the_same_step(env):
    """As a vector environment in SAME_STEP mode without `final_obs`."""

    def change(batch):
        random = np.random.default_rng(5)

        def step(action):
            obs, reward, terminated, truncated = batch.step(action)
            ended = terminated | truncated
            if ended.any():
                obs = batch.reset(ended, random.integers(0, 2**31, len(ended)))
            return obs, reward, terminated, truncated

        return batch._replace(step=step)

    return spoilt(change, env)


@pytest.mark.parametrize("env", [counting(), CARTPOLE], ids=lambda env: env.name)
def test_the_observation_of_a_reset_in_place_of_the_last_one_is_found(env):
    found = broken(resets_in_the_same_step(env), num_steps=128)
    assert "look like those of resets" in found["the last observation is the true successor"]


def test_a_step_that_is_none_after_each_reset_is_found():
    """As in NEXT_STEP mode, when its step after the end is not taken out."""

    def change(batch):
        fresh = np.zeros(0, bool)
        last = None

        def reset(rows, seeds):
            nonlocal fresh, last
            fresh = rows
            last = batch.reset(rows, seeds)
            return last

        def step(action):
            nonlocal fresh
            if fresh.any() and not fresh.all():
                # The others are where they were, which the check of seeds would find as well.
                waits, fresh = fresh, np.zeros_like(fresh)
                no = np.zeros(len(waits), bool)
                return last, np.zeros(len(waits), np.float32), no, no
            return batch.step(action)

        return batch._replace(reset=reset, step=step)

    assert "the first step of an episode is one" in broken(spoilt(change))


FAR = np.float32(1e6)


def moved(batch):
    """Moves the observations of resets as well."""
    return batch._replace(reset=lambda rows, seeds: batch.reset(rows, seeds) - FAR)


@pytest.mark.parametrize(
    ("change", "what", "words"),
    [
        (
            changes(lambda o, r, te, tr: (o, r, te | tr, te | tr)),
            "terminated and truncated exclude each other",
            "both at environment",
        ),
        (
            changes(lambda o, r, te, tr: (o, r * np.float32(np.nan), te, tr)),
            "rewards are finite",
            "environment 0, step 1 of an episode",
        ),
        (
            lambda batch: moved(changes(lambda o, *rest: (o - FAR, *rest))(batch)),
            "observations are finite and in observation_space",
            "outside at environment 0, step 1",
        ),
        (
            changes(lambda o, r, te, tr: (o.astype(np.float64), r, te, tr)),
            "shapes and dtypes are those of the spaces",
            "the observation after a step of 2 copies is float64[2, 3]; must be a NumPy array",
        ),
        (
            changes(lambda o, r, te, tr: (o, r.astype(np.float64), te, tr)),
            "shapes and dtypes are those of the spaces",
            "reward of 2 copies is float64[2]; must be a NumPy array float32[2]",
        ),
        (
            changes(lambda o, r, te, tr: (o, r, te, list(tr))),
            "shapes and dtypes are those of the spaces",
            "truncated of 2 copies is a list",
        ),
    ],
)
def test_bad_results_are_named(change, what, words):
    found = broken(spoilt(change))
    assert list(found) == [what] and words in found[what], found


def test_arrays_that_are_used_again_are_found():
    def change(batch):
        buffer = np.zeros((0, 3), np.float32)

        def step(action):
            nonlocal buffer
            obs, *rest = batch.step(action)
            if len(buffer) != len(obs):
                buffer = np.empty_like(obs)
            buffer[:] = obs
            return buffer, *rest

        return batch._replace(step=step)

    assert "results changed" in broken(spoilt(change))["arrays are not written to later"]


def test_a_reset_that_changes_other_rows_is_found():
    def change(batch):
        def reset(rows, seeds):
            obs = batch.reset(rows, seeds)
            return obs if rows.all() else obs + np.float32(1)

        return batch._replace(reset=reset)

    assert "rows that are not reset keep their observation" in broken(spoilt(change))


def unseeded(batch):
    random = np.random.default_rng()
    return batch._replace(
        reset=lambda rows, seeds: batch.reset(rows, random.integers(0, 2**31, len(rows)))
    )


def test_seeds_that_decide_nothing_are_found_where_it_is_promised():
    found = broken(spoilt(unseeded))
    assert "a second play differs at step 0" in found["seeds and actions decide episodes"]
    modest = counting(replays=False)
    assert not broken(spoilt(unseeded, modest))
    assert "begin anew" in notes(spoilt(unseeded, modest))["seeds and actions decide episodes"]


def test_what_an_episode_leaves_behind_is_found():
    def change(batch):
        total = np.zeros(1)

        def step(action):
            total[0] += action.sum()
            return batch.step(action)

        def reset(rows, seeds):
            return batch.reset(rows, seeds + np.uint32(total[0]) * np.arange(len(seeds)))

        return batch._replace(step=step, reset=reset)

    # The second play is the same to the bit, so that two copies in one play have to be compared.
    found = broken(spoilt(change))
    assert "have played differently" in found["seeds and actions decide episodes"]


def test_a_limit_that_is_not_kept_is_found():
    found = broken(CARTPOLE._replace(max_episode_steps=5))
    assert "it is 5, but one continues" in found["episodes keep to max_episode_steps"]


def test_masks_are_kept_in_play():
    def make(num_envs):
        steps = np.zeros(num_envs, int)

        def look():
            return (steps % 2).astype(np.float32)[:, None]

        def reset(rows, seeds):
            steps[rows] = 0
            return look()

        def step(action):
            assert (action == steps % 2).all()
            steps[:] += 1
            return look(), np.ones(num_envs, np.float32), steps >= 4, np.zeros(num_envs, bool)

        return HostBatch(reset=reset, step=step, close=lambda: None)

    env = on_host(
        "masked",
        HostEnvironment(make=make, replays=True),
        spaces.Box(0.0, 1.0, (1,)),
        spaces.Discrete(2),
        max_episode_steps=4,
        action_mask=lambda obs: jnp.arange(2.0) == obs,
    )
    report = check_environment(env)
    assert report.holds, str(report)
    assert any(found.what.startswith("action_mask") for found in report.findings)


def test_no_end_is_a_note():
    found = notes(jaxdrl.make("gymnasium/Pendulum-v1", max_episode_steps=None))
    assert "no episode ended in 1024" in found["the last observation is the true successor"]


class Broken(gymnasium.envs.classic_control.CartPoleEnv):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, np.nan, *rest


def test_the_command_says_what_is_broken_and_ends_with_1(capsys, monkeypatch):
    main.main(["check", "gymnasium/CartPole-v1", "--num-steps", "20", "--num-envs", "2"])
    assert capsys.readouterr().out.startswith("gymnasium/CartPole-v1: 11 checks, none failed")
    spec = gymnasium.spec("CartPole-v1")
    monkeypatch.setattr(spec, "entry_point", Broken)
    with pytest.raises(SystemExit) as caught:
        main.main(["check", "gymnasium/CartPole-v1", "--num-steps", "20", "--num-envs", "2"])
    assert caught.value.code == 1
    assert re.search("BROKEN  rewards are finite", capsys.readouterr().out)
