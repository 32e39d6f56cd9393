"""Elementwise terms of the losses of actor-critic algorithms.

Only `weighted_mean` reduces: the caller takes the mean over its batch and its devices. Inputs are
float arrays of one shape `[...]`, and so is the result. Shapes that differ raise ValueError when
the function is traced, because a silent broadcast of `[N, 1]` against `[N]` trains, but wrongly.
`clip_epsilon` is a Python float or a traced scalar.
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp


def clipped_surrogate(
    log_prob: jax.Array,
    old_log_prob: jax.Array,
    advantage: jax.Array,
    *,
    clip_epsilon: float | jax.Array,
) -> jax.Array:
    """PPO's policy loss, to be minimised.

        -min(ratio A, clip(ratio, 1 - epsilon, 1 + epsilon) A),   ratio = pi(a|s) / pi_old(a|s)

    Schulman et al. 2017, arXiv:1707.06347, equation 7, negated.

    >>> import jax.numpy as jnp
    >>> log_ratio, old = jnp.log(jnp.array([1.5, 0.5])), jnp.zeros(2)
    >>> clipped_surrogate(log_ratio, old, jnp.ones(2), clip_epsilon=0.25).tolist()
    [-1.25, -0.5]
    """
    _check(log_prob=log_prob, old_log_prob=old_log_prob, advantage=advantage)
    ratio = jnp.exp(log_prob - old_log_prob)
    clipped = jnp.clip(ratio, 1.0 - clip_epsilon, 1.0 + clip_epsilon)
    return -jnp.minimum(ratio * advantage, clipped * advantage)


def policy_gradient(log_prob: jax.Array, advantage: jax.Array) -> jax.Array:
    """A loss whose gradient is the policy gradient, -A log pi(a|s), for a constant A.

    Williams 1992, "Simple statistical gradient-following algorithms", with a baseline.
    """
    _check(log_prob=log_prob, advantage=advantage)
    return -log_prob * advantage


def squared_value(value: jax.Array, target: jax.Array) -> jax.Array:
    """Half the squared error, 0.5 (value - target)^2."""
    _check(value=value, target=target)
    return 0.5 * jnp.square(value - target)


def huber_value(value: jax.Array, target: jax.Array) -> jax.Array:
    """The Huber loss of the error x = value - target, with a slope of at most 1.

        0.5 x^2 if |x| <= 1, else |x| - 0.5

    Huber 1964; Mnih et al. 2015, methods, clip the error to the same effect.
    """
    _check(value=value, target=target)
    size = jnp.abs(value - target)
    near = jnp.minimum(size, 1.0)
    return near * (size - 0.5 * near)


def clipped_value(
    value: jax.Array,
    old_value: jax.Array,
    target: jax.Array,
    *,
    clip_epsilon: float | jax.Array,
) -> jax.Array:
    """PPO's clipped value loss: nothing is gained by moving more than epsilon from the old value.

        0.5 max((V - target)^2, (V_old + clip(V - V_old, -epsilon, epsilon) - target)^2)

    `clip_epsilon` is in units of the value. It is in the code of Schulman et al. 2017 but not in
    the paper; Engstrom et al. 2020, arXiv:2005.12729, equation 3.
    """
    _check(value=value, old_value=old_value, target=target)
    clipped = old_value + jnp.clip(value - old_value, -clip_epsilon, clip_epsilon)
    return jnp.maximum(squared_value(value, target), squared_value(clipped, target))


def approx_kl(log_prob: jax.Array, old_log_prob: jax.Array) -> jax.Array:
    """A non-negative, unbiased estimate of KL(pi_old || pi) for actions drawn from pi_old.

        (ratio - 1) - log ratio,   ratio = pi(a|s) / pi_old(a|s)

    Schulman 2020, "Approximating KL divergence", estimator k3. In nats.
    """
    _check(log_prob=log_prob, old_log_prob=old_log_prob)
    log_ratio = log_prob - old_log_prob
    return jnp.expm1(log_ratio) - log_ratio


def clip_fraction(
    log_prob: jax.Array, old_log_prob: jax.Array, *, clip_epsilon: float | jax.Array
) -> jax.Array:
    """1.0 where `|ratio - 1| > epsilon`, else 0.0; its mean is the fraction of clipped ratios."""
    _check(log_prob=log_prob, old_log_prob=old_log_prob)
    # Compares logarithms rather than share the exponential of approx_kl: whether the compiler
    # computes a shared one once or twice depends on the rest of the program, and so would the
    # order of sums.
    log_ratio = log_prob - old_log_prob
    outside = (log_ratio > jnp.log1p(clip_epsilon)) | (log_ratio < jnp.log1p(-clip_epsilon))
    return outside.astype(log_prob.dtype)


def weighted_mean(x: jax.Array, weight: Any) -> jax.Array:
    """The mean of `weight * x`, without what has weight 0; `x.mean()` where `weight` is `()`.

    >>> import jax.numpy as jnp
    >>> weighted_mean(jnp.array([1.0, jnp.inf]), jnp.array([2.0, 0.0])).tolist()
    1.0
    """
    if isinstance(weight, tuple):
        return x.mean()
    _check(x=x, weight=weight)
    return (weight * jnp.where(weight > 0, x, 0.0)).mean()


def _check(**arrays: jax.Array) -> None:
    """Raises ValueError unless all arrays have one shape."""
    chex.assert_equal_shape(
        list(arrays.values()), custom_message=", ".join(arrays), exception_type=ValueError
    )
