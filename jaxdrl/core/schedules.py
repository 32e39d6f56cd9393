"""Settings that change while an agent learns."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def linear(initial: Any, final: Any, num_updates: Any, update: jax.Array) -> jax.Array:
    """A line from `initial` to `final`, which it reaches after `num_updates`, then constant.

        initial + (final - initial) min(update / num_updates, 1)

    Args:
      initial: a float or a traced scalar.
      final: likewise.
      num_updates: likewise; greater than 0, and not necessarily whole.
      update: updates so far, int32.

    >>> import jax.numpy as jnp
    >>> [float(linear(1.0, 0.5, 4, jnp.array(update))) for update in (0, 1, 4, 9)]
    [1.0, 0.875, 0.5, 0.5]
    """
    progress = jnp.minimum(update.astype(jnp.float32) / num_updates, 1.0)
    return initial + (final - initial) * progress
