"""Optimisers: what their update is given beside the gradient, and steps that keep all finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdrl.core import control_flow
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.core.finiteness import stays_finite
from jaxdrl.errors import ConfigError

VALUE = "value"
"""The loss of the minibatch, by the name that optax has for it."""


class Optimizer(NamedTuple):
    """An optax optimiser, and what its update is given beside the gradient.

    Attributes:
      transformation: the optimiser.
      takes: names of the arguments: `learning_rate`, and `value`, the loss of the minibatch.
    """

    transformation: optax.GradientTransformationExtraArgs
    takes: tuple[str, ...] = ()

    def init(self, params: Any) -> Any:
        """Its state before the first step."""
        with default_promotion():
            return self.transformation.init(params)

    def step(
        self, gradient: Any, extra: Mapping[str, Any], params: Any, opt_state: Any
    ) -> tuple[Any, Any]:
        """`(params, opt_state)` after a step; `extra` holds by name what the optimiser takes."""
        with default_promotion():
            updates, opt_state = self.transformation.update(gradient, opt_state, params, **extra)
            return optax.apply_updates(params, updates), opt_state


def adam(max_grad_norm: Any = None, epsilon: Any = 1e-8) -> Optimizer:
    """Adam after clipping by the global norm, at the `learning_rate` that its update is given.

    On all parameters as one vector: a few large operations instead of many small ones.
    """

    def scale(updates: Any, state: Any, params: Any = None, *, learning_rate: Any) -> Any:
        return jax.tree.map(lambda u: -learning_rate * u, updates), state

    clip = optax.identity() if max_grad_norm is None else optax.clip_by_global_norm(max_grad_norm)
    scale_by_rate = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), scale)
    chain = optax.chain(clip, optax.scale_by_adam(eps=epsilon), scale_by_rate)
    return Optimizer(optax.flatten(chain), ("learning_rate",))


@jax.named_scope("optimizer")
def step_if_finite(
    optimizer: Optimizer, gradient: Any, extra: Mapping[str, Any], learnt: tuple[Any, Any]
) -> tuple[tuple[Any, Any], jax.Array, dict[str, jax.Array]]:
    """A gradient step, skipped where it would leave parameters or optimiser with a NaN or infinity.

    A gradient whose norm is not finite would make all parameters so, and even a finite one can lead
    to an optimiser or parameters that are not.

    Args:
      optimizer: the optimiser.
      gradient: of the parameters, the same on every device.
      extra: by name, what the optimiser takes beside it.
      learnt: `(params, opt_state)`.

    Returns:
      `(learnt, taken, metrics)`: whether the step was taken, and `grad_norm`, before clipping and 0
      of a skipped step, `skipped_steps`, and `nonfinite_params`, skipped steps whose gradient was
      finite; each float32 `[]`.
    """
    norm = optax.tree.norm(gradient)
    finite = jnp.isfinite(norm)
    learnt, taken = _try(partial(optimizer.step, gradient, extra), finite, learnt)
    counts = {"skipped_steps": ~taken, "nonfinite_params": finite & ~taken}
    metrics = jax.tree.map(lambda x: x.astype(jnp.float32), counts)
    return learnt, taken, metrics | {"grad_norm": jnp.where(taken, norm, 0.0)}


def _try(
    step: Callable[[Any, Any], tuple[Any, Any]], finite: jax.Array, learnt: tuple[Any, Any]
) -> tuple[tuple[Any, Any], jax.Array]:
    """`(learnt, taken)` after a step whose gradient is `finite` or not."""

    def attempt(learnt: tuple[Any, Any], _: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
        after = step(*learnt)
        stays = stays_finite(learnt, after)
        return jax.tree.map(lambda new, old: jnp.where(stays, new, old), after, learnt), stays

    return control_flow.if_true(finite, attempt, learnt, jnp.zeros_like(finite))


def of_own(optimizer: optax.GradientTransformation, params: Any) -> Optimizer:
    """An optimiser of the user's own, which is given what it needs; only traces it.

    Args:
      optimizer: the optimiser.
      params: shapes and dtypes of the parameters.

    Raises:
      ConfigError: if it needs more than gradients and the loss, or does not keep types.
    """
    transformation, reasons = optax.with_extra_args_support(optimizer), []
    for names in ((), (VALUE,)):
        found = Optimizer(transformation, names)
        extra = {name: jax.ShapeDtypeStruct((), jnp.float32) for name in names}
        try:
            before, after = jax.eval_shape(partial(_before_and_after, found), params, extra)
        except Exception as error:  # of optax, in many classes
            reasons.append(str(error).splitlines()[0] if str(error) else type(error).__name__)
            continue
        _require_same(before, after)
        return found
    raise ConfigError(
        "optimizer: cannot learn from the gradient and the loss of a minibatch alone "
        f"({reasons[0]}); take one that needs no more, such as optax.adam(3e-4)"
    )


def _before_and_after(optimizer: Optimizer, params: Any, extra: Mapping[str, Any]) -> Any:
    opt_state = optimizer.init(params)
    return (params, opt_state), optimizer.step(params, extra, params, opt_state)


def _require_same(before: Any, after: Any) -> None:
    """Refuses a step that does not give back the types that it began with."""
    types = jax.tree.map(lambda x: (x.shape, str(x.dtype)), (before, after))
    if types[0] != types[1]:
        raise ConfigError(
            "optimizer: parameters or its state have other shapes or dtypes after a step than "
            f"before: {types[1]} after {types[0]}; both must be the same"
        )
