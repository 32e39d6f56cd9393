"""Epsilon-greedy exploration of algorithms that learn action values."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp

from jaxdrl.core.shapes import require_shape


@flax.struct.dataclass
class EpsilonGreedy:
    """The greedy action, or with probability `epsilon` any allowed action, all equally likely.

        p(a) = epsilon / (number of allowed actions) + (1 - epsilon) [a is greedy]

    over the allowed actions, 0 for all others. The greedy action is the first with the largest
    action value. Sutton and Barto 2018, section 2.2.

    Attributes:
      q_values: action values, float `[..., A]`; -inf forbids an action.
      epsilon: probability of exploring, float `[...]`.
    """

    q_values: jax.Array
    epsilon: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        """Draw int32 `[...]`; the key is consumed."""
        self._check(self.epsilon, "epsilon")
        explores, which = jax.random.uniform(key, (2, *self.epsilon.shape))
        allowed = self._allowed()
        # The action before which there are floor(which * number of allowed actions) allowed ones.
        index = jnp.floor(which * self._num_allowed()).astype(jnp.int32)
        is_later = jnp.cumsum(allowed, axis=-1, dtype=jnp.int32) > index[..., None]
        any_allowed = jnp.argmax(is_later, axis=-1).astype(jnp.int32)
        return jnp.where(explores < self.epsilon, any_allowed, self.mode())

    def log_prob(self, action: jax.Array) -> jax.Array:
        """The log-probability of `action`, an integer array `[...]` in 0..A-1; `[...]`.

        It is -inf for a forbidden action, and where epsilon is 0 for all but the greedy one.
        """
        self._check(action, "action")
        return jnp.log(jnp.take_along_axis(self._probs(), action[..., None], axis=-1)[..., 0])

    def entropy(self) -> jax.Array:
        """The entropy, -sum_a p_a log p_a, `[...]`."""
        probs = self._probs()
        return -jnp.sum(probs * jnp.log(jnp.where(probs > 0.0, probs, 1.0)), axis=-1)

    def mode(self) -> jax.Array:
        """The greedy action, int32 `[...]`."""
        return jnp.argmax(self.q_values, axis=-1).astype(jnp.int32)

    def _allowed(self) -> jax.Array:
        return ~jnp.isneginf(self.q_values)

    def _num_allowed(self) -> jax.Array:
        return self._allowed().sum(axis=-1, dtype=jnp.int32).astype(self.epsilon.dtype)

    def _probs(self) -> jax.Array:
        """The probabilities of all actions, `[..., A]`."""
        self._check(self.epsilon, "epsilon")
        explored = jnp.where(self._allowed(), (self.epsilon / self._num_allowed())[..., None], 0.0)
        greedy = jax.nn.one_hot(self.mode(), self.q_values.shape[-1], dtype=explored.dtype)
        return explored + greedy * (1.0 - self.epsilon)[..., None]

    def _check(self, array: jax.Array, name: str) -> None:
        require_shape(name, array, self.q_values.shape[:-1])
