"""Action distributions, and which one each action space gets.

A distribution is a pytree that holds a batch of parameters `[..., event]`. `sample(key)` draws
one event for each element of the batch from one key, which is consumed; for one key per
environment, `vmap` over keys and distribution. Log-probabilities and entropies have the shape of
the batch and the dtype of the parameters, and are in nats. A wrong shape raises ValueError when
the function is traced.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jaxdrl.core.spaces import Box, Discrete, MultiDiscrete, Space


class Distribution(Protocol):
    """What algorithms need of an action distribution."""

    def sample(self, key: jax.Array) -> jax.Array:
        """One action for each element of the batch; the key is consumed."""

    def log_prob(self, action: jax.Array) -> jax.Array:
        """The log-probability, or log-density, of `action`."""

    def entropy(self) -> jax.Array:
        """The entropy, differential for a density."""

    def mode(self) -> jax.Array:
        """The action to take when acting deterministically."""


@flax.struct.dataclass
class Categorical:
    """One of A choices; `logits` float `[..., A]`, unnormalised; actions int32 `[...]`.

    A logit of -inf forbids a choice and keeps entropy and gradients finite.

    >>> import jax.numpy as jnp
    >>> Categorical(jnp.zeros((5, 4))).mode().shape
    (5,)
    """

    logits: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        """Draw int32 `[...]`; the key is consumed."""
        return jax.random.categorical(key, self.logits).astype(jnp.int32)

    def log_prob(self, action: jax.Array) -> jax.Array:
        """The log-probability of `action`, an integer array `[...]` in 0..A-1; `[...]`."""
        _check_shape("action", action, self.logits.shape[:-1])
        log_probs = jax.nn.log_softmax(self.logits)
        return jnp.take_along_axis(log_probs, action[..., None], axis=-1)[..., 0]

    def entropy(self) -> jax.Array:
        """The entropy, -sum_a p_a log p_a, `[...]`."""
        log_probs = jax.nn.log_softmax(self.logits)
        probs = jnp.exp(log_probs)
        # 0 x -inf is NaN, in the gradient too: drop the logarithm before the product.
        return -jnp.sum(probs * jnp.where(probs > 0.0, log_probs, 0.0), axis=-1)

    def mode(self) -> jax.Array:
        """The most probable choice, int32 `[...]`; the first of equals."""
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)


@flax.struct.dataclass
class MultiCategorical:
    """Independent choices; `logits` float `[..., sum(nvec)]`, one component after another.

    Actions are int32 `[..., len(nvec)]`. Raises ValueError if the logits do not fit `nvec`.
    """

    logits: jax.Array
    nvec: tuple[int, ...] = flax.struct.field(pytree_node=False)

    def sample(self, key: jax.Array) -> jax.Array:
        """Draw int32 `[..., len(nvec)]`; the key is consumed."""
        keys = jax.random.split(key, len(self.nvec))
        draws = [c.sample(k) for c, k in zip(self._components(), keys, strict=True)]
        return jnp.stack(draws, axis=-1)

    def log_prob(self, action: jax.Array) -> jax.Array:
        """The sum of the components' log-probabilities, `[...]`."""
        _check_shape("action", action, (*self.logits.shape[:-1], len(self.nvec)))
        terms = [c.log_prob(action[..., i]) for i, c in enumerate(self._components())]
        return functools.reduce(jnp.add, terms)

    def entropy(self) -> jax.Array:
        """The sum of the components' entropies, `[...]`."""
        return functools.reduce(jnp.add, [c.entropy() for c in self._components()])

    def mode(self) -> jax.Array:
        """Each component's most probable choice, int32 `[..., len(nvec)]`."""
        return jnp.stack([c.mode() for c in self._components()], axis=-1)

    def _components(self) -> list[Categorical]:
        if self.logits.shape[-1] != sum(self.nvec):
            raise ValueError(
                f"logits must have sum(nvec)={sum(self.nvec)} as their last axis for "
                f"nvec={self.nvec}, got shape {self.logits.shape}"
            )
        ends = list(itertools.accumulate(self.nvec))
        parts = zip([0, *ends], ends, strict=False)
        return [Categorical(self.logits[..., start:end]) for start, end in parts]


@flax.struct.dataclass
class Normal:
    """A normal with diagonal covariance; `mean` and `log_std` are floats `[..., event]`.

    An event has `event_ndim` axes, 0 for scalars; log-probability and entropy are summed over
    them. Raises ValueError if the shapes differ.
    """

    mean: jax.Array
    log_std: jax.Array
    event_ndim: int = flax.struct.field(pytree_node=False)

    def sample(self, key: jax.Array) -> jax.Array:
        """Draw mean + std * noise, differentiable in the parameters; the key is consumed."""
        _check_shape("log_std", self.log_std, self.mean.shape)
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(self.log_std) * noise

    def log_prob(self, action: jax.Array) -> jax.Array:
        """The log-density, -sum [((a - mean) / std)^2 / 2 + log std + log(2 pi) / 2], `[...]`."""
        _check_shape("log_std", self.log_std, self.mean.shape)
        _check_shape("action", action, self.mean.shape)
        scaled = (action - self.mean) * jnp.exp(-self.log_std)
        terms = -0.5 * jnp.square(scaled) - self.log_std - 0.5 * math.log(2.0 * math.pi)
        return _sum_event(terms, self.event_ndim)

    def entropy(self) -> jax.Array:
        """The entropy, sum [log std + log(2 pi e) / 2], `[...]`."""
        _check_shape("log_std", self.log_std, self.mean.shape)
        return _sum_event(self.log_std + 0.5 * math.log(2.0 * math.pi * math.e), self.event_ndim)

    def mode(self) -> jax.Array:
        """The mean."""
        return self.mean


# With these nodes and weights, sum w f(x) is the mean of f under a standard normal.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(24)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@flax.struct.dataclass
class TanhNormal:
    """tanh(u) in (-1, 1), where u follows a `Normal` with the same parameters.

    `sample` and `mode` return u, **before** tanh, and `log_prob` takes u: tanh is never inverted,
    so saturated actions stay finite. `log_prob` and `entropy` are those of tanh(u).
    Haarnoja et al. 2018, arXiv:1801.01290, appendix C.
    """

    mean: jax.Array
    log_std: jax.Array
    event_ndim: int = flax.struct.field(pytree_node=False)
    # JAX confuses two dataclasses with equal static fields: jit once ran Normal's program here.
    family: str = flax.struct.field(pytree_node=False, default="tanh_normal", repr=False)

    def sample(self, key: jax.Array) -> jax.Array:
        """Draw u, before tanh; the key is consumed."""
        return self._normal().sample(key)

    def log_prob(self, action: jax.Array) -> jax.Array:
        """The log-density of tanh(u) at u = `action`: log N(u) - sum log(1 - tanh(u)^2)."""
        return self._normal().log_prob(action) - _sum_event(_log_slope(action), self.event_ndim)

    def entropy(self) -> jax.Array:
        """The entropy of tanh(u): that of u plus E[sum log(1 - tanh(u)^2)], without sampling.

        The expectation is taken by Gauss-Hermite quadrature with 24 nodes. The error per element
        is below 1e-5 for a std up to 1 and below 1e-3 up to 2 (0.03 at 4), whatever the mean.
        """
        normal_entropy = self._normal().entropy()
        # The nodes are the last axis: on two CPU cores the gradient took 16 ms this way and 90 ms
        # with the nodes first. A sum rather than a matrix product, which accelerators round to
        # fewer bits.
        shape = (*[1] * self.mean.ndim, _NODES.size)
        nodes = jnp.asarray(_NODES, self.mean.dtype).reshape(shape)
        weights = jnp.asarray(_WEIGHTS, self.mean.dtype).reshape(shape)
        u = self.mean[..., None] + jnp.exp(self.log_std)[..., None] * nodes
        expected_log_slope = jnp.sum(weights * _log_slope(u), axis=-1)
        return normal_entropy + _sum_event(expected_log_slope, self.event_ndim)

    def mode(self) -> jax.Array:
        """The mean of u; its tanh is the action's median, the usual deterministic action."""
        return self.mean

    def _normal(self) -> Normal:
        return Normal(self.mean, self.log_std, self.event_ndim)


class ActionHead(NamedTuple):
    """How a policy acts in one action space.

    Attributes:
      distribution: outputs of the policy network -> distribution over actions.
      to_env: sampled action (which is stored and passed to `log_prob`) -> the environment's action.
    """

    distribution: Callable[[Any], Distribution]
    to_env: Callable[[jax.Array], jax.Array]


def mask_logits(logits: jax.Array, allowed: jax.Array, space: Space) -> jax.Array:
    """Logits with -inf for forbidden choices; both arrays `[..., n]`, or `[..., sum(nvec)]`.

    If a mask forbids every choice (of one component of a MultiDiscrete), it is ignored there, so
    that the numbers stay finite; `has_action` reports such masks.
    """
    _check_shape("action_mask", allowed, logits.shape)
    return jnp.where(allowed | ~_any_of_component(allowed, space), logits, -jnp.inf)


def has_action(allowed: jax.Array, space: Space) -> jax.Array:
    """Whether a mask `[..., n]` or `[..., sum(nvec)]` allows any action, bool `[...]`."""
    return jnp.all(_any_of_component(allowed, space), axis=-1)


def _any_of_component(allowed: jax.Array, space: Space) -> jax.Array:
    """For each choice, whether its component allows any; in the shape of `allowed`."""
    sizes = space.nvec if isinstance(space, MultiDiscrete) else (allowed.shape[-1],)
    ends = itertools.accumulate(sizes)
    parts = [allowed[..., end - size : end] for size, end in zip(sizes, ends, strict=True)]
    anything = [jnp.broadcast_to(jnp.any(x, -1, keepdims=True), x.shape) for x in parts]
    return jnp.concatenate(anything, axis=-1)


def action_head(space: Space, kind: str = "normal") -> ActionHead:
    """The distribution for `space`, and how its samples become actions of the environment.

    The policy network outputs logits `[..., n]` for a Discrete space, logits `[..., sum(nvec)]`
    for a MultiDiscrete, and a tuple (mean, log_std), each `[..., *shape]`, for a Box. Samples u of
    a Box are in units of half its range. Which distribution they follow is `kind` (the setting
    `action_distribution`, which the other spaces ignore), and the environment gets

        "normal":       clip(middle + half u, low, high); clip(u, low, high) without finite bounds
        "tanh_normal":  middle + half tanh(u)

    rounded for an integer Box, and always in the space's dtype.

    Raises:
      TypeError: for any other space.
      ValueError: for any other kind, and for "tanh_normal" if a bound is infinite.
    """
    if kind not in ("normal", "tanh_normal"):
        raise ValueError(f"action_distribution must be 'normal' or 'tanh_normal', got {kind!r}")
    if isinstance(space, Discrete):
        return ActionHead(Categorical, functools.partial(_cast, dtype=space.dtype))
    if isinstance(space, MultiDiscrete):
        distribution = functools.partial(MultiCategorical, nvec=space.nvec)
        return ActionHead(distribution, functools.partial(_cast, dtype=space.dtype))
    if isinstance(space, Box):
        return _box_head(space, kind)
    raise TypeError(
        "there are action distributions only for jaxdrl's Discrete, MultiDiscrete and Box: got "
        f"{type(space).__name__}, {space!r}"
    )


def _box_head(space: Box, kind: str) -> ActionHead:
    if kind == "tanh_normal" and not space.bounded.all():
        raise ValueError(
            "action_distribution='tanh_normal' needs finite bounds, got "
            f"{space!r}: use action_distribution='normal'"
        )
    # With an infinite bound there is no range: the action is u itself, still clipped.
    # Halve before adding, because high - low may overflow.
    zero, one = np.zeros(space.shape), np.ones(space.shape)
    low, high = (np.where(space.bounded, b, zero).astype(float) for b in (space.low, space.high))
    middle, half = low / 2 + high / 2, np.where(space.bounded, high / 2 - low / 2, one)

    def distribution(outputs: tuple[jax.Array, jax.Array]) -> Distribution:
        mean, log_std = outputs
        family = Normal if kind == "normal" else TanhNormal
        return family(mean, log_std, len(space.shape))

    def to_env(u: jax.Array) -> jax.Array:
        def like_u(bound: np.ndarray[Any, Any]) -> jax.Array:
            return jnp.broadcast_to(jnp.asarray(bound, u.dtype), u.shape)

        unit = u if kind == "normal" else jnp.tanh(u)
        action = like_u(middle) + like_u(half) * unit
        # Clip after tanh as well: rounding may overshoot a bound.
        action = jnp.clip(action, like_u(space.low), like_u(space.high))
        # Round: truncation is biased towards zero and, after tanh, never gives the largest integer.
        return _cast(action if space.dtype.kind == "f" else jnp.round(action), space.dtype)

    return ActionHead(distribution, to_env)


def _cast(action: jax.Array, dtype: npt.DTypeLike) -> jax.Array:
    # An environment may declare float64, about which JAX warns unless x64 is enabled.
    return action.astype(jax.dtypes.canonicalize_dtype(dtype))


def _log_slope(u: jax.Array) -> jax.Array:
    """log(1 - tanh(u)^2), the log of the slope of tanh, finite for every finite u."""
    return 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))


def _sum_event(x: jax.Array, event_ndim: int) -> jax.Array:
    return jnp.sum(x, axis=tuple(range(-event_ndim, 0)))


def _check_shape(name: str, array: jax.Array, shape: tuple[int, ...]) -> None:
    chex.assert_shape(array, shape, custom_message=f"input 0 is {name}", exception_type=ValueError)
