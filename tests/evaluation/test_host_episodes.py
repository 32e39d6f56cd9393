"""Episodes of an environment of the host: each is counted once, whoever plays it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from counting_host import (
    LONGEST,
    counting,
    dictionary,
    is_truncated,
    length_of,
    make_counting,
)
from jaxdrl.core.types import LearnerState, Policy
from jaxdrl.evaluation import host_episodes

KEY = partial(jax.random.key, 0)
LEARNER = LearnerState((), (), None, None, (), ())


def act(learner, carry, obs, episode_start, key, *, greedy=False):
    """The number of steps so far, by memory, modulo 3; samples are any of three actions."""
    del learner
    carry = jnp.where(episode_start, 0, carry + 1)
    if greedy:
        return (obs[:, 1].astype(jnp.int32) + carry) % 3, carry
    return jax.random.randint(key, episode_start.shape, 0, 3), carry


POLICY = Policy(lambda num: jnp.full((num,), 7, jnp.int32), act)


def greedy_return(length):
    """By hand: step t has reward t plus a tenth of its action, 2 (t - 1) mod 3."""
    return sum(t + 0.1 * (2 * (t - 1) % 3) for t in range(1, length + 1))


def evaluate(env, num_episodes, **how):
    return jaxdrl.evaluate(env, POLICY, LEARNER, KEY(), num_episodes=num_episodes, **how)


def recording(seeds, closed=None, before_step=lambda: None):
    """The environment, whose copies append the seed of every episode that begins."""

    def make(num_envs):
        batch = make_counting(num_envs, before_step)

        def reset(rows, new):
            seeds.extend(new[rows].tolist())
            return batch.reset(rows, new)

        def close():
            closed.append(num_envs)

        return batch._replace(reset=reset, close=batch.close if closed is None else close)

    return counting(make)


def test_each_episode_counts_once_with_its_own_return():
    begun = []
    found = evaluate(recording(begun), 200)
    # Drawn beforehand, so that none is preferred for being short.
    seeds, _ = host_episodes.draw_seeds(KEY(), 200)
    assert len(set(seeds.tolist())) == 200
    assert set(begun) == set(seeds.tolist())
    np.testing.assert_array_equal(found.lengths, length_of(seeds))
    assert {*found.lengths.tolist()} == {*range(3, LONGEST + 1)}
    wanted = [greedy_return(length) for length in found.lengths]
    np.testing.assert_allclose(found.returns, wanted, rtol=1e-6)
    assert (found.num_episodes, found.num_cut) == (200, 0)
    assert is_truncated(seeds).any() and not is_truncated(seeds).all()


def test_every_copy_plays_an_equal_part_however_short_its_episodes_are(monkeypatch):
    """Where the first seed of a copy decides all its episodes, others would count too often."""
    monkeypatch.setattr(host_episodes, "MAX_COPIES", 2)

    def make(num_envs):
        batch, first = make_counting(num_envs), []

        def reset(rows, seeds):
            first.append(np.array([0, 6]))  # episodes of 3 and of 9 steps
            return batch.reset(rows, first[0])

        return batch._replace(reset=reset)

    assert evaluate(counting(make), 12).lengths.tolist() == [3, 9] * 6


@pytest.mark.parametrize("greedy", [True, False])
def test_the_number_of_copies_changes_nothing(monkeypatch, greedy):
    found = []
    for num_copies in (64, 7, 1):
        monkeypatch.setattr(host_episodes, "MAX_COPIES", num_copies)
        found.append(evaluate(counting(), 20, greedy=greedy))
    for other in found[1:]:
        np.testing.assert_array_equal(other.returns, found[0].returns)
        np.testing.assert_array_equal(other.lengths, found[0].lengths)


def test_samples_differ_by_episode_and_step_and_key():
    one, again = (evaluate(counting(), 60, greedy=False) for _ in range(2))
    np.testing.assert_array_equal(one.returns, again.returns)
    steps = one.lengths.astype(float)
    drawn = (one.returns - steps * (steps + 1) / 2) / 0.1 / steps
    assert len(set(drawn.round(3).tolist())) > 10  # of all steps alike there would be three
    assert drawn.mean() == pytest.approx(1.0, abs=0.15)
    other = jaxdrl.evaluate(
        counting(), POLICY, LEARNER, jax.random.key(1), num_episodes=60, greedy=False
    )
    assert sorted(other.lengths) != sorted(one.lengths)


def test_a_step_limit_cuts_the_longer_episodes_and_counts_them():
    whole = evaluate(counting(), 100)
    found = evaluate(counting(), 100, max_episode_steps=5)
    np.testing.assert_array_equal(found.lengths, np.minimum(whole.lengths, 5))
    assert found.num_cut == (whole.lengths > 5).sum() > 0


def test_an_episode_that_never_ends_is_cut_at_the_usual_limit(monkeypatch):
    monkeypatch.setattr("jaxdrl.evaluation.episodes.DEFAULT_MAX_STEPS", 4)
    found = evaluate(counting()._replace(max_episode_steps=None), 10)
    assert found.lengths.max() == 4
    assert found.num_cut > 0


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_the_copies_are_always_closed(error):
    closed, steps = [], []

    def before_step():
        steps.append(1)
        if error is not None and len(steps) == 3:
            raise error

    env = recording([], closed, before_step)
    if error is None:
        evaluate(env, 5)
    else:
        with pytest.raises(error):
            evaluate(env, 5)
    assert closed == [5]


def test_what_was_handed_over_is_not_written_to_again(monkeypatch):
    """JAX may still read an array after a call has returned."""
    given = []

    def seen(function):
        def call(*arrays, **how):
            tree = jax.tree.leaves(arrays)
            given.extend((x, x.copy()) for x in tree if isinstance(x, np.ndarray))
            return function(*arrays, **how)

        return call

    def make(num_envs):
        batch = make_counting(num_envs)
        return batch._replace(reset=seen(batch.reset), step=seen(batch.step))

    program = host_episodes.program
    monkeypatch.setattr(host_episodes, "program", lambda *bound: seen(program(*bound)))
    evaluate(counting(make), 70)
    assert len(given) > 50
    for array, copy in given:
        np.testing.assert_array_equal(array, copy)


def test_dictionaries_with_pictures_and_actions_of_several_numbers():
    def act(learner, carry, obs, episode_start, key, *, greedy=False):
        value = obs["pixels"][:, 0, 0].astype(jnp.float32) + obs["speed"]
        return jnp.stack([value, value], axis=1), carry

    found = jaxdrl.evaluate(
        dictionary(), Policy(lambda num: (), act), LEARNER, KEY(), num_episodes=70
    )
    lengths = found.lengths.astype(np.float64)
    np.testing.assert_allclose(found.returns, lengths * (lengths + 1) / 2 + 0.5 * lengths)


@pytest.mark.parametrize("memory", ["none", "gru"])
def test_a_policy_that_was_trained_by_ppo(memory):
    config = jaxdrl.with_settings(
        jaxdrl.PPOConfig(), num_envs=8, num_steps=8, num_minibatches=1, memory=memory
    )
    env = counting()
    agent = jaxdrl.ppo(env, config)
    learner = jax.jit(agent.init)(KEY()).learner
    for greedy in (True, False):
        found = jaxdrl.evaluate(env, agent.policy, learner, KEY(), num_episodes=70, greedy=greedy)
        steps = found.lengths.astype(float)
        drawn = (found.returns - steps * (steps + 1) / 2) / 0.1
        assert ((drawn > -1e-3) & (drawn < 2 * steps + 1e-3)).all()


def test_it_compiles_once_for_other_learners_and_keys():
    traces = []

    def counting_act(*args, **kwargs):
        traces.append(1)
        return act(*args, **kwargs)

    policy = Policy(POLICY.initial_carry, counting_act)
    for seed in range(3):
        key = jax.random.key(seed)
        jaxdrl.evaluate(counting(), policy, LEARNER, key, num_episodes=70)
    assert len(traces) == 1
