"""Evaluation: whole episodes, each counted once, by hand-made policies whose returns are known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import linen as nn

import jaxdrl
from jaxdrl import PPOConfig
from jaxdrl.core.types import LearnerState, Policy
from jaxdrl.errors import ConfigError
from jaxdrl.evaluation.episode_loop import Rules, begin_episodes, step_episodes
from jaxdrl.evaluation.episodes import (
    DEFAULT_MAX_STEPS,
    MAX_DRAWS,
    best_of,
    bootstrap_interval,
    difference_interval,
    evaluate,
    interquartile_mean,
    summarise,
)
from probe_agents import last_move_wins, team
from probe_environments import action_reward, constant_reward, counter, delayed_reward

KEY = partial(jax.random.key, 0)
LEARNER = LearnerState(
    params={"bias": jnp.float32(0.0)},
    opt_state=(),
    obs_statistics=None,
    return_statistics=None,
    key=None,
    num_updates=jnp.int32(0),
)


def act(learner, carry, obs, episode_start, key, *, greedy=False):
    """Action 1 if `bias` is positive, else 0; without `greedy` either by chance."""
    del obs
    bias = jnp.broadcast_to(learner.params["bias"], episode_start.shape)
    chance = jax.random.bernoulli(key, 0.5, episode_start.shape)
    return ((bias > 0) if greedy else chance).astype(jnp.int32), carry


POLICY = Policy(initial_carry=lambda num_envs: (), act=act)


def biased(bias):
    return LEARNER.replace(params={"bias": jnp.float32(bias)})


def recording(env, drawn):
    """`env` with reward 1 at every step, whose resets append the length that they drew."""

    def reset(key, params):
        obs, state = env.reset(key, params)
        limit = env.max_episode_steps
        jax.debug.callback(lambda draw: drawn.append(1 + int(draw) % limit), state.draw)
        return obs, state

    def step(key, state, action, params):
        obs, state, _, *ends = env.step(key, state, action, params)
        return obs, state, jnp.float32(1.0), *ends

    return env._replace(reset=reset, step=step)


def test_each_episode_counts_once_whatever_its_length():
    drawn = []
    result = evaluate(recording(counter(9), drawn), POLICY, LEARNER, KEY(), num_episodes=200)
    jax.effects_barrier()
    # No other reset than the 200 of the start, and what these drew is what is reported.
    assert sorted(result.lengths) == sorted(drawn)
    assert set(drawn) == set(range(1, 10))
    np.testing.assert_array_equal(result.returns, result.lengths.astype(np.float32))
    assert result.mean_return == pytest.approx(np.mean(drawn), rel=1e-6)
    assert result.mean_length == pytest.approx(np.mean(drawn), rel=1e-6)
    # Counted by steps, or by who ends first, the mean would be another.
    assert abs(result.mean_length - np.average(drawn, weights=drawn)) > 1
    assert (result.num_episodes, result.num_cut) == (200, 0)
    assert result.ci95_low < result.mean_return < result.ci95_high
    assert (result.ci95_low, result.ci95_high) == bootstrap_interval(result.returns)


def test_a_cap_cuts_the_longer_episodes_and_counts_them():
    drawn = []
    env = recording(counter(9), drawn)
    result = evaluate(env, POLICY, LEARNER, KEY(), num_episodes=50, max_episode_steps=4)
    jax.effects_barrier()
    assert sorted(result.lengths) == sorted(np.minimum(drawn, 4))
    assert result.num_cut == np.sum(np.array(drawn) > 4) > 0


def test_the_limit_of_the_environment_is_the_default_cap():
    env = jaxdrl.time_limit(constant_reward(9, "terminated"), 5)
    result = evaluate(env, POLICY, LEARNER, KEY(), num_episodes=3)
    # Truncation by the limit is an end of the episode, not a cut.
    assert (result.lengths.tolist(), result.num_cut) == ([5, 5, 5], 0)


def test_an_endless_environment_is_cut_all_the_same():
    env = constant_reward(3, "terminated")

    def step(*args):
        obs, time, reward, terminated, truncated, info = env.step(*args)
        return obs, time, reward, jnp.zeros_like(terminated), truncated, info

    endless = env._replace(step=step, max_episode_steps=None)
    result = evaluate(endless, POLICY, LEARNER, KEY(), num_episodes=2)
    assert result.lengths.tolist() == [DEFAULT_MAX_STEPS] * 2
    assert result.returns.tolist() == [DEFAULT_MAX_STEPS] * 2
    assert result.num_cut == 2


def test_what_follows_the_end_of_an_episode_does_not_count():
    drawn = []
    env = recording(counter(6), drawn)

    def step(key, state, action, params):
        obs, after, reward, *ends = env.step(key, state, action, params)
        over = state.time >= 1 + state.draw % 6
        return obs, after, jnp.where(over, jnp.float32(jnp.nan), reward), *ends

    result = evaluate(env._replace(step=step), POLICY, LEARNER, KEY(), num_episodes=40)
    jax.effects_barrier()
    assert len(set(drawn)) > 1
    assert sorted(result.returns) == sorted(drawn)


def test_deterministic_takes_the_mode_and_otherwise_samples():
    env = action_reward()
    for bias, expected in ((1.0, 1.0), (-1.0, -1.0)):
        result = evaluate(env, POLICY, biased(bias), KEY(), num_episodes=200)
        assert (result.returns == expected).all()
        assert result.mean_return == result.ci95_low == result.ci95_high == expected
    run = partial(evaluate, env, POLICY, biased(1.0), num_episodes=200, greedy=False)
    one, again, other = run(KEY()), run(KEY()), run(jax.random.key(1))
    assert set(one.returns.tolist()) == {-1.0, 1.0}
    assert abs(one.mean_return) < 0.3
    np.testing.assert_array_equal(one.returns, again.returns)
    assert (one.returns != other.returns).any()


def test_compiles_once_for_other_learners_and_keys():
    traces = []

    def counting_act(*args, **kwargs):
        traces.append(1)
        return act(*args, **kwargs)

    env, policy = delayed_reward(), Policy(POLICY.initial_carry, counting_act)
    evaluate(env, policy, biased(0.0), KEY(), num_episodes=4)
    of_one_compile = len(traces)
    assert of_one_compile > 0
    for i in range(3):
        evaluate(env, policy, biased(float(i)), jax.random.key(i), num_episodes=4)
    # Equal policies and environments do as well: no closure is made anew for each call.
    evaluate(env._replace(), policy._replace(), biased(0.0), KEY(), num_episodes=4)
    assert len(traces) == of_one_compile
    evaluate(env, policy, biased(0.0), KEY(), num_episodes=5)
    assert len(traces) == 2 * of_one_compile


def test_a_policy_with_a_memory_sees_each_start_once():
    def remembering(learner, carry, obs, episode_start, key, *, greedy=False):
        del learner, obs, key, greedy
        carry = jnp.where(episode_start, jnp.full_like(carry, 100), carry) + 1
        return carry, carry

    def step(key, state, action, params):
        obs, state, _, *ends = constant_reward(4, "truncated").step(key, state, action, params)
        return obs, state, action.astype(jnp.float32), *ends

    policy = Policy(partial(jnp.zeros, dtype=jnp.int32), remembering)
    env = constant_reward(4, "truncated")._replace(step=step)
    result = evaluate(env, policy, LEARNER, KEY(), num_episodes=3)
    assert result.returns.tolist() == [101 + 102 + 103 + 104] * 3


@pytest.mark.parametrize(
    ("terminates_at", "truncated_at", "flags"), [(2, 3, (True, False)), (3, 2, (False, True))]
)
def test_an_episode_ends_once_and_in_the_way_that_came_first(terminates_at, truncated_at, flags):
    def reset(key, params):
        return jnp.zeros(1), jnp.zeros((), jnp.int32)

    def step(key, time, action, params):
        time = time + 1
        ends = (time == terminates_at), (time == truncated_at)
        return jnp.zeros(1), time, jnp.float32(1.0), *ends, {}

    @jax.jit
    def play(key):
        rules = Rules(reset, step)
        episodes = begin_episodes(rules, POLICY, (), key, 1)
        for _ in range(4):
            episodes = step_episodes(rules, POLICY, (), LEARNER, episodes, greedy=True)
        return episodes

    found = play(KEY())
    assert (found.terminated.item(), found.truncated.item()) == flags
    assert (found.lengths.item(), found.returns.item(), found.num_steps.item()) == (2, 2.0, 4)


def test_every_environment_has_random_numbers_of_its_own_at_every_step():
    """The return of two steps is what the second draws less what the first did."""

    def reset(key, params):
        del key, params
        return jnp.zeros(1), (jnp.zeros((), jnp.int32), jnp.zeros(()))

    def step(key, state, action, params):
        del action, params
        time, before = state
        drawn = jax.random.uniform(key)
        reward = jnp.where(time == 0, 0.0, drawn - before)
        over = time == 1
        return jnp.zeros(1), (time + 1, drawn), reward, over, jnp.zeros_like(over), {}

    env = action_reward()._replace(reset=reset, step=step, max_episode_steps=2)
    result = evaluate(env, POLICY, LEARNER, KEY(), num_episodes=50)
    assert len(set(result.returns.tolist())) == 50
    assert result.returns.std() == pytest.approx(np.sqrt(1 / 6), rel=0.3)


class Linear(nn.Module):
    """A network that is quick to compile."""

    @nn.compact
    def __call__(self, obs):
        """`(logits, value)`."""
        dense = partial(nn.Dense, kernel_init=nn.initializers.normal(1.0))
        return dense(2)(obs), dense(1)(obs)[:, 0]


def test_the_learner_of_a_mesh_gives_the_same_result_as_that_of_one_device():
    env = counter(5)
    config = PPOConfig(num_envs=8, num_steps=4)
    alone = jaxdrl.ppo(env, config, network=Linear())
    sharded = jaxdrl.ppo(env, config, network=Linear(), mesh=jaxdrl.make_mesh(8))
    learner, learner_of_mesh = (
        jax.jit(agent.init)(jax.random.key(1)).learner for agent in (alone, sharded)
    )
    assert len(jax.tree.leaves(learner_of_mesh.params)[0].devices()) == 8
    results = [
        evaluate(env, agent.policy, of_agent, KEY(), num_episodes=30, greedy=False)
        for agent, of_agent in ((alone, learner), (sharded, learner_of_mesh))
    ]
    np.testing.assert_array_equal(results[0].returns, results[1].returns)
    np.testing.assert_array_equal(results[0].lengths, results[1].lengths)
    assert len(set(results[0].returns.tolist())) > 10
    # The learner is not used up: training may go on with it.
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(learner_of_mesh))


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "10", None])
def test_refuses_numbers_of_episodes_that_are_no_counts(value):
    with pytest.raises(ConfigError, match=r"num_episodes = .*integer from 1 to 1000000"):
        evaluate(action_reward(), POLICY, LEARNER, KEY(), num_episodes=value)


@pytest.mark.parametrize("value", [0, -3, 1.5])
def test_refuses_a_cap_that_is_no_count(value):
    with pytest.raises(ConfigError, match=r"max_episode_steps = .*integer of at least 1"):
        evaluate(action_reward(), POLICY, LEARNER, KEY(), num_episodes=2, max_episode_steps=value)


@pytest.mark.parametrize(
    ("returns", "best"),
    [
        ([1.0, 3.0, 2.0], 1),
        ([-3.0, -1.0, -1.0], 1),  # the first of equals
        ([np.nan, 2.0, np.inf, 5.0, -np.inf], 3),
        ([np.nan, np.inf], None),
        ([], None),
    ],
)
def test_the_best_is_the_first_greatest_of_those_that_are_finite(returns, best):
    assert best_of(returns) == best


def test_an_interval_of_returns_that_are_not_finite_is_none():
    assert np.isnan(bootstrap_interval(np.array([1.0, np.nan]))).all()
    assert np.isnan(bootstrap_interval(np.array([1.0, np.inf]))).all()


def test_a_summary_is_that_of_its_episodes():
    returns, ended = np.array([1.0, 2.0, 9.0], np.float32), np.array([True, False, True])
    found = summarise(returns, np.array([4, 5, 9], np.int32), ended)
    assert (found.num_episodes, found.num_cut) == (3, 1)
    assert (found.mean_return, found.median_return, found.mean_length) == (4.0, 2.0, 6.0)
    assert found.interquartile_mean == interquartile_mean(returns)


def test_bootstrap_interval_agrees_with_scipy():
    rng = np.random.default_rng(3)
    for samples in (rng.normal(5, 2, 40), rng.exponential(3, 100), rng.uniform(size=60)):
        low, high = bootstrap_interval(samples, num_resamples=20_000)
        expected = scipy.stats.bootstrap(
            (samples,), np.mean, n_resamples=20_000, method="percentile", rng=1
        ).confidence_interval
        # Both ends are quantiles of random resamples: a tenth of a standard error is their noise.
        noise = samples.std() / np.sqrt(len(samples)) / 10
        assert low == pytest.approx(expected.low, abs=noise)
        assert high == pytest.approx(expected.high, abs=noise)


@pytest.mark.parametrize("interval", ["of a mean", "of a difference"])
def test_the_level_of_an_interval_is_95_percent_to_a_percent(interval):
    """Against normal theory for many samples: 94% would be 4% narrower, and 96% 5% wider.

    What 40,000 resamples leave to chance is 0.5% of the width.
    """
    rng = np.random.default_rng(6)
    ours, theirs = rng.normal(1.0, 2.0, size=400), rng.normal(0.0, 3.0, size=300)
    gain, variance = ours.mean(), ours.var() / len(ours)
    if interval == "of a mean":
        low, high = bootstrap_interval(ours, num_resamples=40_000)
    else:
        low, high = difference_interval(ours, theirs, num_resamples=40_000)
        gain, variance = gain - theirs.mean(), variance + theirs.var() / len(theirs)
    width = scipy.stats.norm.ppf(0.975) * np.sqrt(variance)
    assert (high - low) / 2 == pytest.approx(width, rel=0.02)
    assert (high + low) / 2 == pytest.approx(gain, abs=0.03 * width)


def test_bootstrap_interval_covers_the_mean_95_times_in_100():
    rng = np.random.default_rng(4)
    intervals = [bootstrap_interval(rng.normal(size=50), seed=i) for i in range(400)]
    covered = np.mean([low <= 0.0 <= high for low, high in intervals])
    assert 0.91 <= covered <= 0.97  # the percentile bootstrap is a little narrow


def test_bootstrap_interval_is_repeatable_and_has_no_width_for_equal_samples():
    samples = np.random.default_rng(5).normal(size=20)
    assert bootstrap_interval(samples) == bootstrap_interval(samples)
    assert bootstrap_interval(samples) != bootstrap_interval(samples, seed=1)
    assert bootstrap_interval(np.full(7, 2.5, np.float32)) == (2.5, 2.5)
    assert bootstrap_interval(np.array([3.0])) == (3.0, 3.0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0], 5.0),
        ([1.0, 2.0, 3.0, 100.0], 2.5),
        # Five values: three quarters of the second and the fourth, and all of the third.
        ([1.0, 2.0, 3.0, 4.0, 1e9], (0.75 * 2 + 3 + 0.75 * 4) / 2.5),
        (list(range(8)), 3.5),
    ],
)
def test_the_interquartile_mean_counts_the_middle_half(values, expected):
    assert interquartile_mean(np.array(values)) == pytest.approx(expected)
    assert interquartile_mean(np.array(values[::-1])) == pytest.approx(expected)


@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_the_interval_holds_the_true_mean_as_often_as_it_says(draw):
    """In 93 to 97% of 1,000 cases of 256 episodes, of which some 0.7% are chance."""
    rng = np.random.default_rng(3)
    sample = getattr(rng, draw)
    mean = {"normal": 0.0, "exponential": 1.0}[draw]
    held = 0
    for _ in range(1_000):
        low, high = bootstrap_interval(sample(size=256), num_resamples=500)
        held += low <= mean <= high
    assert 930 <= held <= 970


def test_the_interval_of_a_difference_is_that_of_normal_theory_for_many_samples():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(1.0, 2.0, size=2_000), rng.normal(0.0, 1.0, size=1_000)
    low, high = difference_interval(ours, theirs)
    deviation = np.sqrt(ours.var() / 2_000 + theirs.var() / 1_000)
    gain = ours.mean() - theirs.mean()
    assert low == pytest.approx(gain - 1.96 * deviation, abs=0.01)
    assert high == pytest.approx(gain + 1.96 * deviation, abs=0.01)


@pytest.mark.parametrize(
    ("num", "num_resamples"),
    [(37, 100), (MAX_DRAWS // 3, 7), (MAX_DRAWS // 2 + 1, 3)],
    ids=["at once", "three at a time", "one at a time"],
)
def test_the_draws_of_a_bootstrap_are_the_same_in_any_number_of_parts(num, num_resamples):
    samples = np.random.default_rng(1).normal(size=num)
    drawn = np.random.default_rng(5).integers(num, size=(num_resamples, num))
    wanted = np.quantile(samples[drawn].mean(axis=1), [0.025, 0.975])
    found = bootstrap_interval(samples, num_resamples=num_resamples, seed=5)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_return_that_is_not_finite_has_no_interval_and_is_not_the_best(bad):
    assert np.isnan(bootstrap_interval(np.array([1.0, bad]))).all()
    assert best_of([bad, 1.0, None, 3.0, 3.0]) == 3
    assert best_of([bad, None]) is None


def always(action):
    """A policy of rows that always acts alike."""

    def act(learner, carry, obs, episode_start, key, *, greedy=False):
        del learner, obs, key, greedy
        return jnp.full(episode_start.shape, action), carry

    return Policy(lambda num_rows: (), act)


def test_the_return_of_a_team_is_the_mean_over_its_agents():
    found = evaluate(team(), always(1), LEARNER, KEY(), num_episodes=4)
    # Agent 0 is paid for action 0, agent 1 in all 5 steps, agent 2 for action 0 while it lives.
    np.testing.assert_array_equal(found.agent_returns, np.tile([0.0, 5.0, 0.0], (4, 1)))
    np.testing.assert_allclose(found.returns, 5 / 3)
    assert (found.lengths == 5).all()


def test_agents_that_compete_are_evaluated_at_each_seat_against_random_players():
    game = last_move_wins()  # agent 0 moves last
    found = evaluate(game, always(1), LEARNER, KEY(), num_episodes=6)
    np.testing.assert_array_equal(found.agent_returns, np.tile([1.0, -1.0], (6, 1)))
    np.testing.assert_array_equal(found.returns, [1, -1, 1, -1, 1, -1])


def test_opponents_in_an_evaluation_are_random():
    def step(key, env_state, action, params):
        obs, env_state, _, *rest = last_move_wins().step(key, env_state, action, params)
        return obs, env_state, action.astype(jnp.float32), *rest

    game = last_move_wins()._replace(step=step, action_mask=None)
    found = evaluate(game, always(1), LEARNER, KEY(), num_episodes=200)
    own = np.arange(200) % 2
    np.testing.assert_array_equal(found.agent_returns[np.arange(200), own], 3.0)
    others = found.agent_returns[np.arange(200), 1 - own]
    assert 1.3 < others.mean() < 1.7
    assert set(others.tolist()) == {0.0, 1.0, 2.0, 3.0}
