"""Optimisers, and gradient steps that are skipped rather than leave anything non-finite."""

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
from jaxdrl.core.schedules import linear
from jaxdrl.errors import ConfigError

VALUE = "value"
"""The name that optax has for the loss of the minibatch."""


class Optimizer(NamedTuple):
    """An optax optimiser, and the extra arguments that its update takes beside the gradient.

    Attributes:
      transformation: the optax optimiser.
      takes: names of the extra arguments: `learning_rate`, `value`, the loss of the minibatch, and
        `due`, whether a part of the parameters moves that does not in every step.
    """

    transformation: optax.GradientTransformationExtraArgs
    takes: tuple[str, ...] = ()

    def init(self, params: Any) -> Any:
        """The optimiser state before the first step."""
        with default_promotion():
            return self.transformation.init(params)

    def step(
        self, gradient: Any, extra: Mapping[str, Any], params: Any, opt_state: Any
    ) -> tuple[Any, Any]:
        """`(params, opt_state)` after one step; `extra` holds what the optimiser takes, by name."""
        with default_promotion():
            updates, opt_state = self.transformation.update(gradient, opt_state, params, **extra)
            return optax.apply_updates(params, updates), opt_state


def adam(max_grad_norm: Any = None, epsilon: Any = 1e-8) -> Optimizer:
    """Adam with the gradient clipped by its global norm; its update takes `learning_rate`."""
    return _clipped(max_grad_norm, optax.scale_by_adam(eps=epsilon))


def radam(max_grad_norm: Any = None, epsilon: Any = 1e-8) -> Optimizer:
    """Rectified Adam (Liu et al. 2020, arXiv:1908.03265); the rest as `adam`."""
    return _clipped(max_grad_norm, _scale_by_radam(epsilon))


def rmsprop(max_grad_norm: Any = None, decay: Any = 0.99, epsilon: Any = 1e-8) -> Optimizer:
    """RMSProp without momentum and with epsilon inside the square root; the rest as `adam`."""
    return _clipped(max_grad_norm, optax.scale_by_rms(decay=decay, eps=epsilon))


def _scale_by_radam(epsilon: Any, b1: float = 0.9, b2: float = 0.999) -> Any:
    """`optax.scale_by_radam` with the same bits on any number of devices.

    XLA rounds a division of an array by a number in one of two ways. Here, what depends on the
    number of steps alone is computed apart, and arrays are multiplied with it.
    """

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(count=jnp.zeros((), jnp.int32), mu=zeros, nu=zeros)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        mean = jax.tree.map(lambda g, m: b1 * m + (1.0 - b1) * g, updates, state.mu)
        square = jax.tree.map(lambda g, v: b2 * v + (1.0 - b2) * g * g, updates, state.nu)
        count = optax.safe_increment(state.count)
        of_mean, of_square, rectified, is_long = _radam_factors(count, b1, b2)

        def scaled(m: jax.Array, v: jax.Array) -> jax.Array:
            by_deviation = rectified * m / (jnp.sqrt(of_square * v) + epsilon)
            return jnp.where(is_long, by_deviation, of_mean * m)

        after = optax.ScaleByAdamState(count=count, mu=mean, nu=square)
        return jax.tree.map(scaled, mean, square), after

    return optax.GradientTransformation(init, update)


def _radam_factors(count: jax.Array, b1: float, b2: float) -> Any:
    """What rectified Adam multiplies with at step t, algorithm 2 of Liu et al. 2020.

    Returns:
      `(1 / (1 - b1^t), 1 / (1 - b2^t), l_t / (1 - b1^t), is_long)`, with the rectification l_t, and
      whether the average is long enough for it to exist.
    """
    time, longest = count.astype(jnp.float32), 2.0 / (1.0 - b2) - 1.0
    of_mean, of_square = 1.0 / (1.0 - b1**time), 1.0 / (1.0 - b2**time)
    length = longest - 2.0 * time * b2**time * of_square
    is_long = length >= 5.0
    share = (length - 4.0) * (length - 2.0) * longest
    share /= (longest - 4.0) * (longest - 2.0) * length
    rectified = jnp.sqrt(jnp.where(is_long, share, 1.0)) * of_mean
    return jax.lax.optimization_barrier((of_mean, of_square, rectified, is_long))


def _clipped(max_grad_norm: Any, scaling: optax.GradientTransformation) -> Optimizer:
    """Clips by the global norm, scales, and multiplies by the learning rate of the update.

    All parameters are treated as one vector: a few large operations instead of many small ones.
    """

    def scale(updates: Any, state: Any, params: Any = None, *, learning_rate: Any) -> Any:
        return jax.tree.map(lambda u: -learning_rate * u, updates), state

    clip = optax.identity() if max_grad_norm is None else optax.clip_by_global_norm(max_grad_norm)
    scale_by_rate = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), scale)
    chain = optax.chain(clip, scaling, scale_by_rate)
    return Optimizer(optax.flatten(chain), ("learning_rate",))


def of_parts(parts: Mapping[str, tuple[Optimizer, Any]], delayed: str | None = None) -> Optimizer:
    """An optimiser for each entry of a dictionary of parameters.

    Args:
      parts: for each entry an optimiser that takes `learning_rate`, and the factor of that rate.
      delayed: an entry that stays as it is, its optimiser's state included, unless the extra
        argument `due` is true, bool `[]`.
    """

    def init(params: Any) -> Any:
        return {name: part.transformation.init(params[name]) for name, (part, _) in parts.items()}

    def update(
        gradient: Any, state: Any, params: Any = None, *, learning_rate: Any, due: Any = None
    ) -> Any:
        del params
        updates, after = {}, {}
        for name, (part, factor) in parts.items():
            rate = factor * learning_rate
            own = part.transformation.update(gradient[name], state[name], learning_rate=rate)
            if name == delayed:
                unmoved = jax.tree.map(jnp.zeros_like, own[0]), state[name]
                own = jax.tree.map(partial(jnp.where, due), own, unmoved)
            updates[name], after[name] = own
        return updates, after

    takes = ("learning_rate",) if delayed is None else ("learning_rate", "due")
    return Optimizer(optax.GradientTransformationExtraArgs(init, update), takes)


def learning_rate(config: Any, num_updates: jax.Array) -> Any:
    """The learning rate after `num_updates`: linear over `anneal_env_steps`, then constant."""
    if config.anneal_env_steps is None:
        return config.learning_rate
    updates = config.anneal_env_steps / config.env_steps_per_update
    return linear(config.learning_rate, config.final_learning_rate, updates, num_updates)


@jax.named_scope("optimizer")
def step_if_finite(
    optimizer: Optimizer, gradient: Any, extra: Mapping[str, Any], fitted: tuple[Any, Any]
) -> tuple[tuple[Any, Any], jax.Array, dict[str, jax.Array]]:
    """Takes a gradient step, unless it would leave NaN or infinity in parameters or optimiser.

    A gradient whose norm is not finite would make every parameter non-finite. A finite gradient can
    still lead to parameters or an optimiser state that are not finite. Both steps are skipped.

    Args:
      optimizer: the optimiser.
      gradient: the gradient, the same on every device.
      extra: what the optimiser takes beside the gradient, by name.
      fitted: `(params, opt_state)`.

    Returns:
      `(fitted, taken, metrics)`: `taken` is whether the step was taken, bool `[]`. The metrics are
      float32 `[]`: `grad_norm`, before clipping, 0 for a skipped step; `skipped_steps`, 1 for a
      skipped step; `nonfinite_params`, 1 for a skipped step whose gradient was finite.
    """
    norm = optax.tree.norm(gradient)
    finite = jnp.isfinite(norm)
    fitted, taken = _try(partial(optimizer.step, gradient, extra), finite, fitted)
    counts = {"skipped_steps": ~taken, "nonfinite_params": finite & ~taken}
    metrics = jax.tree.map(lambda x: x.astype(jnp.float32), counts)
    return fitted, taken, metrics | {"grad_norm": jnp.where(taken, norm, 0.0)}


def _try(
    step: Callable[[Any, Any], tuple[Any, Any]], finite: jax.Array, fitted: tuple[Any, Any]
) -> tuple[tuple[Any, Any], jax.Array]:
    """`(fitted, taken)` after trying a step whose gradient is `finite` or not."""

    def attempt(fitted: tuple[Any, Any], _: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
        after = step(*fitted)
        stays = stays_finite(fitted, after)
        return jax.tree.map(lambda new, old: jnp.where(stays, new, old), after, fitted), stays

    return control_flow.if_true(finite, attempt, fitted, jnp.zeros_like(finite))


def of_own(optimizer: optax.GradientTransformation, params: Any) -> Optimizer:
    """Finds out which extra arguments a user's own optimiser needs; it is only traced.

    Args:
      optimizer: the optimiser.
      params: shapes and dtypes of the parameters.

    Raises:
      ConfigError: if it needs more than gradients and the loss, or changes shapes or dtypes.
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
    """Refuses a step that changes shapes or dtypes."""
    types = jax.tree.map(lambda x: (x.shape, str(x.dtype)), (before, after))
    if types[0] != types[1]:
        raise ConfigError(
            "optimizer: parameters or its state have other shapes or dtypes after a step than "
            f"before: {types[1]} after {types[0]}; both must be the same"
        )
