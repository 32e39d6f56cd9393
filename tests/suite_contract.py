"""What every suite of environments is held to, each against its own reset and step."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.algorithms import rollout
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.envs import vector
from jaxdrl.envs.agents import by_env, sample_actions, to_rows
from jaxdrl.envs.protocol import random_action, strong_types

NUM_EPISODES = 5
# Half the time to compile.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Theirs(NamedTuple):
    """A task as its suite has it, without a limit, its observations as ours has them.

    With agents, observations, actions and rewards are `[A, ...]`, as in the protocol. Traced under
    JAX's default rules of promotion. What makes it is cached, so that it is compiled once for all
    tests of a task.

    Attributes:
      reset: `(typed key) -> (obs, state)`.
      step: `(typed key, state, action) -> (obs, state, reward, done)`.
    """

    reset: Callable
    step: Callable


class Compiled(NamedTuple):
    """Functions of several environments at once; keys as data, which may be used again.

    Attributes:
      reset: `(keys) -> (obs, state)`.
      step: `(keys, state, action) -> ` what the step of one environment gives, without info.
    """

    reset: Callable
    step: Callable


@lru_cache
def ours(env):
    """`env.reset` and `env.step`, `Compiled`."""

    def reset(keys):
        obs, env_state = vector.reset(env, jax.random.wrap_key_data(keys))
        return by_env(env.num_agents, obs), env_state

    def step(keys, env_state, action):
        mapped = jax.vmap(env.step, in_axes=(0, 0, 0, None))
        keys = jax.random.wrap_key_data(keys)
        return strong_types(mapped(keys, env_state, action, env.default_params)[:5])

    return Compiled(jit(reset), jit(step))


@lru_cache
def compiled(theirs):
    """`theirs.reset` and `theirs.step`, `Compiled`."""

    def reset(keys):
        with default_promotion():
            return strong_types(jax.vmap(theirs.reset)(jax.random.wrap_key_data(keys)))

    def step(keys, state, action):
        with default_promotion():
            keys = jax.random.wrap_key_data(keys)
            return strong_types(jax.vmap(theirs.step)(keys, state, action))

    return Compiled(jit(reset), jit(step))


def key_data(seed, num):
    """Data of keys that nobody else has, uint32 `[num, 2]`."""
    return np.random.default_rng(seed).integers(2**32, size=(num, 2), dtype=np.uint32)


def check_agreement(env, theirs, limit, *, all_allowed=False):
    """Five episodes of `env` are those of `theirs`, step by step, with the limit by hand.

    Every other one plays actions that are not allowed, too.

    Args:
      env: under a time limit of `limit` steps.
      theirs: the same task in its suite.
      limit: steps.
      all_allowed: whether none of them plays an action that is not allowed.

    Returns:
      How many of the episodes terminated.
    """
    same = partial(jax.tree.map, np.testing.assert_array_equal)
    act = jit(partial(random_actions, env, all_allowed=all_allowed))
    (reset, step), (their_reset, their_step) = ours(env), compiled(theirs)
    keys = key_data(0, NUM_EPISODES)
    (obs, env_state), (their_obs, their_state) = reset(keys), their_reset(keys)
    same(obs, their_obs)
    running = np.ones(NUM_EPISODES, bool)
    for t in range(limit):
        action = act(key_data(2 * t + 1, NUM_EPISODES), obs)
        keys = key_data(2 * t + 2, NUM_EPISODES)
        obs, env_state, reward, terminated, truncated = step(keys, env_state, action)
        their_obs, their_state, their_reward, done = their_step(keys, their_state, action)
        found = rows_of(running, (obs, reward))
        assert found[1].dtype == np.float32 and np.isfinite(found[1]).all()
        same(found, rows_of(running, (their_obs, their_reward)))
        done = np.asarray(done, bool)
        np.testing.assert_array_equal(terminated[running], done[running])
        np.testing.assert_array_equal(truncated[running], ~done[running] & (t == limit - 1))
        running &= ~done
    return int((~running).sum())


def random_actions(env, keys, obs, *, all_allowed=False):
    """Actions `[N, ...]`, allowed ones, or in every other environment any."""
    keys = jax.vmap(jax.random.split)(jax.random.wrap_key_data(keys))
    allowed = jax.vmap(partial(allowed_actions, env))(keys[:, 0], obs)
    if all_allowed:
        return allowed
    of_all = jax.vmap(partial(sample_actions, env))(keys[:, 1])
    is_free = jnp.arange(len(keys)).reshape(-1, *[1] * (of_all.ndim - 1)) % 2 == 0
    return jnp.where(is_free, of_all, allowed)


def allowed_actions(env, key, obs):
    """Random ones in one environment, `[A, ...]` of several agents."""
    if env.num_agents is None:
        return random_action(env, key, obs)[0]
    keys = jax.random.split(key, env.num_agents)
    return jax.vmap(partial(random_action, env))(keys, obs)[0]


def rows_of(mask, tree):
    """Those rows of every array, as NumPy arrays."""
    return jax.tree.map(lambda x: np.asarray(x)[mask], tree)


def check_bootstrap(env, theirs, limit):
    """Where the limit cuts an episode, a rollout bootstraps from the true successor.

    The oracle is the successor in their API, which knows no limit.

    Args:
      env: under a time limit of `limit` steps.
      theirs: the same task in its suite.
      limit: so few steps that hardly an episode ends before.
    """
    num_steps = limit + 2  # the following episode, too
    keys = key_data(0, NUM_EPISODES)
    trajectory, start, used = jax.device_get(jit(partial(collect, env, num_steps))(keys))
    reset, step = compiled(theirs)
    value = jit(lambda obs: by_env(env.num_agents, value_of(to_rows(env.num_agents, obs))))
    _, state = reset(start)
    alive = np.ones(NUM_EPISODES, bool)
    for t in range(limit):
        obs, state, _, done = step(used[t], state, trajectory.action[t])
        alive &= ~np.asarray(done, bool)
        expected = np.asarray(value(obs))[alive]
        np.testing.assert_array_equal(trajectory.truncated[t, alive], t == limit - 1)
        found = trajectory.next_value[t, alive]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert alive.any() and not trajectory.terminated[:limit, alive].any()
    # The value of the next episode's start, which peers take, is another.
    assert (np.abs(trajectory.value[limit, alive] - expected) > 1e-4).any()


def collect(env, num_steps, keys):
    """A rollout, and the keys of its start `[N, 2]` and of its steps `[T, N, 2]`."""

    def decide(carry, obs, episode_start, keys):
        action, _ = jax.vmap(partial(random_action, env))(keys, obs)
        value = value_of(obs)
        return rollout.Decision(action, action, jnp.zeros_like(value), value, carry)

    def following(key, _):
        four = jax.vmap(lambda key: jax.random.split(key, 4))(key)
        return four[:, 0], jax.random.key_data(four[:, 2])

    actor = rollout.init_actor(env, lambda num_envs: (), jax.random.wrap_key_data(keys))
    critic = lambda carry, obs, start: value_of(obs)  # noqa: E731
    options = {"num_steps": num_steps, "gamma": jnp.float32(0.9)}
    trajectory = rollout.collect(env, decide, critic, actor, **options)[1]
    both = jax.vmap(jax.random.split)(jax.random.wrap_key_data(keys))
    used = jax.lax.scan(following, both[:, 1], length=num_steps)[1]
    trajectory = jax.vmap(partial(by_env, env.num_agents))(replace(trajectory, carry=()))
    return trajectory, jax.random.key_data(both[:, 0]), used


def value_of(obs):
    """A value that any change of an observation `[N, ...]` changes, float32 `[N]`."""
    total = jnp.float32(0.1)
    for i, leaf in enumerate(jax.tree.leaves(obs)):
        rows = leaf.reshape(leaf.shape[0], -1).astype(jnp.float32)
        weights = np.random.default_rng(i).normal(size=rows.shape[1]) / np.sqrt(rows.shape[1])
        total = total + rows @ jnp.asarray(weights, jnp.float32)
    return jnp.tanh(total)
