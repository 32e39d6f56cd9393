"""The samples of a gradient step on the experience of one update."""

from __future__ import annotations

from typing import Any

import jax
from flax import struct


@struct.dataclass
class Batch:
    """Samples for the loss, `[rows, L, ...]`: a minibatch, or those of all groups of a device.

    Rows are what is shuffled. A row is a sequence of `L` steps of one environment for a recurrent
    network, and a single step (`L = 1`) for a feed-forward one.

    Attributes:
      obs: observations in the environment's own dtype.
      action: sampled actions.
      log_prob: log-probabilities when they were sampled, float32.
      value: V(obs) before the update, float32.
      target: regression target of the value, float32.
      advantage: float32; `()` where the loss has none.
      episode_start: bool.
      carry: recurrent state before the first step of each row, `[rows, ...]`.
      weight: weight of the terms of the policy, float32: 1 for an active agent and 0 for another,
        and in a minibatch divided by the mean over all of it; `()` where all are active.
    """

    obs: Any
    action: Any
    log_prob: jax.Array
    value: jax.Array
    target: jax.Array
    advantage: Any
    episode_start: jax.Array
    carry: Any
    weight: Any = ()
