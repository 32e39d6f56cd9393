"""What a policy acts by: an exported one takes no more, such as what its critic alone reads.

A policy is here a function `(obs) -> (action,)`, or with memory
`(obs, carry, episode_start) -> (action, carry)`, of any number of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdrl.core.trees import without

Function = Callable[..., tuple[Any, ...]]


class Unread(NamedTuple):
    """Entries of dictionaries that no action depends on.

    Attributes:
      obs: names in the observation.
      carry: names in the memory.
    """

    obs: tuple[str, ...] = ()
    carry: tuple[str, ...] = ()


def find_unread(policy: Function, shapes: tuple[Any, ...]) -> Unread:
    """What decides no action: neither the next one nor, by the memory, a later one.

    An observation or a memory that is not a dictionary is never left out, nor is all of one.

    Args:
      policy: the function, which is traced only.
      shapes: of its arguments.
    """
    # JAX keeps every argument of a program for any number of rows.
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), shapes)
    memory = _names(shapes[1]) if len(shapes) > 1 else ()
    unread = Unread(carry=memory)  # as if nothing came later
    while True:
        program = export_of(policy, shapes, unread, platforms=("cpu",))
        reads = [i in program.module_kept_var_idx for i in range(len(program.in_avals))]
        obs, *rest = jax.tree.unflatten(jax.tree.structure(shapes), reads)
        found = Unread(_nowhere(obs), _nowhere(rest[0]) if rest else ())
        if found.carry == unread.carry:
            parts = zip(found, (obs, rest[0] if rest else ()), strict=True)
            return Unread(*(() if names == _names(x) else names for names, x in parts))
        unread = found


def find_read(function: Function, learner: Any, shapes: tuple[Any, ...]) -> list[bool]:
    """Which of a learner's arrays, in the order of its leaves, decide what a function returns.

    Args:
      function: of the learner and the arguments, which is traced only.
      learner: arrays, or their shapes.
      shapes: of the arguments, for one row.
    """
    program = jax.export.export(jax.jit(function), platforms=("cpu",))(learner, *shapes)
    kept = program.module_kept_var_idx
    return [i in kept for i in range(len(jax.tree.leaves(learner)))]


def export_of(
    policy: Function, shapes: tuple[Any, ...], unread: Unread, platforms: tuple[str, ...]
) -> jax.export.Exported:
    """The policy as a program, which returns the action alone or no memory that is `unread`."""

    def results(*args: Any) -> Any:
        found = drop_results(unread, policy(*args))
        return found if len(found) > 1 else found[0]

    return jax.export.export(jax.jit(results), platforms=platforms)(*shapes)


def drop(unread: Unread, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments of the policy without what it does not read."""
    obs, *rest = args
    rest = [without(rest[0], unread.carry), *rest[1:]] if rest else []
    return without(obs, unread.obs), *rest


def drop_results(unread: Unread, results: tuple[Any, ...]) -> tuple[Any, ...]:
    """What the policy returns, without the memory that it does not read."""
    action, *rest = results
    return action, *(without(carry, unread.carry) for carry in rest)


def alone(policy: Function, shapes: tuple[Any, ...], unread: Unread) -> Function:
    """The policy as a function of `drop(unread, arguments)`, with zeros in place of the others."""

    def function(*args: Any) -> tuple[Any, ...]:
        num_rows = jax.tree.leaves(args[0])[0].shape[0]

        def zeros(x: Any) -> jax.Array:
            return jnp.zeros((num_rows, *x.shape[1:]), x.dtype)

        def whole(given: Any, shape: Any, names: tuple[str, ...]) -> Any:
            return given | {n: jax.tree.map(zeros, shape[n]) for n in names} if names else given

        obs, *rest = args
        rest = [whole(rest[0], shapes[1], unread.carry), *rest[1:]] if rest else []
        return policy(whole(obs, shapes[0], unread.obs), *rest)

    return function


def _names(tree: Any) -> tuple[str, ...]:
    return tuple(sorted(tree)) if isinstance(tree, dict) else ()


def _nowhere(reads: Any) -> tuple[str, ...]:
    """Names of the entries in which nothing is true."""
    return tuple(name for name in _names(reads) if not any(jax.tree.leaves(reads[name])))
