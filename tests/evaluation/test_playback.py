"""Episodes played step by step: what is kept of them, and that they are those of `evaluate`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from jaxdrl.core.spaces import Box, Discrete
from jaxdrl.core.types import LearnerState, Policy
from jaxdrl.envs import Environment
from jaxdrl.evaluation import playback
from probe_environments import constant_reward, counter

LIMIT = 20
ENV = counter(LIMIT)  # its state says when and how its episode ends
NUM = 6


def act(learner, carry, obs, episode_start, key, *, greedy=False):
    del learner, episode_start
    # Memory that counts steps, and noise that needs the key.
    noise = 0 if greedy else jax.random.randint(key, obs.shape[:1], 0, 2)
    return (carry + noise) % 2, carry + 1


POLICY = Policy(lambda num: jnp.zeros((num,), jnp.int32), act)


LEARNER = LearnerState((), (), None, None, (), ())  # of no use to this policy


def play(max_frames=100, num_steps=LIMIT, greedy=True):
    return playback.record(
        ENV,
        POLICY,
        LEARNER,
        jax.random.key(3),
        num_envs=NUM,
        num_steps=num_steps,
        max_frames=max_frames,
        greedy=greedy,
    )


@pytest.fixture(scope="module")
def moments():
    return play()


def ends(moments):
    """`(lengths, terminates)` that the states drew at their reset."""
    draw = moments[0].env_state.draw
    return 1 + draw % LIMIT, draw // LIMIT % 2 == 0


def test_every_step_is_kept_until_the_last_episode_is_over(moments):
    lengths, terminates = ends(moments)
    assert len(set(lengths.tolist())) > 2  # of different lengths
    assert set(terminates.tolist()) == {True, False}
    assert [moment.num_steps for moment in moments] == list(range(max(lengths) + 1))
    for moment in moments:
        np.testing.assert_array_equal(moment.lengths, np.minimum(moment.num_steps, lengths))
        over = moment.num_steps >= lengths
        np.testing.assert_array_equal(moment.ended, over)
        np.testing.assert_array_equal(moment.terminated, over & terminates)
        np.testing.assert_array_equal(moment.truncated, over & ~terminates)


def test_the_state_of_an_ended_episode_stays_as_it_was(moments):
    for moment in moments:
        np.testing.assert_array_equal(moment.env_state.time, moment.lengths)
    keys = [jax.random.key_data(moment.env_state.key) for moment in moments]
    first = int(np.argmin(moments[-1].lengths))
    end = int(moments[-1].lengths[first])
    assert (keys[end][first] == keys[-1][first]).all()
    assert (keys[end - 1][first] != keys[end][first]).any()


@pytest.mark.parametrize("greedy", [True, False])
def test_the_episodes_are_those_of_evaluate(greedy):
    last = play(greedy=greedy)[-1]
    expected = jaxdrl.evaluate(
        ENV,
        POLICY,
        LEARNER,
        jax.random.key(3),
        num_episodes=NUM,
        greedy=greedy,
    )
    np.testing.assert_allclose(last.returns, expected.returns, rtol=1e-6)
    np.testing.assert_array_equal(last.lengths, expected.lengths)


@pytest.mark.parametrize("max_frames", [2, 3, 5, 10, 15])
def test_long_episodes_are_thinned_to_what_they_have_in_common_with_all(moments, max_frames):
    thinned = play(max_frames)
    steps = [moment.num_steps for moment in thinned]
    every = steps[1] if len(steps) > 2 else 32
    assert every & (every - 1) == 0
    assert max_frames / 2 <= len(steps) <= max_frames
    last = moments[-1].num_steps
    assert steps == sorted({*range(0, last, every), last})
    for moment in thinned:
        np.testing.assert_array_equal(moment.returns, moments[moment.num_steps].returns)
        np.testing.assert_array_equal(
            moment.env_state.time, moments[moment.num_steps].env_state.time
        )


def test_longer_episodes_are_cut(moments):
    cut = play(num_steps=3)
    assert [moment.num_steps for moment in cut] == [0, 1, 2, 3]
    assert not cut[-1].ended.all()
    np.testing.assert_array_equal(cut[-1].returns, moments[3].returns)


def test_more_steps_than_one_call_makes():
    """A clock that ends after two and a half calls."""
    limit = 5 * playback.CHUNK // 2
    moments = playback.record(
        constant_reward(limit, "terminated"),
        POLICY,
        LEARNER,
        jax.random.key(0),
        num_envs=2,
        num_steps=2 * limit,
        max_frames=2 * limit,
        greedy=True,
    )
    assert [moment.num_steps for moment in moments] == list(range(limit + 1))
    for step, moment in enumerate(moments):
        assert moment.returns.tolist() == moment.lengths.tolist() == [step, step]
        assert moment.terminated.tolist() == 2 * [step == limit]


def test_what_would_come_after_the_end_changes_nothing():
    """A step after the limit of this environment would terminate."""

    def reset(key, params):
        limit = jax.random.randint(key, (), 2, 9)
        return jnp.zeros((1,)), {"time": jnp.zeros((), jnp.int32), "limit": limit}

    def step(key, env_state, action, params):
        time, limit = env_state["time"] + 1, env_state["limit"]
        return (
            jnp.zeros((1,)),
            {"time": time, "limit": limit},
            jnp.float32(1.0),
            time > limit,
            time == limit,
            {},
        )

    env = Environment("cut", reset, step, Box(-1.0, 1.0, (1,)), Discrete(2))
    last = playback.record(
        env,
        POLICY,
        LEARNER,
        jax.random.key(0),
        num_envs=NUM,
        num_steps=20,
        max_frames=20,
        greedy=True,
    )[-1]
    assert len(set(last.lengths.tolist())) > 1
    assert last.truncated.all() and not last.terminated.any()
    np.testing.assert_array_equal(last.returns, last.env_state["limit"])
