"""A greedy policy compiled for a few batch sizes, which takes any number of rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.analysis.policy_function import PolicyFunction
from jaxdrl.analysis.policy_inputs import find_read
from jaxdrl.core.types import LearnerState


class CompiledPolicy:
    """Acts on any number of rows with one program for each of a few batch sizes.

    Rows are padded with copies of the first one up to the next size, and more rows than the largest
    size are taken in parts, so that nothing is compiled after the start. It can be called from
    several threads.

    Args:
      function: what is compiled.
      learner: one with the shapes of all that it will act with; it is not kept.
      sizes: the batch sizes.
    """

    def __init__(
        self, function: PolicyFunction, learner: LearnerState, sizes: tuple[int, ...]
    ) -> None:
        self.function, self.sizes = function, tuple(sorted(set(sizes)))
        shapes, structure = jax.tree.flatten(jax.eval_shape(lambda x: x, learner))
        one_row = _of_size(function.taken, 1)
        reads = find_read(function.act_on_taken, jax.tree.unflatten(structure, shapes), one_row)
        # Keys are kept in any case: they take no room, and there are no zeros of their kind.
        self._is_kept = [
            is_read or jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
            for is_read, x in zip(reads, shapes, strict=True)
        ]

        def act(part: list[Any], *args: Any) -> tuple[Any, ...]:
            kept, given = self._is_kept, iter(part)
            leaves = [
                next(given) if keep else jnp.zeros(x.shape, x.dtype)
                for keep, x in zip(kept, shapes, strict=True)
            ]
            return function.act_on_taken(jax.tree.unflatten(structure, leaves), *args)

        part = list(compress(shapes, self._is_kept))
        jitted = jax.jit(act)
        self._programs = {
            size: jitted.lower(part, *_of_size(function.taken, size)).compile()
            for size in self.sizes
        }

    def part_of(self, learner: LearnerState) -> list[jax.Array]:
        """The arrays of a learner that it acts by, on the device; what decides no action is not."""
        part = list(compress(jax.tree.leaves(learner), self._is_kept))
        return jax.block_until_ready(jax.device_put(part, jax.local_devices()[0]))

    @property
    def dtypes(self) -> Any:
        """Of the observations that it takes."""
        return jax.tree.map(lambda x: x.dtype, self.function.taken[0])

    def initial_carry(self, num: int) -> Any:
        """The recurrent state of `num` rows before their first step; `()` without memory."""
        if not self.function.has_memory:
            return ()
        carry = self.function.taken[1]
        return jax.tree.map(lambda x: np.zeros((num, *x.shape[1:]), x.dtype), carry)

    def rehearse(self, part: list[jax.Array]) -> None:
        """Acts once with the part of a learner, on zeros.

        Raises:
          TypeError: if it has other shapes than that which it was compiled for.
        """
        obs = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), _of_size(self.function.taken, 1))
        self.act(part, obs[0], self.initial_carry(1), np.ones(1, bool))

    def act(
        self, part: list[jax.Array], obs: Any, carry: Any, episode_start: np.ndarray
    ) -> tuple[np.ndarray, Any]:
        """`(action [N, ...], carry)` of rows, as arrays of NumPy.

        Args:
          part: of the learner that it acts with, from `part_of`.
          obs: `[N, ...]`, without what decides no action.
          carry: recurrent state of each row, `()` without memory.
          episode_start: bool `[N]`: where it is true, the recurrent state is reset first.
        """
        args = (obs, carry, episode_start) if self.function.has_memory else (obs,)
        parts = []
        for start, stop, size in self._parts(len(episode_start)):
            rows = jax.tree.map(lambda x, a=start, b=stop, n=size: _padded(x[a:b], n), args)
            result = jax.device_get(self._programs[size](part, *rows))
            parts.append(jax.tree.map(lambda x, n=stop - start: x[:n], result))
        joined = parts[0] if len(parts) == 1 else jax.tree.map(_join, *parts)
        return joined[0], (joined[1] if self.function.has_memory else ())

    def _parts(self, num: int) -> Iterator[tuple[int, int, int]]:
        """`(start, stop, batch size)` of the programs that `num` rows take; one for no rows."""
        largest = self.sizes[-1]
        for start in range(0, max(num, 1), largest):
            stop = min(num, start + largest)
            yield start, stop, next(size for size in self.sizes if size >= stop - start)


def _of_size(shapes: Any, size: int) -> Any:
    """Shapes for any number of rows as those of `size` rows."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), shapes)


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    num = size - len(rows)
    if num == 0:
        return rows
    row = rows[:1] if len(rows) else np.zeros((1, *rows.shape[1:]), rows.dtype)
    return np.concatenate([rows, np.repeat(row, num, axis=0)])


def _join(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts)
