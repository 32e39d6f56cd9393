"""The gradient of a loss over all devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdrl.distributed import microbatches
from jaxdrl.distributed.collectives import mean_groups
from jaxdrl.distributed.groups import map_groups
from jaxdrl.distributed.layout import Layout, varying


@jax.named_scope("gradients")
def mean_gradient(
    layout: Layout,
    loss: Callable[[Any, Any], tuple[jax.Array, Any]],
    params: Any,
    batch: Any,
    num_microbatches: int | None = 1,
    row_length: int = 1,
) -> tuple[Any, Any]:
    """Gradient of the mean loss over all groups of all devices, and the mean of the auxiliaries.

    Args:
      layout: the layout.
      loss: `(params, batch of one group) -> (loss, auxiliaries)`, a mean over the batch.
      params: replicated parameters.
      batch: pytree of `[num_groups, ...]`; groups have equal sizes, so the mean of their means is
        the mean over all.
      num_microbatches: number of equal parts of a group's batch whose gradients are computed one
        after another, so that only one part's activations are in memory; None chooses by machine.
      row_length: number of samples in a row of the batch.

    Returns:
      `(gradient, auxiliaries)`, replicated, through one collective.
    """
    own_params = varying(layout, params)

    def of_microbatch(batch: Any) -> tuple[Any, Any]:
        (_, auxiliaries), gradient = jax.value_and_grad(loss, has_aux=True)(own_params, batch)
        return gradient, auxiliaries

    def of_group(batch: Any) -> tuple[Any, Any]:
        num_rows = jax.tree.leaves(batch)[0].shape[0]
        num = microbatches.num_parts(layout, num_rows, num_microbatches, row_length)
        if num == 1:
            return of_microbatch(batch)
        split = jax.tree.map(lambda x: x.reshape(num, -1, *x.shape[1:]), batch)

        def add(total: Any, part: Any) -> tuple[Any, Any]:
            gradient, auxiliaries = of_microbatch(part)
            return jax.tree.map(jnp.add, total, gradient), auxiliaries

        total, auxiliaries = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, own_params), split)
        mean = jax.tree.map(lambda x: x / num, total)
        return mean, jax.tree.map(lambda x: x.mean(axis=0), auxiliaries)

    return mean_groups(layout, map_groups(layout, of_group, batch))
