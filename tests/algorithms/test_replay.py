"""The replay buffer: what is drawn from it, against the whole history in NumPy."""

from functools import lru_cache, partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

import jaxdrl
import probe_environments as probes
from jaxdrl import DQNConfig, with_settings
from jaxdrl.algorithms import replay
from jaxdrl.core.types import Transition
from jaxdrl.distributed.layout import (
    ALONG_ENVS,
    ALONG_ENVS_IN_TIME,
    make_layout,
    shard,
)
from jaxdrl.runs.metrics_log import sha256

NUM_ENVS, CAPACITY, NUM_STEPS, LIMIT, SHARDS = 4, 12, 3, 5, 2


def transition(**arrays):
    """Steps of which a buffer looks at these arrays alone."""
    return Transition(**{**dict.fromkeys(Transition.__dataclass_fields__, ()), **arrays})


class History:
    """Everything that happened; an observation is `[time, environment]`, a final one half past."""

    def __init__(self, num_rollouts, *, limit=LIMIT, p_truncated=0.0, p_terminated=0.15):
        rng = np.random.default_rng(0)
        shape = (num_rollouts * NUM_STEPS, NUM_ENVS)
        self.reward = rng.normal(size=shape).astype(np.float32)
        self.terminated, self.truncated = np.zeros(shape, bool), np.zeros(shape, bool)
        for env in range(NUM_ENVS):
            length = 0
            for time in range(shape[0]):
                length += 1
                self.terminated[time, env] = rng.random() < p_terminated
                cut = length == limit or rng.random() < p_truncated
                self.truncated[time, env] = cut and not self.terminated[time, env]
                if self.terminated[time, env] or self.truncated[time, env]:
                    length = 0
        time, env = np.indices(shape, np.float32)
        self.obs = np.stack([time, env], axis=-1)
        self.final_obs = self.obs + np.array([0.5, 0.0], np.float32)
        self.action = (7 * time + env).astype(np.int32)

    def rollout(self, number):
        names = ("obs", "action", "reward", "terminated", "truncated", "final_obs")
        rows = slice(number * NUM_STEPS, (number + 1) * NUM_STEPS)
        return transition(**{name: jnp.asarray(getattr(self, name)[rows]) for name in names})

    def window(self, time, env, n):
        """`(rewards [n], steps, terminated, next_obs, time of the last step)`."""
        rewards, last = np.zeros(n, np.float32), time
        for step in range(n):
            last = time + step
            rewards[step] = self.reward[last, env]
            if self.terminated[last, env] or self.truncated[last, env]:
                break
        following = last + (0.5 if self.truncated[last, env] else 1.0)
        return rewards, step + 1, self.terminated[last, env], (following, env), last


def empty(max_episode_steps, num_envs=NUM_ENVS, capacity=CAPACITY):
    env = SimpleNamespace(max_episode_steps=max_episode_steps)
    obs = jax.ShapeDtypeStruct((num_envs, 2), jnp.float32)
    action = jax.ShapeDtypeStruct((num_envs,), jnp.int32)
    return replay.init(env, obs, action, jax.random.split(jax.random.key(1), num_envs), capacity)


insert = jax.jit(replay.insert)


@lru_cache
def draw(n, num=100, batch_size=40):
    layout = make_layout(SHARDS, False, None)
    return jax.jit(partial(replay.sample, layout, num=num, batch_size=batch_size, n=n))


def check_windows(history, kept, num_rollouts, n):
    """Every window that there is, and no other, is drawn, and is what happened; the buffer then."""
    kept, batch = draw(n)(kept)
    batch = jax.device_get(batch)
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
    starts = set()
    for i, (time, env) in enumerate(rows.obs.astype(int)):
        rewards, steps, terminated, next_obs, _ = history.window(time, env, n)
        np.testing.assert_array_equal(rows.reward[i], rewards)
        assert (rows.num_steps[i], rows.terminated[i]) == (steps, terminated)
        assert rows.action[i] == history.action[time, env]
        assert terminated or tuple(rows.next_obs[i]) == next_obs
        assert rows.weight[i] == 1.0
        starts.add((time, env))
    newest = num_rollouts * NUM_STEPS
    oldest = max(newest - CAPACITY, 0)
    assert starts == {(t, env) for t in range(oldest, newest - n) for env in range(NUM_ENVS)}
    return kept


@pytest.mark.parametrize("n", [1, 3, 4])
@pytest.mark.parametrize("limit", [LIMIT, None])
def test_windows_are_what_happened_whatever_the_ring_has_overwritten(limit, n):
    """From the first rollout that has a window until the ring has gone round twice."""
    history, kept = History(9), empty(limit)
    for number in range(9):
        kept = insert(kept, history.rollout(number))
        if (number + 1) * NUM_STEPS > n:
            kept = check_windows(history, kept, number + 1, n)


def test_without_episodes_that_end_every_window_has_its_full_length():
    history, kept = History(5, limit=None, p_terminated=0.0), empty(None)
    for number in range(5):
        kept = insert(kept, history.rollout(number))
    check_windows(history, kept, 5, 4)


def test_a_final_observation_that_is_no_longer_there_has_no_weight():
    """Episodes that are truncated every other step, where the limit says five: 3 places for 6."""
    history, kept = History(9, limit=2, p_truncated=0.5, p_terminated=0.0), empty(LIMIT)
    assert kept.final_row.shape == (NUM_ENVS, 3)
    for number in range(9):
        kept = insert(kept, history.rollout(number))
    rows = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:]),
        jax.device_get(draw(2)(kept)[1]),
    )
    weights = set()
    for i, (time, env) in enumerate(rows.obs.astype(int)):
        _, _, _, next_obs, last = history.window(time, env, 2)
        is_lost = history.truncated[last, env] and history.truncated[last + 1 :, env].sum() >= 3
        assert rows.weight[i] == 1.0 - is_lost
        assert is_lost or tuple(rows.next_obs[i]) == next_obs
        weights.add(float(rows.weight[i]))
    assert weights == {0.0, 1.0}


def test_the_return_of_a_window_is_discounted_by_its_steps():
    rng, gamma, n = np.random.default_rng(1), 0.9, 3
    num_steps = rng.integers(1, n + 1, 20)
    reward = rng.normal(size=(20, n)) * (np.arange(n) < num_steps[:, None])
    terminated = rng.random(20) < 0.3
    batch = SimpleNamespace(
        reward=jnp.asarray(reward, jnp.float32),
        num_steps=jnp.asarray(num_steps, jnp.int32),
        terminated=jnp.asarray(terminated),
        weight=jnp.ones(20),
    )
    total, discount = replay.n_step_return(batch, gamma)
    np.testing.assert_allclose(total, (reward * gamma ** np.arange(n)).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(discount, np.where(terminated, 0.0, gamma**num_steps), rtol=1e-6)


def test_every_window_of_a_shard_is_as_likely_as_any_other():
    history, kept = History(6), empty(LIMIT)
    for number in range(6):
        kept = insert(kept, history.rollout(number))
    _, batch = draw(2, num=400)(kept)
    by_shard = np.asarray(batch.obs).reshape(400, SHARDS, -1, 2).astype(int)
    for number in range(SHARDS):
        time, env = np.moveaxis(by_shard[:, number], -1, 0)
        assert set(env.ravel()) == {2 * number, 2 * number + 1}
        _, counts = np.unique(100 * env + time, return_counts=True)
        assert counts.shape == (2 * (CAPACITY - 2),)
        assert 0.001 < chisquare(counts).pvalue < 0.999
    assert np.unique(batch.seed).size > 0.99 * batch.seed.size


@lru_cache
def digest_of_samples(num_devices, reproducible):
    """Of what is drawn after a rollout that wraps around the end of the ring."""
    mesh = None if num_devices is None else jaxdrl.make_mesh(num_devices)
    layout = make_layout(8, reproducible, mesh)
    num_envs = 16
    rng = np.random.default_rng(2)
    steps = {
        "obs": rng.normal(size=(NUM_STEPS, num_envs, 2)).astype(np.float32),
        "action": rng.integers(0, 3, (NUM_STEPS, num_envs)).astype(np.int32),
        "reward": rng.normal(size=(NUM_STEPS, num_envs)).astype(np.float32),
        "terminated": rng.random((NUM_STEPS, num_envs)) < 0.2,
        "truncated": rng.random((NUM_STEPS, num_envs)) < 0.0,
    }
    steps = transition(**steps, final_obs=steps["obs"] + 0.5)

    def insert_and_sample(kept, steps):
        for _ in range(5):
            kept = replay.insert(kept, steps)
        return replay.sample(layout, kept, num=3, batch_size=16, n=2)

    specs = (ALONG_ENVS, ALONG_ENVS_IN_TIME)
    on_devices = shard(layout, insert_and_sample, specs, specs, check_vma=False)
    return sha256(jax.jit(on_devices)(empty(None, num_envs), steps))


@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
@pytest.mark.parametrize("reproducible", [False, True])
def test_the_same_samples_are_drawn_on_any_number_of_devices(num_devices, reproducible):
    assert digest_of_samples(num_devices, reproducible) == digest_of_samples(None, False)


def replay_of(env, **changes):
    config = with_settings(
        DQNConfig(), num_envs=16, num_steps=4, learning_starts=64, hidden_sizes=(4,), **changes
    )
    agent = jaxdrl.dqn(env, config)
    return agent, jax.eval_shape(agent.init, jax.eval_shape(lambda: jax.random.key(0)))


@pytest.mark.parametrize("name", ["CartPole-v1", "Breakout-MinAtar", "Catch-bsuite"])
def test_the_buffer_is_hardly_larger_than_what_is_kept(name):
    _, state = replay_of(jaxdrl.make(name), buffer_size=160_000)
    kept = state.actor.replay
    num_bytes = partial(jax.tree.reduce, lambda total, x: total + x.size * x.dtype.itemsize)
    flags = 2 * kept.reward.size
    needed = num_bytes((kept.obs, kept.action, kept.reward), flags)
    assert num_bytes(kept, 0) <= 1.1 * needed


@pytest.mark.parametrize("make", [probes.image, probes.dictionary])
def test_observations_are_kept_in_their_own_dtype(make):
    env = make()
    dtypes = jax.tree.map(lambda x: x.dtype, env.reset(jax.random.key(0), env.default_params)[0])

    def insert_and_sample(keys):
        both = jax.vmap(jax.random.split)(keys)
        reset_keys, own_keys = both[:, 0], both[:, 1]
        obs, _ = jax.vmap(env.reset, in_axes=(0, None))(reset_keys, env.default_params)
        action = jnp.zeros((SHARDS, *env.action_space.shape), jnp.int32)
        kept = replay.init(env, obs, action, own_keys, 4)
        obs, action = jax.tree.map(lambda x: jnp.stack([x, x]), (obs, action))
        flags = jnp.zeros((2, SHARDS), jnp.bool)
        rest = {"reward": jnp.zeros((2, SHARDS)), "terminated": flags, "truncated": flags}
        kept = replay.insert(kept, transition(obs=obs, action=action, final_obs=obs, **rest))
        return draw(1)(kept)

    kept, batch = jax.eval_shape(insert_and_sample, jax.random.split(jax.random.key(0), SHARDS))
    for obs in (kept.obs, kept.final_obs, batch.obs, batch.next_obs):
        assert jax.tree.map(lambda x: x.dtype, obs) == dtypes
