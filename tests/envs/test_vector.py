"""Auto-reset against resetting every environment at every step, and work on a few of the rows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from jaxdrl.core.spaces import Box, Discrete
from jaxdrl.envs import vector
from jaxdrl.envs.protocol import Environment, strong_types
from probe_environments import counter, random_observation

FULLY_OPTIMIZED = True
NUM_STEPS = 120
NUM_ENVS = 20  # no multiple of the 8 that are reset at a time


def reset_all_and_select(env, step_keys, reset_keys, env_state, action):
    """What `vector.step` promises, done the plain way."""
    final_obs, stepped, reward, terminated, truncated, _ = jax.vmap(
        lambda *args: env.step(*args, env.default_params)
    )(step_keys, env_state, action)
    fresh_obs, fresh = jax.vmap(lambda key: env.reset(key, env.default_params))(reset_keys)
    ended = terminated | truncated

    def select(new, old):
        if is_key(old):  # the key-reuse checker wants it so
            data = select(jax.random.key_data(new), jax.random.key_data(old))
            return jax.random.wrap_key_data(data)
        return jnp.where(ended.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    fresh, old = strong_types(((fresh_obs, fresh), (final_obs, stepped)))
    obs, env_state = jax.tree.map(select, fresh, old)
    return obs, final_obs, env_state, reward, terminated, truncated


def library_step(env, *args):
    return tuple(vector.step(env, *args))


def is_key(x):
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def map_keys(function, tree):
    """`tree` with `function` of its typed keys, for the key-reuse checker's sake."""
    return jax.tree.map(lambda x: function(x) if is_key(x) else x, tree)


def play(step, env):
    """`(env_state, key_data, actions)` to what `step` gives at each step, compiled."""

    def one_step(env_state, inputs):
        step_keys, reset_keys, action = inputs
        stepped = step(env, step_keys, reset_keys, env_state, action)
        return strong_types(stepped[2]), map_keys(jax.random.key_data, stepped)

    @jax.jit
    def run(env_state, key_data, action):
        step_keys, reset_keys = jax.random.wrap_key_data(key_data)
        return jax.lax.scan(one_step, env_state, (step_keys, reset_keys, action))[1]

    return run


def as_bits(leaf):
    return np.asarray(leaf).view(f"u{leaf.dtype.itemsize}")


def random_actions(rng, space):
    if isinstance(space, Discrete):
        return rng.integers(space.n, size=(NUM_STEPS, NUM_ENVS), dtype=np.int32)
    size = (NUM_STEPS, NUM_ENVS, *space.shape)
    return rng.uniform(space.low, space.high, size).astype(np.float32)


def compare(env, *starts):
    """Asserts the equality from each of `starts`; gives what happened in the last."""
    rng = np.random.default_rng(0)
    key_data = rng.integers(2**32, size=(2, NUM_STEPS, NUM_ENVS, 2), dtype=np.uint32)
    actions = random_actions(rng, env.action_space)
    play_library, play_plain = play(library_step, env), play(reset_all_and_select, env)
    for start in starts:
        plain = play_plain(map_keys(jax.random.clone, start), key_data, actions)
        ours = play_library(start, key_data, actions)
        assert jax.tree.structure(ours) == jax.tree.structure(plain)
        names = jax.tree_util.tree_flatten_with_path(ours)[0]
        for (path, a), b in zip(names, jax.tree.leaves(plain), strict=True):
            message = jax.tree_util.keystr(path)
            assert (a.shape, a.dtype) == (b.shape, b.dtype), message
            np.testing.assert_array_equal(as_bits(a), as_bits(b), err_msg=message)
    return vector.VectorStep(*jax.device_get(ours))


def first_state(env):
    keys = jax.random.split(jax.random.key(5), NUM_ENVS)
    return jax.jit(partial(vector.reset, env))(keys)[1]


def test_auto_reset_of_cartpole():
    env = jaxdrl.make("CartPole-v1", max_steps_in_episode=25)
    steps = compare(env, first_state(env))
    assert steps.terminated.sum() > 20
    assert steps.truncated.sum() > 20
    assert not (steps.terminated & steps.truncated).any()
    ended = steps.terminated | steps.truncated
    assert set(ended.sum(axis=1)) >= {0, 1, 2}
    np.testing.assert_array_equal(steps.obs[~ended], steps.final_obs[~ended])
    assert (steps.obs[ended] != steps.final_obs[ended]).all(axis=1).all()
    assert (steps.env_state.time[ended] == 0).all()


def test_auto_reset_of_pendulum_together_and_staggered():
    env = jaxdrl.make("Pendulum-v1", max_steps_in_episode=7)
    together = first_state(env)
    staggered = together.replace(time=jnp.arange(NUM_ENVS, dtype=jnp.int32) % 7)
    steps = compare(env, staggered, together)
    assert (steps.truncated.sum(axis=1)[6::7] == NUM_ENVS).all()
    assert steps.truncated.sum() == NUM_ENVS * (NUM_STEPS // 7)


def test_auto_reset_of_breakout():
    env = jaxdrl.make("Breakout-MinAtar")
    steps = compare(env, first_state(env))
    assert steps.terminated.sum() > 100


@pytest.mark.parametrize("costly_reset", [False, True])
def test_auto_reset_keeps_typed_keys_in_the_state(costly_reset):
    env = counter(6)._replace(costly_reset=costly_reset)
    steps = compare(env, first_state(env))
    assert steps.terminated.sum() > 100
    assert steps.truncated.sum() > 100
    ended, draw = steps.terminated | steps.truncated, steps.env_state.draw
    np.testing.assert_array_equal(draw[1:] != draw[:-1], ended[1:])
    # Each reset has a key of its own.
    assert len(np.unique(draw)) == NUM_ENVS + ended[1:].sum()


def test_reset_takes_each_key_and_gives_strong_types():
    env = jaxdrl.make("CartPole-v1")
    key_data = np.arange(8, dtype=np.uint32).reshape(4, 2)
    obs, env_state = jax.jit(partial(vector.reset, env))(jax.random.wrap_key_data(key_data))
    reset_one = jax.jit(env.reset)
    for i in range(4):
        one_obs, _ = reset_one(jax.random.wrap_key_data(key_data[i]), env.default_params)
        np.testing.assert_array_equal(obs[i], one_obs)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((obs, env_state)))
    assert env_state.time.dtype == jnp.int32


def loose():
    """An environment of Python numbers, whose types are weak after reset and after step."""

    def reset(key, params):
        del key, params
        return jnp.asarray(0.5), {"time": jnp.asarray(0), "speed": jnp.asarray(1.0)}

    def step(key, state, action, params):
        del key, state, action, params
        state = {"time": jnp.asarray(1), "speed": jnp.asarray(2.0)}
        return jnp.asarray(0.25), state, jnp.asarray(1.0), jnp.bool(False), jnp.bool(True), {}

    return Environment("loose", reset, step, Box(0.0, 1.0, ()), Discrete(2))


@pytest.mark.parametrize("make", [loose, partial(jaxdrl.make, "CartPole-v1")])
def test_step_gives_back_the_types_it_took(make):
    env = make()
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 4))
    obs, env_state = jax.eval_shape(partial(vector.reset, env), keys)
    action = jax.ShapeDtypeStruct((4,), jnp.int32)
    stepped = jax.eval_shape(partial(vector.step, env), keys, keys, env_state, action)

    def types(tree):
        return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)

    assert types(stepped.env_state) == types(env_state)
    assert types(stepped.obs) == types(stepped.final_obs) == types(obs)
    assert types(stepped.reward) == ((4,), jnp.float32, False)
    assert types(stepped.terminated) == types(stepped.truncated) == ((4,), jnp.bool, False)


def test_step_resets_with_the_reset_keys_alone():
    env = random_observation()  # an end at every step
    step, reset = jax.jit(partial(vector.step, env)), jax.jit(partial(vector.reset, env))
    env_state, action = first_state(env), jnp.zeros((NUM_ENVS,), jnp.int32)

    def keys(seed):
        return jax.random.split(jax.random.key(seed), NUM_ENVS)

    one, two = (step(keys(1), keys(seed), env_state, action) for seed in (2, 3))
    np.testing.assert_array_equal(one.obs, reset(keys(2))[0])
    np.testing.assert_array_equal(two.obs, reset(keys(3))[0])
    assert (one.obs != two.obs).any()
    np.testing.assert_array_equal(one.final_obs, env_state)
    np.testing.assert_array_equal(two.final_obs, env_state)


class Recorder:
    """A `compute` for `update_rows` that notes which rows it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, indices):
        jax.debug.callback(lambda i: self.asked.append(np.asarray(i)), indices)
        return {"a": indices.astype(jnp.float32) * 10.0, "b": jnp.stack([-indices, indices], 1)}


def numbered_rows(num_rows):
    rng = np.random.default_rng(num_rows)
    return {
        "a": rng.normal(size=num_rows).astype(np.float32),
        "b": rng.integers(100, size=(num_rows, 2)).astype(np.int32),
    }


def expected_rows(mask, rows):
    ids = np.arange(len(mask), dtype=np.int32)
    return {
        "a": np.where(mask, ids.astype(np.float32) * 10, rows["a"]),
        "b": np.where(mask[:, None], np.stack([-ids, ids], 1), rows["b"]),
    }


def assert_rows(actual, expected):
    assert actual.keys() == expected.keys()
    for name, rows in actual.items():
        assert rows.dtype == expected[name].dtype
        np.testing.assert_array_equal(rows, expected[name])


@pytest.mark.parametrize("is_costly", [False, True])
@pytest.mark.parametrize("num_rows", [1, 5, 8, 13, 200])
def test_update_rows_computes_the_masked_rows_once_and_changes_no_other(num_rows, is_costly):
    recorder, rng = Recorder(), np.random.default_rng(1)
    update = jax.jit(partial(vector.update_rows, compute=recorder, is_costly=is_costly))
    rows = numbered_rows(num_rows)
    masks = [rng.random(num_rows) < p for p in (0.0, 0.02, 0.1, 0.5, 0.9, 1.0)]
    masks += [np.arange(num_rows) == num_rows - 1, np.arange(num_rows) == 0]
    for mask in masks:
        recorder.asked.clear()
        assert_rows(update(mask, rows=rows), expected_rows(mask, rows))
        jax.effects_barrier()
        asked = np.concatenate([*recorder.asked, np.zeros(0, np.int32)])
        np.testing.assert_array_equal(np.sort(asked[asked < num_rows]), np.flatnonzero(mask))
        assert (asked <= num_rows).all()
        # The price: no more than one chunk is filled up, and nothing runs for an empty mask.
        largest = max(1, num_rows // 64) if is_costly else max(8, num_rows // 16)
        assert len(asked) < mask.sum() + largest
        assert mask.any() or not recorder.asked


def test_update_rows_without_jit():
    rows, mask = numbered_rows(9), np.arange(9) % 4 == 1
    actual = vector.update_rows(jnp.asarray(mask), Recorder(), jax.tree.map(jnp.asarray, rows))
    assert_rows(actual, expected_rows(mask, rows))


def test_update_rows_under_vmap():
    rng, rows = np.random.default_rng(2), [numbered_rows(20), numbered_rows(20), numbered_rows(20)]
    masks = np.stack([np.zeros(20, np.bool), rng.random(20) < 0.2, np.ones(20, np.bool)])
    stacked = jax.tree.map(lambda *x: np.stack(x), *rows)
    update = partial(vector.update_rows, compute=Recorder())
    actual = jax.jit(jax.vmap(lambda mask, rows: update(mask, rows=rows)))(masks, stacked)
    for i in range(3):
        expected = expected_rows(masks[i], rows[i])
        assert_rows(jax.tree.map(lambda x, i=i: x[i], actual), expected)


def test_update_rows_of_typed_keys():
    old, new = (jax.random.split(jax.random.key(seed), 13) for seed in (0, 1))
    new_data = jax.random.key_data(new)
    mask = np.arange(13) % 3 == 0

    def compute(indices):
        return jax.random.wrap_key_data(new_data.at[indices].get(mode="clip"))

    update = jax.jit(partial(vector.update_rows, compute=compute))
    actual = jax.random.key_data(update(mask, rows=old))
    expected = np.where(mask[:, None], new_data, jax.random.key_data(old))
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("one_step", "is_lean"), [(library_step, True), (reset_all_and_select, False)]
)
def test_auto_reset_needs_no_second_copy_of_large_states(one_step, is_lean):
    """Of states of which a step changes one number each; the plain way makes all anew."""

    def reset(key, params):
        world = jax.random.uniform(key, (16_384,))
        return world[:4], {"world": world, "time": jnp.zeros((), jnp.int32)}

    def step(key, env_state, action, params):
        world, time = env_state["world"].at[action].add(1.0), env_state["time"] + 1
        no = jnp.zeros((), bool)
        return world[:4], {"world": world, "time": time}, world[0], no, time > 7, {}

    box = Box(0.0, np.inf, (4,))
    env = Environment(
        "large", reset, step, box, Discrete(9), max_episode_steps=8, costly_reset=True
    )

    def run(env_state, keys, action):
        keys = jax.random.wrap_key_data(keys)
        return one_step(env, *keys, env_state, action)[2]

    keys = jax.random.key_data(jax.random.split(jax.random.key(0), (2, 64)))
    _, env_state = jax.eval_shape(
        lambda keys: vector.reset(env, keys), jax.random.split(jax.random.key(0), 64)
    )
    program = jax.jit(run, donate_argnums=0).lower(env_state, keys, jnp.zeros(64, jnp.int32))
    extra = program.compile().memory_analysis().temp_size_in_bytes / (64 * 16_384 * 4)
    assert extra < 0.25 if is_lean else extra > 0.9
