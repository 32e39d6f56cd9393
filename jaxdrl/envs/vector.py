"""Vectorised environments: `vmap`, exact auto-reset, and computing only a few of the rows.

In an environment of several agents, rows are those of its agents, see `jaxdrl.envs.agents`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdrl.core import control_flow
from jaxdrl.core.trees import match_rank
from jaxdrl.envs.agents import by_env, for_each_agent, to_rows
from jaxdrl.envs.protocol import Environment, strong_types


class VectorStep(NamedTuple):
    """The result of one step of `N` environments; every array is `[rows, ...]`, but for the state.

    Attributes:
      obs: the observation that the policy sees next, after the reset where an episode ended.
      final_obs: the true successor observation, which differs from `obs` where an episode ended.
      env_state: the state, after the reset where an episode ended, `[N, ...]`.
      reward: float32.
      terminated: bool.
      truncated: bool.
    """

    obs: Any
    final_obs: Any
    env_state: Any
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array


def reset(env: Environment, keys: jax.Array) -> tuple[Any, Any]:
    """Resets one environment for each key `[N]`: `(obs [rows, ...], env_state [N, ...])`."""
    obs, env_state = _reset(env, keys)
    return to_rows(env.num_agents, obs), env_state


def _reset(env: Environment, keys: jax.Array) -> tuple[Any, Any]:
    return strong_types(jax.vmap(env.reset, in_axes=(0, None))(keys, env.default_params))


def step(
    env: Environment, step_keys: jax.Array, reset_keys: jax.Array, env_state: Any, action: Any
) -> VectorStep:
    """Steps every environment, and resets exactly those whose episode ended.

    The result has the same bits as resetting all of them and selecting, because every environment
    has its own reset key, but only the ended ones are reset (`update_rows`).

    Args:
      env: the environment.
      step_keys: `[N]` keys, consumed.
      reset_keys: `[N]` keys, consumed.
      env_state: `[N, ...]`.
      action: `[rows, ...]`.
    """
    mapped = jax.vmap(env.step, in_axes=(0, 0, 0, None))
    final_obs, env_state, reward, terminated, truncated, _ = strong_types(
        mapped(step_keys, env_state, by_env(env.num_agents, action), env.default_params)
    )
    # As data, because the key-reuse checker cannot see that every iteration takes other rows.
    key_data, impl = jax.random.key_data(reset_keys), jax.random.key_impl(reset_keys)

    def reset_rows(rows: jax.Array) -> tuple[Any, Any]:
        chosen = key_data.at[rows].get(mode="clip")
        return _reset(env, jax.random.wrap_key_data(chosen, impl=impl))

    ended, rows = terminated | truncated, (final_obs, env_state)
    obs, env_state = update_rows(ended, reset_rows, rows, is_costly=env.costly_reset)
    obs, final_obs, reward = to_rows(env.num_agents, (obs, final_obs, reward))
    flags = for_each_agent(env.num_agents, (terminated, truncated))
    return VectorStep(obs, final_obs, env_state, reward, *flags)


def chunk_size(num_rows: int, *, is_costly: bool = False) -> int:
    """How many rows to compute at once: a sixteenth of them, or a 64th if each is costly.

    Large chunks compute rows that are not needed, and small ones need more iterations of a loop;
    measured on the CPU with 256 rows (`experiments/README.md`).
    """
    return max(1, num_rows // 64) if is_costly else min(num_rows, max(8, num_rows // 16))


def update_rows(
    mask: jax.Array, compute: Callable[[jax.Array], Any], rows: Any, *, is_costly: bool = False
) -> Any:
    """Replaces the masked rows of `rows` by `compute(indices)`, and computes hardly any others.

    A `while_loop` takes the masked rows one chunk at a time, so an empty mask costs only the test
    of its condition. Under an outer `vmap` it loops as often as the fullest mask needs. On a GPU,
    where testing the condition costs more than most rows, every row is computed and the masked ones
    are selected, unless rows are costly.

    Args:
      mask: bool `[N]`.
      compute: `indices int32 [chunk]` to new rows `[chunk, ...]`; the last chunk is padded with the
        index `N`, and the rows computed for it are dropped.
      rows: pytree of `[N, ...]`.
      is_costly: whether computing a row takes long, as in `chunk_size`.
    """
    num_rows = mask.shape[0]
    if control_flow.on_gpu() and not is_costly:

        def choose(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(match_rank(mask, old), new, old)

        return jax.tree.map(choose, compute(jnp.arange(num_rows, dtype=jnp.int32)), rows)
    chunk = chunk_size(num_rows, is_costly=is_costly)

    def one_chunk(carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        remaining, rows = carry
        (indices,) = jnp.nonzero(remaining, size=chunk, fill_value=num_rows)
        new = compute(indices)
        rows = jax.tree.map(lambda x, y: x.at[indices].set(y, mode="drop"), rows, new)
        return remaining.at[indices].set(False, mode="drop"), rows

    return jax.lax.while_loop(lambda carry: carry[0].any(), one_chunk, (mask, rows))[1]
