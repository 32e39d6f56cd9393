"""Targets and losses of actors and critics whose critics value actions, Q(s, a).

Nothing here reduces over the batch `[...]`: the caller takes the mean. Shapes that differ raise
ValueError when the function is traced, as in `jaxdrl.core.losses`.
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp


def clipped_double_q(returns: jax.Array, discount: jax.Array, q_values: jax.Array) -> jax.Array:
    """The target of all critics, from the lowest of their values of the next action, `[...]`.

        R + discount min_i Q_i(s', a')

    Fujimoto et al. 2018, arXiv:1802.09477, equation 10, with a return R of several steps.

    Args:
      returns: discounted rewards up to s', float `[...]`.
      discount: discount of what follows, 0 where nothing does, float `[...]`.
      q_values: of `K` critics, float `[K, ...]`; the soft ones of SAC have had the temperature
        times log pi(a'|s') subtracted.

    >>> import jax.numpy as jnp
    >>> clipped_double_q(jnp.ones(2), jnp.array([0.5, 0.0]), jnp.array([[4.0, 4], [2, 9]])).tolist()
    [2.0, 1.0]
    """
    lowest = q_values.min(axis=0)
    _check(returns=returns, discount=discount, q_values=lowest)
    return returns + discount * lowest


def temperature_loss(
    log_temperature: jax.Array, log_prob: jax.Array, target_entropy: Any
) -> jax.Array:
    """A loss that raises the temperature where the entropy is below its target, `[...]`.

        -exp(log_temperature) (log pi(a|s) + target_entropy)

    for a constant log pi. Haarnoja et al. 2018, arXiv:1812.05905, equation 18.

    Args:
      log_temperature: float `[]`.
      log_prob: log-probability of an action that the policy has drawn, float `[...]`.
      target_entropy: a float or a traced scalar, in nats.
    """
    return -jnp.exp(log_temperature) * (log_prob + target_entropy)


def atoms(v_min: Any, v_max: Any, num_atoms: int) -> jax.Array:
    """The returns that a categorical critic gives probabilities to, float32 `[num_atoms]`."""
    share = jnp.arange(num_atoms, dtype=jnp.float32) / (num_atoms - 1)
    return v_min + (v_max - v_min) * share


def mean_of_atoms(logits: jax.Array, v_min: Any, v_max: Any) -> jax.Array:
    """The mean return of categorical distributions, `[..., A]` to `[...]`."""
    z = _like(logits, atoms(v_min, v_max, logits.shape[-1]))
    return (jax.nn.softmax(logits) * z).sum(axis=-1)


def project(
    probs: jax.Array, returns: jax.Array, discount: jax.Array, v_min: Any, v_max: Any
) -> jax.Array:
    """The distribution of R + discount Z on the atoms z_i of Z, `[..., A]`.

        p'_i = sum_j p_j max(0, 1 - |clip(R + discount z_j, v_min, v_max) - z_i| / (z_1 - z_0))

    Each probability is shared between the two nearest atoms, in proportion to how near they are.
    Bellemare et al. 2017, arXiv:1707.06887, equation 7.

    Args:
      probs: probabilities of the next action's returns, float `[..., A]`.
      returns: discounted rewards, float `[...]`.
      discount: discount of what follows, 0 where nothing does, float `[...]`.
      v_min: the lowest return.
      v_max: the highest.
    """
    num_atoms = probs.shape[-1]
    _check(returns=returns, discount=discount, probs=probs[..., 0])
    z = _like(probs, atoms(v_min, v_max, num_atoms))
    moved = returns[..., None] + discount[..., None] * z
    moved = (moved - v_min) * ((num_atoms - 1) / (v_max - v_min))
    moved = jnp.clip(moved, 0.0, num_atoms - 1.0)  # as a place among the atoms
    places = _like(probs, jnp.arange(num_atoms, dtype=jnp.float32))
    share = jnp.clip(1.0 - jnp.abs(moved[..., None, :] - places[..., :, None]), 0.0, 1.0)
    return (share * probs[..., None, :]).sum(axis=-1)


def cross_entropy(probs: jax.Array, logits: jax.Array) -> jax.Array:
    """-sum_i p_i log softmax(logits)_i of arrays `[..., A]`; `[...]`."""
    _check(probs=probs, logits=logits)
    return -(probs * jax.nn.log_softmax(logits)).sum(axis=-1)


def _like(x: jax.Array, of_atoms: jax.Array) -> jax.Array:
    """A number for each atom, `[A]`, in the shape of `x [..., A]`."""
    return jnp.broadcast_to(of_atoms, x.shape)


def _check(**arrays: jax.Array) -> None:
    """Raises ValueError unless all arrays have one shape."""
    chex.assert_equal_shape(
        list(arrays.values()), custom_message=", ".join(arrays), exception_type=ValueError
    )
