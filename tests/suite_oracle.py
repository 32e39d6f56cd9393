"""What every suite has to hold, checked against the suite's own reset and step."""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxdrl
from jaxdrl import PPOConfig, checkpoint, rollout, spaces
from jaxdrl.envs import vector
from jaxdrl.envs.protocol import strong_types
from jaxdrl.metrics import sha256
from jaxdrl.promotion import default_promotion
from jaxdrl.sharding import place

# Half the time to compile.
QUICK = {"xla_backend_optimization_level": 0}


class Theirs(NamedTuple):
    """A task as its suite has it, without wrappers, its observations as ours has them.

    Attributes:
      reset: `(typed key) -> (obs, state)`.
      step: `(typed key, state, action) -> (obs, state, reward, done)`, `done` without any limit.
    """

    reset: Any
    step: Any


def some_actions(env, obs, keys):
    """Random actions `[N, ...]`, of the allowed ones."""
    if env.action_mask is None:
        return jax.vmap(env.action_space.sample)(keys)
    logits = jnp.where(jax.vmap(env.action_mask)(obs), 0.0, -jnp.inf)
    if isinstance(env.action_space, spaces.Discrete):
        return jax.vmap(jax.random.categorical)(keys, logits).astype(env.action_space.dtype)
    ends = np.cumsum(env.action_space.nvec)[:-1]
    parts = jnp.split(logits, ends, axis=-1)
    split = jax.vmap(partial(jax.random.split, num=len(parts)))(keys)
    draws = [jax.vmap(jax.random.categorical)(split[:, i], part) for i, part in enumerate(parts)]
    return jnp.stack(draws, axis=-1).astype(jnp.int32)


def value_of(carry, obs, episode_start):
    """A value that any change of an observation changes, float32 `[N]`."""
    del carry, episode_start
    total = 0.0
    for i, leaf in enumerate(jax.tree.leaves(obs)):
        rows = leaf.reshape(leaf.shape[0], -1).astype(jnp.float32)
        weights = np.random.default_rng(i).normal(size=rows.shape[1]) / np.sqrt(rows.shape[1])
        total = total + rows @ jnp.asarray(weights, jnp.float32)
    return jnp.tanh(total)


@lru_cache
def played(env):
    """Reset, step and random actions of several, keys as data; compiled once for all tests."""
    wrap = jax.random.wrap_key_data

    @partial(jax.jit, compiler_options=QUICK)
    def reset(keys):
        return vector.reset(env, wrap(keys))

    @partial(jax.jit, compiler_options=QUICK)
    def step(keys, env_state, action):
        mapped = jax.vmap(env.step, in_axes=(0, 0, 0, None))
        return strong_types(mapped(wrap(keys), env_state, action, env.default_params)[:5])

    @partial(jax.jit, compiler_options=QUICK)
    def act(keys, obs):
        return some_actions(env, obs, wrap(keys))

    return reset, step, act


@lru_cache
def compiled(theirs):
    """`theirs.reset` and `theirs.step` of several, keys as data; compiled once."""

    @partial(jax.jit, compiler_options=QUICK)
    def reset(keys):
        with default_promotion():
            return strong_types(jax.vmap(theirs.reset)(jax.random.wrap_key_data(keys)))

    @partial(jax.jit, compiler_options=QUICK)
    def step(keys, state, action):
        with default_promotion():
            keys = jax.random.wrap_key_data(keys)
            return strong_types(jax.vmap(theirs.step)(keys, state, action))

    return reset, step


def key_data(seed, *shape):
    """Data of keys that nobody else has, uint32 `[*shape, 2]`."""
    return np.random.default_rng(seed).integers(2**32, size=(*shape, 2), dtype=np.uint32)


def rows_of(mask, tree):
    """Those rows of every array, as NumPy arrays."""
    return jax.tree.map(lambda x: np.asarray(x)[mask], tree)


def check_agreement(env, theirs, limit, **tolerance):
    """Whole episodes of `env` are those of `theirs`, step by step, with the limit by hand.

    Args:
      env: under a time limit of `limit` steps.
      theirs: the same task in its suite.
      limit: steps.
      **tolerance: of `np.testing.assert_allclose`.

    Returns:
      How many of the 5 episodes terminated.
    """
    close = partial(np.testing.assert_allclose, **tolerance)
    reset, step, act = played(env)
    their_reset, their_step = compiled(theirs)
    (obs, env_state), (their_obs, their_state) = (f(key_data(0, 5)) for f in (reset, their_reset))
    jax.tree.map(close, obs, their_obs)
    running = np.ones(5, bool)
    for t in range(limit):
        action = act(key_data(2 * t + 1, 5), obs)
        keys = key_data(2 * t + 2, 5)
        obs, env_state, reward, terminated, truncated = step(keys, env_state, action)
        their_obs, their_state, their_reward, done = their_step(keys, their_state, action)
        ours = rows_of(running, (obs, reward))
        assert ours[1].dtype == np.float32 and np.isfinite(ours[1]).all()
        jax.tree.map(close, ours, rows_of(running, (their_obs, their_reward)))
        done = np.asarray(done, bool)
        np.testing.assert_array_equal(terminated[running], done[running])
        np.testing.assert_array_equal(truncated[running], ~done[running] & (t == limit - 1))
        running &= ~done
    return int((~running).sum())


def check_bootstrap(env, theirs, limit):
    """Where the limit cuts an episode, a rollout bootstraps from the true successor.

    The oracle is the successor in their API, which knows no limit.
    """
    num_steps = limit + 2  # the following episode, too

    def decide(carry, obs, episode_start, keys):
        action, value = some_actions(env, obs, keys), value_of(carry, obs, episode_start)
        return rollout.Decision(action, action, jnp.zeros_like(value), value, carry)

    @partial(jax.jit, compiler_options=QUICK)
    def ours(keys):
        actor = rollout.init_actor(env, lambda num_envs: (), jax.random.wrap_key_data(keys))
        options = {"num_steps": num_steps, "gamma": jnp.float32(0.9)}
        return rollout.collect(env, decide, value_of, actor, **options)[1]

    @partial(jax.jit, compiler_options=QUICK)
    def keys_of_rollout(keys):
        """Of the first reset `[N, 2]`, and of each step `[T, N, 4, 2]`."""
        both = jax.vmap(jax.random.split)(jax.random.wrap_key_data(keys))

        def following(key, _):
            four = jax.vmap(lambda key: jax.random.split(key, 4))(key)
            return four[:, 0], jax.random.key_data(four)

        used = jax.lax.scan(following, both[:, 1], length=num_steps)[1]
        return jax.random.key_data(both[:, 0]), used

    keys = key_data(0, 5)
    trajectory = jax.device_get(ours(keys))
    reset, step = compiled(theirs)
    value = jax.jit(lambda obs: value_of((), obs, None), compiler_options=QUICK)
    start, used = jax.device_get(keys_of_rollout(keys))
    _, state = reset(start)
    alive = np.ones(5, bool)
    for t in range(limit):
        obs, state, _, done = step(used[t, :, 2], state, trajectory.action[t])
        expected = np.where(done, np.nan, value(obs))
        alive &= ~np.asarray(done, bool)
        is_last = t == limit - 1
        np.testing.assert_array_equal(trajectory.truncated[t, alive], is_last)
        found = trajectory.next_value[t, alive]
        np.testing.assert_allclose(found, expected[alive], rtol=1e-4, atol=1e-5)
    assert alive.any() and not trajectory.terminated[:limit, alive].any()
    # The value of the next episode's start, which peers take, is another.
    assert (np.abs(trajectory.value[limit] - expected)[alive] > 1e-4).any()


def check_same_bits(env, directory, **settings):
    """Two updates at one go on 8 devices have the bits of two on 1 with a checkpoint between.

    For files with `FULLY_OPTIMIZED = True`: these bits are promised for no other programs.
    """
    small = {"num_envs": 8, "num_steps": 4, "num_epochs": 1, "num_minibatches": 1}
    config = PPOConfig(**small, hidden_sizes=(8,), reproducible=True, **settings)
    many, one = (jaxdrl.ppo(env, config, mesh=jaxdrl.make_mesh(n)) for n in (8, 1))
    start = jax.jit(jaxdrl.ppo(env, config).init)(jax.random.key(0))
    arrays, described = checkpoint.to_host(start), checkpoint.describe(start)

    def from_disk(update, arrays, mesh):
        path = checkpoint.write(directory, update, arrays, described, {})
        return place(checkpoint.load(path, start, "the test"), mesh)

    straight = jaxdrl.train(many, from_disk(0, arrays, jaxdrl.make_mesh(8)), num_updates=2)
    step = jaxdrl.compile(one)
    halfway, _ = step(from_disk(0, arrays, jaxdrl.make_mesh(1)))
    resumed, _ = step(from_disk(1, checkpoint.to_host(halfway), jaxdrl.make_mesh(1)))
    assert sha256(resumed) == sha256(straight) != sha256(start)
    assert not jax.tree.reduce(
        lambda found, x: found | bool(np.isnan(x).any()), resumed.learner.params, False
    )
