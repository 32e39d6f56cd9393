"""Action distributions, and which one each action space gets: a categorical or a normal.

A distribution is a pytree that holds a batch of parameters `[..., event]`. `sample(key)` draws
one event for each element of the batch from one key, which is consumed; for one key per
environment, `vmap` over keys and distribution. Log-probabilities and entropies have the shape of
the batch and the dtype of the parameters, and are in nats. A wrong shape raises ValueError when
the function is traced.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jaxdrl.core.normals import Normal, TanhNormal
from jaxdrl.core.shapes import require_shape
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
        require_shape("action", action, self.logits.shape[:-1])
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
        require_shape("action", action, (*self.logits.shape[:-1], len(self.nvec)))
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
    require_shape("action_mask", allowed, logits.shape)
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
