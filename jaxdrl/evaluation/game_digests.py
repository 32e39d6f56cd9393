"""A number for each game by what its agents saw, so that games which repeat can be counted."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def digest_of(obs: Any, num_games: int) -> jax.Array:
    """uint32 `[num_games]` of the observations of all agents, `[num_games * A, ...]`.

    Different observations share a number with a probability of some 2^-32.
    """
    digest = jnp.zeros((num_games,), jnp.uint32)
    for leaf in jax.tree.leaves(obs):
        bits = _bits(leaf).reshape(num_games, -1)
        places = _mixed(jnp.arange(bits.shape[1], dtype=jnp.uint32))
        digest = followed_by(digest, _mixed(bits ^ places[None]).sum(axis=1, dtype=jnp.uint32))
    return digest


def followed_by(digest: jax.Array, other: jax.Array) -> jax.Array:
    """The digest of two in their order."""
    return _mixed(digest * jnp.uint32(0x9E3779B1) + other + jnp.uint32(1))


def _bits(x: jax.Array) -> jax.Array:
    """Each number as uint32, a float by its bits in single precision."""
    if jnp.issubdtype(x.dtype, jnp.floating):
        return jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    return x.astype(jnp.uint32)


def _mixed(x: jax.Array) -> jax.Array:
    """A permutation of uint32 in which every bit of `x` counts: the last steps of MurmurHash3."""
    x = (x ^ (x >> jnp.uint32(16))) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> jnp.uint32(13))) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> jnp.uint32(16))
