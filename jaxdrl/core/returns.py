"""Advantages and returns over time-major arrays `[T, ...]`: GAE, lambda, n-step, V-trace.

One convention holds everywhere. `reward[t]` follows the action taken in the state of `value[t]`;
`next_value[t]` is the value of the true successor observation, which at the end of an episode is
the final observation, never that of the reset that follows. `terminated[t]` says that the episode
ended there (nothing follows, so there is no bootstrap); `truncated[t]` says that it was only cut
short (bootstrap from `next_value[t]`). The two exclude each other, and no return looks past either.
A time limit treated as a termination biases the values (Pardo et al. 2018, arXiv:1712.00378).

Every function is pure and differentiable; a caller who wants constant targets applies
`jax.lax.stop_gradient`. Hyperparameters are Python floats or traced scalars. Shapes and dtypes are
checked when a function is traced.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxdrl.core import control_flow


class VTrace(NamedTuple):
    """What `vtrace` returns, all `[T, ...]`.

    Attributes:
      targets: targets of the values.
      advantage: advantages without the weight of the ratio, for a policy loss that has the ratio as
        a factor of its own.
      pg_advantage: the same with the weight, to be multiplied by `grad log pi`.
    """

    targets: jax.Array
    advantage: jax.Array
    pg_advantage: jax.Array


def gae(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    gamma: float | jax.Array,
    gae_lambda: float | jax.Array,
) -> jax.Array:
    """Generalised advantage estimates.

        delta_t = r_t + gamma (1 - terminated_t) V(s_{t+1}) - V(s_t)
        A_t     = delta_t + gamma lambda (1 - terminated_t) (1 - truncated_t) A_{t+1}

    All arrays are `[T, ...]`: floats, but the two flags are bool. Raises ValueError if the shapes
    differ and TypeError for any other dtype. Schulman et al. 2016, arXiv:1506.02438.

    >>> import jax.numpy as jnp
    >>> no = jnp.array([False, False])
    >>> one, zero = jnp.ones(2), jnp.zeros(2)
    >>> gae(one, zero, zero, no, no, gamma=0.5, gae_lambda=1.0).tolist()
    [1.5, 1.0]
    """
    _check(terminated, truncated, reward=reward, value=value, next_value=next_value)
    delta = _bootstrap(reward, next_value, terminated, gamma) - value
    decay = jnp.full_like(delta, gamma * gae_lambda)
    return _backward_sum(delta, decay, terminated | truncated)


def lambda_returns(
    reward: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    gamma: float | jax.Array,
    lambda_: float | jax.Array,
) -> jax.Array:
    """Lambda-returns: the exponentially weighted mean of all n-step returns.

        G_t = r_t + gamma (1 - terminated_t) [(1 - lambda) V(s_{t+1}) + lambda G_{t+1}]

    where `V(s_{t+1})` takes the bracket's place at a truncation and at the last step. Where
    `next_value[t] == value[t + 1]` inside an episode, it is `gae + value`. Shapes, dtypes and
    errors as in `gae`. Sutton and Barto 2018, chapter 12.
    """
    _check(terminated, truncated, reward=reward, next_value=next_value)
    end = _end(terminated, truncated)
    one_step = jnp.where(end, next_value, (1.0 - lambda_) * next_value)
    decay = jnp.full_like(reward, gamma * lambda_)
    return _backward_sum(_bootstrap(reward, one_step, terminated, gamma), decay, end)


def n_step_returns(
    reward: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    gamma: float | jax.Array,
    n: int,
) -> jax.Array:
    """n-step returns: up to n rewards, then a bootstrap.

        G_t = r_t + gamma r_{t+1} + ... + gamma^{m-1} r_{t+m-1} + gamma^m V(s_{t+m})

    with m = n, or fewer if the episode or the array ends first; there is no bootstrap after a
    termination. `n` is a static int >= 1; anything else raises ValueError. Shapes, dtypes and
    errors as in `gae`. Sutton and Barto 2018, chapter 7.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"n must be a Python int of at least 1, such as n=5, got n={n!r}")
    _check(terminated, truncated, reward=reward, next_value=next_value)
    end = _end(terminated, truncated)

    def one_more(_: jax.Array, returns: jax.Array) -> jax.Array:
        # The (k+1)-step return at t is one reward and then the k-step return at t + 1.
        following = jnp.where(end, next_value, jnp.roll(returns, -1, axis=0))
        return _bootstrap(reward, following, terminated, gamma)

    one_step = _bootstrap(reward, next_value, terminated, gamma)
    returns: jax.Array = jax.lax.fori_loop(1, min(n, reward.shape[0]), one_more, one_step)
    return returns


def vtrace(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    log_rho: jax.Array,
    *,
    gamma: float | jax.Array,
    lambda_: float | jax.Array = 1.0,
    clip_rho: float | jax.Array | None = 1.0,
    clip_c: float | jax.Array | None = 1.0,
    clip_pg_rho: float | jax.Array | None = 1.0,
) -> VTrace:
    """V-trace targets and advantages for off-policy data.

        rho_t   = min(clip_rho, pi(a_t|s_t) / mu(a_t|s_t)),   c_t likewise with clip_c
        delta_t = rho_t (r_t + gamma (1 - terminated_t) V(s_{t+1}) - V(s_t))
        vs_t    = V(s_t) + delta_t + gamma lambda c_t (vs_{t+1} - V(s_{t+1}))
        q_t     = r_t + gamma (1 - terminated_t) [(1 - lambda) V(s_{t+1}) + lambda vs_{t+1}]
        A_t     = q_t - V(s_t),   weighted for the policy gradient: min(clip_pg_rho, pi/mu) A_t

    At the end of an episode and at the last step, `vs_t` has no third term, and in `q_t` the value
    of the true successor takes the bracket's place. `log_rho` is `log pi - log mu`; a clip of None
    means no clipping. Shapes, dtypes and errors as in `gae`.

    With data of the policy itself (a ratio of 1) and clips of at least 1, the targets are the
    lambda-returns and the advantages are `gae`; so the bracket is the paper's `vs_{t+1}` for its
    lambda of 1 alone. Espeholt et al. 2018, arXiv:1802.01561, equation 1, remark 2 (lambda) and
    section 4.2.
    """
    arrays = {"reward": reward, "value": value, "next_value": next_value, "log_rho": log_rho}
    _check(terminated, truncated, **arrays)
    end = _end(terminated, truncated)
    rho = jnp.exp(log_rho)
    delta = _bootstrap(reward, next_value, terminated, gamma) - value
    decay = gamma * lambda_ * _clip_above(rho, clip_c)
    targets = value + _backward_sum(_clip_above(rho, clip_rho) * delta, decay, end)
    mixed = (1.0 - lambda_) * next_value + lambda_ * jnp.roll(targets, -1, axis=0)
    following = jnp.where(end, next_value, mixed)
    advantage = _bootstrap(reward, following, terminated, gamma) - value
    return VTrace(targets, advantage, _clip_above(rho, clip_pg_rho) * advantage)


def _backward_sum(x: jax.Array, decay: jax.Array, cut: jax.Array) -> jax.Array:
    """y_t = x_t + (1 - cut_t) decay_t y_{t+1}, and nothing after the last step; all `[T, ...]`."""
    # zeros_like, not zeros: under shard_map the carry must vary over the devices as x does.
    zero, unroll = jnp.zeros_like(x[0]), control_flow.sums_in_a_pass()
    return jax.lax.scan(_add_following, zero, (x, decay, cut), reverse=True, unroll=unroll)[1]


def _add_following(
    following: jax.Array, inputs: tuple[jax.Array, jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # Defined at module level, so that scan compiles only once outside jit.
    x, decay, cut = inputs
    # Select rather than multiply: 0 x NaN would carry a NaN from one episode into another.
    total = x + jnp.where(cut, 0.0, decay * following)
    return total, total


def _bootstrap(
    reward: jax.Array, following: jax.Array, terminated: jax.Array, gamma: float | jax.Array
) -> jax.Array:
    """The one-step target: reward + gamma (1 - terminated) following."""
    return reward + gamma * jnp.where(terminated, 0.0, following)


def _end(terminated: jax.Array, truncated: jax.Array) -> jax.Array:
    """True where a return ends with `next_value`: at episode ends, and at the last step."""
    return jnp.asarray(terminated | truncated).at[-1].set(True)


def _clip_above(ratio: jax.Array, limit: float | jax.Array | None) -> jax.Array:
    return ratio if limit is None else jnp.minimum(ratio, limit)


def _check(terminated: jax.Array, truncated: jax.Array, **arrays: jax.Array) -> None:
    """Raises unless all arrays share a shape `[T, ...]`, flags are bool and the others floats."""
    flags = {"terminated": terminated, "truncated": truncated}
    named = {**arrays, **flags}
    chex.assert_equal_shape(
        list(named.values()), custom_message=", ".join(named), exception_type=ValueError
    )
    shape = arrays["reward"].shape
    if not shape or shape[0] == 0:
        raise ValueError(f"reward must have at least one time step, [T, ...], got shape {shape}")
    for name, array in named.items():
        kind = bool if name in flags else float
        chex.assert_type(array, kind, custom_message=f"input 0 is {name}", exception_type=TypeError)
