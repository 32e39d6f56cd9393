"""A state with every kind of array that a checkpoint may hold."""

import functools
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdrl.algorithms.sharded import STATE_SPECS
from jaxdrl.core.running_statistics import RunningStatistics
from jaxdrl.core.types import ActorState, LearnerState, TrainState
from jaxdrl.distributed.layout import place
from jaxdrl.distributed.mesh import make_mesh

NUM_ENVS = 16


class OptState(NamedTuple):
    count: jax.Array
    momentum: jax.Array


@struct.dataclass
class EnvState:
    position: jax.Array
    alive: jax.Array
    history: dict


def with_bits(bits, dtype):
    """Floats that arithmetic would not keep: payloads of NaN, both zeros, the smallest number."""
    return jnp.asarray(np.asarray(bits).view(dtype))


def build_state():
    """A state with every kind of array that one may hold."""
    float_bits = [0x7FC00001, 0xFFC12345, 0x7F800001, 0x80000000, 1, 0x7F800000, 0x3F800000]
    floats = with_bits(np.array(float_bits, np.uint32), np.float32)
    halves = with_bits(
        np.array([[0x7FC1, 0xFFFF, 0x8000], [1, 0x7F80, 0x3F80]], np.uint16), jnp.bfloat16
    )
    keys = jax.random.split(jax.random.key(5), NUM_ENVS)
    along = jnp.arange(NUM_ENVS)
    learner = LearnerState(
        params={
            "params": {"dense": {"kernel": halves, "bias": floats}, "empty": jnp.zeros((0, 3))}
        },
        opt_state=(OptState(jnp.int32(7), halves.T), ()),
        obs_statistics=RunningStatistics(jnp.float32(0.1), jnp.arange(3.0), jnp.ones(3)),
        return_statistics=None,
        key=jax.random.key(2**31 + 1),
        num_updates=jnp.int32(12),
    )
    actor = ActorState(
        env_state=EnvState(
            position=jnp.arange(NUM_ENVS * 6, dtype=jnp.int8).reshape(NUM_ENVS, 2, 3),
            alive=along % 3 == 0,
            history={
                "none": jnp.zeros((NUM_ENVS, 0), jnp.uint8),
                "keys": jax.random.split(jax.random.key(9, impl="rbg"), (NUM_ENVS, 2)),
                "half": along.astype(jnp.float16),
            },
        ),
        obs=jnp.arange(NUM_ENVS * 4, dtype=jnp.uint8).reshape(NUM_ENVS, 4),
        carry=(),
        key=keys,
        episode_start=along % 2 == 0,
        episode_return=jnp.sqrt(along.astype(jnp.float32)),
        episode_length=along.astype(jnp.int32),
        discounted_return=-along.astype(jnp.float32),
    )
    return TrainState(learner, actor)


@functools.cache
def make_state(num_devices=None):
    """The same state on any number of devices."""
    if num_devices is None:
        return build_state()
    return place(make_state(), make_mesh(num_devices), STATE_SPECS)


@functools.cache
def finite_state(num_devices=None):
    """The state without NaN and infinity in its learner."""
    state = make_state(num_devices)

    def finite(x):
        is_float = jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.nan_to_num(x, posinf=1.0) if is_float else x

    return replace(state, learner=jax.tree.map(finite, state.learner))


def with_replay(state, rows=50):
    """A copy of a state that has a replay buffer as well."""
    obs = jnp.arange(NUM_ENVS * rows * 2, dtype=jnp.float32).reshape(NUM_ENVS, rows, 2)
    half = jnp.full((NUM_ENVS, rows), -1.5, jnp.bfloat16)
    kept = {"obs": obs, "half": half, "position": jnp.arange(NUM_ENVS)}
    state = jax.tree.map(jnp.copy, state)  # which may be donated
    along = state.actor.obs.sharding
    kept = jax.device_put(kept, along if len(along.device_set) > 1 else None, may_alias=False)
    return replace(state, actor=replace(state.actor, replay=kept))


@functools.cache
def abstract_state():
    return jax.eval_shape(build_state)


def bits(tree):
    """`{path: (dtype, shape, bytes)}`, without the functions of the library."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        data = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        found[jax.tree_util.keystr(path)] = (str(leaf.dtype), leaf.shape, data.tobytes())
    return found
