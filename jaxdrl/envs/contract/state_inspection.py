"""Properties of any observation and state: fingerprints, keys, counters, bounds."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.core import spaces
from jaxdrl.core.trees import is_key

MULTIPLIERS = (0x9E3779B1, 0x85EBCA6B, 0x2C1B3C6D)
"""Odd multipliers of `fingerprint`, which move neighbouring numbers far apart."""


def fingerprint(tree: Any) -> jax.Array:
    """A hash of the bits and positions in a tree, to compare trees of one structure; uint32."""
    total = jnp.zeros((), jnp.uint32)
    for i, leaf in enumerate(jax.tree.leaves(tree)):
        x = jax.random.key_data(leaf) if is_key(leaf) else leaf
        if jnp.issubdtype(x.dtype, jnp.floating):
            x = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
        x = x.astype(jnp.uint32).ravel()
        x ^= jnp.arange(x.size, dtype=jnp.uint32) * jnp.uint32(MULTIPLIERS[0]) + jnp.uint32(i)
        total += _mixed(_mixed(x)).sum(dtype=jnp.uint32)
    return total


def _mixed(x: jax.Array) -> jax.Array:
    """Mixes bits: every bit of the result depends on those of `x` above and below it."""
    x = (x ^ (x >> jnp.uint32(16))) * jnp.uint32(MULTIPLIERS[1])
    return (x ^ (x >> jnp.uint32(13))) * jnp.uint32(MULTIPLIERS[2])


def is_raw_key(path: Any, leaf: Any) -> bool:
    """Whether an array of a state looks like an untyped key: two uint32, named like one."""
    name = jax.tree_util.keystr(path).lower()
    old = leaf.dtype == jnp.uint32 and leaf.shape[-1:] == (2,)
    return old and ("key" in name or "rng" in name)


def without_keys(env_state: Any) -> list[jax.Array]:
    """The arrays of a state that are not keys."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(env_state)
    return [leaf for path, leaf in leaves if not is_key(leaf) and not is_raw_key(path, leaf)]


def key_leaves(env_state: Any) -> dict[str, jax.Array]:
    """The data of the keys in a state by path, uint32 `[..., 2]`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(env_state)
    return {
        jax.tree_util.keystr(path): jax.random.key_data(leaf) if is_key(leaf) else leaf
        for path, leaf in leaves
        if is_key(leaf) or is_raw_key(path, leaf)
    }


def whole_numbers(env_state: Any) -> jax.Array:
    """The integer scalars in the states of `N` environments, int32 `[N, C]`."""
    leaves = jax.tree.leaves(env_state)
    found = [x for x in leaves if x.ndim == 1 and jnp.issubdtype(x.dtype, jnp.signedinteger)]
    num_envs = leaves[0].shape[0] if leaves else 0
    columns = [x.astype(jnp.int32) for x in found]
    return jnp.stack(columns, axis=1) if columns else jnp.zeros((num_envs, 0), jnp.int32)


def is_in_space(space: spaces.ObservationSpace, obs: Any) -> jax.Array:
    """Whether every element of `obs` is within the bounds of its space."""
    if isinstance(space, spaces.Dict):
        parts = [is_in_space(part, obs[name]) for name, part in space.items]
        return jnp.stack(parts).all()
    if isinstance(space, spaces.Box):
        low, high = jnp.asarray(space.low, space.dtype), jnp.asarray(space.high, space.dtype)
        obs = obs.astype(space.dtype)
        return ((obs >= low) & (obs <= high)).all()
    most = np.asarray(space.n if isinstance(space, spaces.Discrete) else space.nvec)
    return ((obs >= 0) & (obs < jnp.asarray(most, obs.dtype))).all()


def is_finite(obs: Any) -> jax.Array:
    """Whether no number in `obs` is infinite or NaN."""
    leaves = [x for x in jax.tree.leaves(obs) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.stack([jnp.ones((), jnp.bool), *(jnp.isfinite(x).all() for x in leaves)]).all()


def key_candidates(step_words: jax.Array, env_state: Any) -> jax.Array:
    """The key of a step and those in the state, with the two keys split from each.

    uint32 `[N, K, 2]`.
    """
    in_state = [words for words in key_leaves(env_state).values() if words.ndim == 2]
    words = jnp.stack([step_words, *in_state], axis=1)
    split = jax.vmap(jax.vmap(jax.random.split))(jax.random.wrap_key_data(words))
    return jnp.concatenate([words, *jnp.unstack(jax.random.key_data(split), axis=2)], axis=1)
