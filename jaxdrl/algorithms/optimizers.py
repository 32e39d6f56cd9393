"""What the update of an optimiser is given beside the gradient, and whether that is enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.errors import ConfigError

VALUE = "value"
"""The loss of the minibatch, by the name that optax has for it."""


def update(
    optimizer: optax.GradientTransformationExtraArgs,
    gradient: Any,
    opt_state: Any,
    params: Any,
    extra: Mapping[str, Any],
) -> tuple[Any, Any]:
    """`(params, opt_state)` after a step, the update given `extra` arguments."""
    with default_promotion():
        updates, opt_state = optimizer.update(gradient, opt_state, params, **extra)
        return optax.apply_updates(params, updates), opt_state


def extra_args(optimizer: optax.GradientTransformationExtraArgs, params: Any) -> tuple[str, ...]:
    """The arguments that an optimiser of the user's own needs; only traces it.

    Args:
      optimizer: the optimiser.
      params: shapes and dtypes of the parameters.

    Raises:
      ConfigError: if it needs more than gradients and the loss, or does not keep types.
    """
    reasons = []
    for names in ((), (VALUE,)):
        extra = {name: jax.ShapeDtypeStruct((), jnp.float32) for name in names}
        try:
            before, after = jax.eval_shape(
                lambda params, extra: _before_and_after(optimizer, params, extra), params, extra
            )
        except Exception as error:  # of optax, in many classes
            reasons.append(str(error).splitlines()[0] if str(error) else type(error).__name__)
            continue
        _require_same(before, after)
        return names
    raise ConfigError(
        "optimizer: cannot learn from the gradient and the loss of a minibatch alone "
        f"({reasons[0]}); take one that needs no more, such as optax.adam(3e-4)"
    )


def _before_and_after(optimizer: Any, params: Any, extra: Any) -> tuple[Any, Any]:
    with default_promotion():
        opt_state = optimizer.init(params)
    return (params, opt_state), update(optimizer, params, opt_state, params, extra)


def _require_same(before: Any, after: Any) -> None:
    """Refuses a step that does not give back the types that it began with."""
    types = jax.tree.map(lambda x: (x.shape, str(x.dtype)), (before, after))
    if types[0] != types[1]:
        raise ConfigError(
            "optimizer: parameters or its state have other shapes or dtypes after a step than "
            f"before: {types[1]} after {types[0]}; both must be the same"
        )
