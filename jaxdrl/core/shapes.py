"""The shapes of arrays, checked when a function is traced."""

from __future__ import annotations

import chex
import jax


def require_shape(name: str, array: jax.Array, shape: tuple[int, ...]) -> None:
    """Raises ValueError, naming the array, unless it has the shape; nothing is broadcast."""
    chex.assert_shape(array, shape, custom_message=f"input 0 is {name}", exception_type=ValueError)
