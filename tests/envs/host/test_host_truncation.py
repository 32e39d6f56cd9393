"""A limit on episodes of the host: steps are counted in each row by itself."""

import jax
import numpy as np
import pytest

import jaxdrl
from counting_host import LONGEST, counting, is_truncated, length_of, make_counting
from jaxdrl.envs.host.protocol import HostEnvironment, on_host
from jaxdrl.envs.type_checks import check_types

NUM = 40


@pytest.mark.parametrize("limit", [1, 5, LONGEST, 50])
def test_each_row_is_cut_after_its_own_steps_unless_it_ends_before(limit):
    env = jaxdrl.time_limit(counting(), limit)
    assert env.max_episode_steps == min(limit, LONGEST)
    batch = env.host.make(NUM)
    seeds = np.arange(NUM, dtype=np.uint32)
    batch.reset(np.ones(NUM, bool), seeds)
    steps = np.zeros(NUM, int)
    for _ in range(3 * LONGEST):
        obs, reward, terminated, truncated = batch.step(np.ones(NUM, int))
        steps += 1
        is_over = steps == length_of(seeds)
        np.testing.assert_array_equal(terminated, is_over & ~is_truncated(seeds))
        np.testing.assert_array_equal(truncated, ~terminated & (is_over | (steps == limit)))
        np.testing.assert_array_equal(obs[:, 1], steps)  # the true successor
        np.testing.assert_allclose(reward, steps + 0.1, rtol=1e-6)
        ended = terminated | truncated
        seeds, steps = seeds + 31 * ended.astype(np.uint32), steps * ~ended
        batch.reset(ended, seeds)


def test_the_shorter_of_nested_limits_holds():
    for limits in ((4, 2), (2, 4)):
        env = counting()
        for limit in limits:
            env = jaxdrl.time_limit(env, limit)
        assert env.max_episode_steps == 2
        batch = env.host.make(NUM)
        batch.reset(np.ones(NUM, bool), np.zeros(NUM, np.uint32))
        cuts = [batch.step(np.zeros(NUM, int))[3].all() for _ in range(2)]
        assert cuts == [False, True]


@pytest.mark.parametrize("replays", [True, False])
def test_episodes_can_be_replayed_as_before(replays):
    env = jaxdrl.time_limit(counting(replays=replays), 4)
    assert env.host.replays == replays
    check_types(env)
    assert env.reset(jax.random.key(0), ())[1].actions.shape == (4 if replays else 0,)


def test_with_a_limit_those_can_be_replayed_that_had_none():
    spaces = counting().observation_space, counting().action_space
    endless = on_host("test/Endless", HostEnvironment(make_counting, True), *spaces)
    assert endless.reset(jax.random.key(0), ())[1].actions.shape == (0,)
    limited = jaxdrl.time_limit(endless, 6)
    assert limited.reset(jax.random.key(0), ())[1].actions.shape == (6,)


def test_copies_that_are_drawn_are_cut_too_and_everything_else_is_kept():
    def with_picture(num_envs):
        return make_counting(num_envs)._replace(draw=lambda row: "a picture")

    env = counting()._replace(
        host=HostEnvironment(make_counting, True, with_picture), action_mask=lambda obs: obs > 0
    )
    limited = jaxdrl.time_limit(env, 2)
    assert (limited.name, limited.action_mask) == (env.name, env.action_mask)
    batch = limited.host.make_drawn(3)
    batch.reset(np.ones(3, bool), np.zeros(3, np.uint32))
    assert not batch.step(np.zeros(3, int))[3].any()
    assert batch.step(np.zeros(3, int))[3].all()
    assert batch.draw(0) == "a picture"
    assert jaxdrl.time_limit(counting(), 2).host.make_drawn is None


def test_steps_that_are_taken_again_count():
    def make(num_envs):
        batch = make_counting(num_envs)

        def seek(seeds, episodes, actions, num_actions):
            return batch.reset(np.ones(num_envs, bool), seeds)

        return batch._replace(seek=seek)

    seeds, nothing = np.full(3, 6, np.uint32), np.zeros((3, 5), int)
    batch = jaxdrl.time_limit(counting(make), 5).host.make(3)
    batch.seek(seeds, np.zeros(3, int), nothing, np.array([4, 3, 0]))
    assert batch.step(np.zeros(3, int))[3].tolist() == [True, False, False]
    batch.reset(np.array([True, False, False]), seeds)
    assert batch.step(np.zeros(3, int))[3].tolist() == [False, True, False]
    assert jaxdrl.time_limit(counting(), 5).host.make(3).seek is None
