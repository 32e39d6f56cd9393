"""What every suite of environments is held to, each against its own API."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl import rollout, spaces

NUM_EPISODES = 5
# Half the time to compile.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def check_agrees(env, raw_reset, raw_step, *, num_steps, seed=0, actions=None):
    """The first episode of each of five keys is that of the suite's own API, step by step.

    Args:
      env: without a limit of ours, or with one that is not reached.
      raw_reset: `(key) -> (obs, state)` in the suite's own API, `obs` as ours should be.
      raw_step: `(state, action) -> (obs, state, reward, has_ended)`, likewise.
      num_steps: after which an episode that goes on is looked at no longer.
      seed: of keys and actions.
      actions: `[5, num_steps, ...]`; None: random ones, allowed or not.

    Returns:
      How many of the episodes ended.
    """
    reset_keys = jax.random.key_data(jax.random.split(jax.random.key(seed), NUM_EPISODES))
    if actions is None:
        keys = jax.random.split(jax.random.key(seed + 1), (NUM_EPISODES, num_steps))
        actions = jax.vmap(jax.vmap(env.action_space.sample))(keys)

    def ours(state, action):
        obs, state, *ends = env.step(jax.random.key(0), state, action, env.default_params)[:5]
        return state, (obs, *ends)

    def theirs(state, action):
        obs, state, reward, has_ended = raw_step(state, action)
        return state, (obs, reward, has_ended)

    def episode(reset, step, key_data, actions):
        obs, state = reset(jax.random.wrap_key_data(key_data))
        return obs, jax.lax.scan(step, state, actions)[1]

    our_reset = partial(env.reset, params=env.default_params)
    first, (obs, reward, terminated, truncated) = run(episode, our_reset, ours, reset_keys, actions)
    raw_first, (raw_obs, raw_reward, raw_ended) = run(
        episode, raw_reset, theirs, reset_keys, actions
    )
    jax.tree.map(np.testing.assert_array_equal, first, raw_first)
    for i in range(NUM_EPISODES):
        ends = np.flatnonzero(raw_ended[i])
        length = ends[0] + 1 if ends.size else num_steps
        part = partial(jax.tree.map, lambda x, i=i, n=length: x[i, :n])
        jax.tree.map(np.testing.assert_array_equal, part(obs), part(raw_obs))
        np.testing.assert_array_equal(part(reward), part(raw_reward))
        np.testing.assert_array_equal(part(terminated), part(raw_ended))
        assert not part(truncated).any()
    return int(raw_ended.any(axis=1).sum())


def run(episode, reset, step, key_data, actions):
    mapped = jax.vmap(partial(episode, reset, step))
    return jax.device_get(jit(mapped)(key_data, actions))


def check_short_limit(make, limit, *, num_envs=8, seed=0):
    """A limit cuts an episode and changes nothing else, and its value goes on beyond the cut.

    Rollouts of the limited environment against the same actions in the unlimited one: at the limit
    the observation is that of the unlimited one, which does not end there, and `next_value` is the
    value of it.

    Args:
      make: `(max_episode_steps=...) -> Environment`; None: without a limit.
      limit: so few steps that hardly an episode ends before.
      num_envs: episodes that are played.
      seed: of keys and actions.
    """
    limited, unlimited = make(max_episode_steps=limit), make(max_episode_steps=None)
    assert (limited.max_episode_steps, unlimited.max_episode_steps) == (limit, None)
    keys = jax.random.split(jax.random.key(seed), num_envs)
    trajectory = jax.device_get(jit(partial(collect, limited, limit))(keys))
    key_data = jax.random.key_data(jax.random.split(jax.random.key(seed), num_envs))
    mapped = jax.vmap(partial(replay, limited, unlimited), in_axes=(0, 1))
    cut, free, successor_value = jax.device_get(jit(mapped)(key_data, trajectory.action))

    (obs, reward, terminated, truncated), (free_obs, free_reward, ended, free_truncated) = cut, free
    alive = ~ended.any(axis=1)
    assert alive.sum() > num_envs / 2, "take a smaller limit"
    assert not free_truncated[alive].any()
    assert truncated[alive, -1].all() and not truncated[alive, :-1].any()
    assert not terminated[alive].any()
    only_alive = partial(jax.tree.map, lambda x: x[alive])
    jax.tree.map(np.testing.assert_array_equal, only_alive(obs), only_alive(free_obs))
    np.testing.assert_array_equal(reward[alive], free_reward[alive])
    np.testing.assert_array_equal(trajectory.truncated[-1, alive], True)
    np.testing.assert_array_equal(trajectory.terminated[:, alive], False)
    bootstrapped = trajectory.next_value[-1, alive]
    np.testing.assert_allclose(bootstrapped, successor_value[alive], rtol=1e-5)
    assert np.abs(bootstrapped).min() > 0  # a value that is forgotten is 0


def collect(env, num_steps, keys):
    """A rollout of random allowed actions, whose values are those of `value_of`."""

    def decide(carry, obs, episode_start, keys):
        del episode_start
        action = jax.vmap(partial(random_action, env))(keys, obs)
        return rollout.Decision(action, action, jnp.zeros(keys.shape), value_of(obs), carry)

    actor = rollout.init_actor(env, lambda num_envs: (), keys)
    values = lambda carry, obs, start: value_of(obs)  # noqa: E731
    return rollout.collect(env, decide, values, actor, num_steps=num_steps, gamma=0.9)[1]


def replay(limited, unlimited, key_data, actions):
    """One environment of `collect` again, with the limit and without, by the same keys."""
    reset_key, key = jax.random.split(jax.random.wrap_key_data(key_data))
    reset_data = jax.random.key_data(reset_key)
    _, cut = limited.reset(jax.random.wrap_key_data(reset_data), limited.default_params)
    _, free = unlimited.reset(jax.random.wrap_key_data(reset_data), unlimited.default_params)

    def one(carry, action):
        key, cut, free = carry
        key, _, step_key, _ = jax.random.split(key, 4)
        data = jax.random.key_data(step_key)
        wrap = jax.random.wrap_key_data
        obs, cut, *ends = limited.step(wrap(data), cut, action, limited.default_params)[:5]
        free_obs, free, *free_ends = unlimited.step(
            wrap(data), free, action, unlimited.default_params
        )[:5]
        return (key, cut, free), ((obs, *ends), (free_obs, *free_ends))

    _, (cut, free) = jax.lax.scan(one, (key, cut, free), actions)
    last = jax.tree.map(lambda x: x[-1:], free[0])
    return cut, free, value_of(last)[0]


def value_of(obs):
    """Some number for each observation `[N, ...]` that any change of it changes."""
    total = jnp.ones(())
    for leaf in jax.tree.leaves(obs):
        flat = leaf.reshape(leaf.shape[0], -1).astype(jnp.float32)
        weights = jnp.sin(1.0 + jnp.arange(flat.shape[1], dtype=jnp.float32))
        total = total + flat @ weights
    return total


def random_action(env, key, obs):
    """A uniform action among those that are allowed."""
    if env.action_mask is None:
        return env.action_space.sample(key)
    scores = jnp.where(env.action_mask(obs), 0.0, -jnp.inf)
    if isinstance(env.action_space, spaces.Discrete):
        return jax.random.categorical(key, scores)
    parts = jnp.split(scores, np.cumsum(env.action_space.nvec)[:-1])
    keys = jax.random.split(key, len(parts))
    return jnp.stack([jax.random.categorical(k, x) for k, x in zip(keys, parts, strict=True)])
