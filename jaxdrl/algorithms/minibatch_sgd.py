"""Epochs of minibatch gradient steps over the experience of one update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.algorithms import optimizers
from jaxdrl.algorithms.optimizers import Optimizer, step_if_finite
from jaxdrl.core.permutation import permutation
from jaxdrl.distributed.collectives import moments, weighted_moments
from jaxdrl.distributed.gradient import mean_gradient
from jaxdrl.distributed.layout import Layout, shard_ids

LOSS = "loss of the minibatch"
"""Name of the loss among the metrics of a minibatch, where the optimiser needs it."""


Loss = Callable[[Any, Any], tuple[jax.Array, dict[str, jax.Array]]]
"""`(params, minibatch of one group) -> (loss, metrics)`."""


@dataclass(frozen=True)
class Schedule:
    """How the experience of one update is used.

    Attributes:
      rows_per_env: rows that one environment contributes.
      num_epochs: passes over the experience.
      num_minibatches: gradient steps in one pass.
      num_accumulation_steps: microbatches into which a minibatch is split; None chooses by the
        machine.
      standardize_advantages: gives the advantages of each global minibatch mean 0 and standard
        deviation 1.
      target_kl: mean `approx_kl` of an epoch above which the remaining epochs are skipped; None
        never skips.
    """

    rows_per_env: int
    num_epochs: int
    num_minibatches: int
    num_accumulation_steps: int | None
    standardize_advantages: bool = False
    target_kl: Any = None


def minibatch_rows(
    layout: Layout, key: jax.Array, rows_per_env: int, num_minibatches: int, num_rows: int
) -> jax.Array:
    """Draws the rows of each minibatch: an equal random part of every logical shard.

    Every shard is permuted with a key folded with the shard's own id, so that a minibatch holds the
    same rows however the shards lie on the devices.

    Args:
      layout: the layout.
      key: the key of this epoch.
      rows_per_env: rows of each environment.
      num_minibatches: number of minibatches, which divides the rows of a shard.
      num_rows: rows on this device, in the order [group, time, environment].

    Returns:
      int32 `[num_minibatches, num_groups, rows]`.
    """
    group_rows = num_rows // layout.num_groups
    group_envs = group_rows // rows_per_env
    shard_envs = group_envs // layout.shards_per_group

    def of_shard(shard_id: jax.Array, group: jax.Array, shard: jax.Array) -> jax.Array:
        order = permutation(jax.random.fold_in(key, shard_id), rows_per_env * shard_envs)
        in_group = (order // shard_envs) * group_envs + shard * shard_envs + order % shard_envs
        return (group * group_rows + in_group).reshape(num_minibatches, -1)

    ids = shard_ids(layout)
    groups, shards = jnp.indices(ids.shape, dtype=jnp.int32)
    rows = jax.vmap(jax.vmap(of_shard))(ids, groups, shards)
    rows = jnp.moveaxis(rows, 2, 0)  # [minibatches, groups, shards of a group, rows of a shard]
    return rows.reshape(num_minibatches, layout.num_groups, -1)


def take(tree: Any, rows: jax.Array) -> Any:
    """Takes rows of arrays `[num_rows, ...]`, giving `[*rows.shape, ...]`."""
    return jax.tree.map(lambda x: x.at[rows].get(mode="promise_in_bounds"), tree)


def fit(
    layout: Layout,
    loss: Loss,
    optimizer: Optimizer,
    schedule: Schedule,
    fitted: tuple[Any, Any],
    batch: Any,
    key: jax.Array,
    learning_rate: Any,
) -> tuple[tuple[Any, Any], dict[str, jax.Array]]:
    """Takes `num_epochs * num_minibatches` gradient steps.

    Args:
      layout: the layout.
      loss: `(params, minibatch of one group) -> (loss, metrics)`, means over the minibatch;
        metrics must hold `approx_kl` where there is a target.
      optimizer: the optimiser.
      schedule: epochs and minibatches.
      fitted: `(params, opt_state)`, replicated.
      batch: the rows of this device, in the order [group, time, environment]: a `Batch`, or another
        dataclass with `log_prob` and, if they are to be standardised, `advantage`.
      key: consumed; replicated.
      learning_rate: the learning rate of this update.

    Returns:
      `((params, opt_state), metrics)`. The metrics are means over the gradient steps that were
      taken, except for `skipped_steps` and `nonfinite_params`, which count steps as in
      `optimizers.step_if_finite`.
    """
    step = partial(_gradient_step, layout, loss, optimizer, schedule, batch, learning_rate)

    # The key is carried: jax_debug_key_reuse mistakes a scan over keys under vmap for reuse.
    def epoch(carry: tuple, _: Any) -> tuple[tuple, dict[str, jax.Array]]:
        params, opt_state, key = carry
        shuffle_key, key = jax.random.split(key)
        minibatches = _minibatches(layout, schedule, batch, shuffle_key)
        (params, opt_state), sums = jax.lax.scan(step, (params, opt_state), minibatches)
        return (params, opt_state, key), jax.tree.map(jnp.sum, sums)

    carry, num_epochs = (*fitted, key), jnp.float32(schedule.num_epochs)
    if schedule.target_kl is None:
        carry, sums = jax.lax.scan(epoch, carry, length=schedule.num_epochs)
    else:
        carry, sums, num_epochs = _epochs_until(epoch, schedule, carry)
    return carry[:2], means_of_steps(sums, num_epochs * schedule.num_minibatches)


def means_of_steps(sums: dict[str, jax.Array], num_steps: jax.Array) -> dict[str, jax.Array]:
    """Metrics of `num_steps` gradient steps, from arrays of their sums: means over those taken."""
    metrics = jax.tree.map(jnp.sum, sums)
    counts = {name: metrics.pop(name) for name in ("skipped_steps", "nonfinite_params")}
    taken = num_steps - counts["skipped_steps"]
    return counts | jax.tree.map(lambda x: x / jnp.maximum(taken, 1.0), metrics)


def _gradient_step(
    layout: Layout,
    loss: Loss,
    optimizer: Optimizer,
    schedule: Schedule,
    batch: Any,
    learning_rate: Any,
    carry: tuple,
    minibatch: tuple,
) -> tuple[tuple, dict[str, jax.Array]]:
    """`((params, opt_state), metrics)` after one minibatch; metrics are 0 for a skipped step."""

    # Rows are gathered one microbatch at a time, so that no whole minibatch is ever in memory.
    def loss_of_rows(params: Any, part: tuple) -> tuple[jax.Array, dict[str, jax.Array]]:
        rows, standardized = part
        return loss(params, replace(take(batch, rows), **standardized))

    return gradient_step(
        layout,
        loss_of_rows,
        optimizer,
        carry,
        minibatch,
        learning_rate,
        num_microbatches=schedule.num_accumulation_steps,
        row_length=batch.log_prob.shape[1],
    )


def gradient_step(
    layout: Layout,
    loss: Loss,
    optimizer: Optimizer,
    fitted: tuple[Any, Any],
    minibatch: Any,
    learning_rate: Any,
    *,
    num_microbatches: int | None,
    row_length: int = 1,
    due: Any = None,
) -> tuple[tuple[Any, Any], dict[str, jax.Array]]:
    """One gradient step, `(fitted, metrics)`; metrics are 0 for a skipped step.

    Args:
      layout: the layout.
      loss: as in `fit`.
      optimizer: the optimiser.
      fitted: `(params, opt_state)`, replicated.
      minibatch: `[num_groups, ...]`.
      learning_rate: what the optimiser takes by this name.
      num_microbatches: as in `mean_gradient`.
      row_length: likewise.
      due: what the optimiser takes by this name.
    """
    needs_value = optimizers.VALUE in optimizer.takes

    def with_value(params: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        value, metrics = loss(params, batch)
        return value, metrics | ({LOSS: value} if needs_value else {})

    gradient, metrics = mean_gradient(
        layout, with_value, fitted[0], minibatch, num_microbatches, row_length=row_length
    )
    offered = {"learning_rate": learning_rate, "due": due}
    offered[optimizers.VALUE] = metrics.pop(LOSS, None)
    extra = {name: offered[name] for name in optimizer.takes}
    fitted, taken, of_step = step_if_finite(optimizer, gradient, extra, fitted)
    metrics = jax.tree.map(lambda x: jnp.where(taken, x, 0.0), metrics)
    return fitted, metrics | of_step


@jax.named_scope("shuffle")
def _minibatches(
    layout: Layout, schedule: Schedule, batch: Any, key: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Rows `[num_minibatches, num_groups, rows]` and their standardised fields of one epoch.

    The advantages `[..., L]` of all minibatches are standardised here at once, and so are the
    weights, so that the loop over minibatches needs no collective other than that of the gradient.
    """
    num_rows = batch.log_prob.shape[0]
    rows = minibatch_rows(layout, key, schedule.rows_per_env, schedule.num_minibatches, num_rows)
    if not isinstance(getattr(batch, "weight", ()), tuple):
        return rows, _weighted(layout, schedule, batch, rows)
    if not schedule.standardize_advantages:
        return rows, {}
    advantage = take(batch.advantage, rows)
    samples = advantage.reshape(*rows.shape[:2], -1)
    by_group = jnp.moveaxis(samples, 1, 0)  # [groups, minibatches, samples]
    mean, variance = moments(layout, by_group, axis=1)
    samples = (samples - mean[:, None, None]) / _deviation(variance)[:, None, None]
    return rows, {"advantage": samples.reshape(advantage.shape)}


def _weighted(
    layout: Layout, schedule: Schedule, batch: Any, rows: jax.Array
) -> dict[str, jax.Array]:
    """Weights with mean 1 over each minibatch, and advantages standardised with these weights."""

    def by_group(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(take(x, rows).reshape(*rows.shape[:2], -1), 1, 0)

    def by_minibatch(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x, 0, 1).reshape(*rows.shape, *batch.weight.shape[1:])

    weight = by_group(batch.weight)
    advantage = by_group(batch.advantage) if schedule.standardize_advantages else weight
    share, mean, variance = weighted_moments(layout, advantage, weight)
    # A minibatch without an active agent changes the value alone.
    found = {"weight": by_minibatch(weight / jnp.where(share > 0, share, 1.0)[None, :, None])}
    if schedule.standardize_advantages:
        deviation = _deviation(variance)[None, :, None]
        found["advantage"] = by_minibatch((advantage - mean[None, :, None]) / deviation)
    return found


def _deviation(variance: jax.Array) -> jax.Array:
    """The standard deviation; NaN, which makes the step be skipped, where it is not finite.

    An infinite one would make every advantage 0.
    """
    return jnp.where(jnp.isfinite(variance), jnp.sqrt(variance) + 1e-8, jnp.nan)


def _epochs_until(
    epoch: Callable, schedule: Schedule, carry: tuple
) -> tuple[tuple, dict[str, jax.Array], jax.Array]:
    """Runs epochs until the mean `approx_kl` of one exceeds the target; later sums are zero."""
    shapes = jax.eval_shape(lambda carry: epoch(carry, None)[1], carry)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def guarded(state: tuple, _: Any) -> tuple[tuple, tuple]:
        carry, stopped = state
        carry, sums = jax.lax.cond(
            stopped, lambda carry: (carry, nothing), lambda carry: epoch(carry, None), carry
        )
        taken = schedule.num_minibatches - sums["skipped_steps"]
        exceeds = sums["approx_kl"] > schedule.target_kl * taken
        return (carry, stopped | exceeds), (sums, ~stopped)

    state = (carry, jnp.zeros((), jnp.bool))
    (carry, _), (sums, ran) = jax.lax.scan(guarded, state, length=schedule.num_epochs)
    return carry, sums, ran.astype(jnp.float32).sum()
