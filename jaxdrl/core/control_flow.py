"""Loops and branches in the form that runs fastest on the device at hand.

A GPU steps an environment as fast as kernels are launched, which takes a few microseconds each,
and a loop or branch that depends on data waits until the host has read its condition. On a GPU,
therefore, loops are unrolled by several steps, and both sides of a cheap branch are computed and
one is selected. On any other device nothing is computed needlessly. `experiments/README.md` lists
what this gains on an H100.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params

STEPS = 4
"""How many environment steps are unrolled; 8 gained nothing more and took longer to compile."""

SUMS = 16
"""How many steps of a running sum are unrolled, so that they become one kernel."""

MAX_EQUATIONS = 3000
"""The largest step, in equations of its jaxpr, that is unrolled: larger ones would compile for
minutes, and they keep the GPU busy anyway."""

WORTH_A_TEST = 5e8
"""Rows times parameters above which evaluating a network costs more than testing a condition."""


def on_gpu() -> bool:
    """Whether JAX's default device is a GPU. On a mesh of other devices this costs only speed."""
    return jax.default_backend() == "gpu"


def if_true(condition: jax.Array, function: Callable, *operands: Any) -> Any:
    """`function(*operands)` if the scalar `condition` holds, otherwise `operands` unchanged.

    A branch, except on a GPU, where both are computed and one is selected.
    """
    if on_gpu():
        return jax.tree.map(partial(jnp.where, condition), function(*operands), operands)
    return jax.lax.cond(condition, function, lambda *operands: operands, *operands)


def steps_in_a_pass(step: Callable, carry: Any) -> int:
    """How far to unroll a `jax.lax.scan` of `step`: 1, unless the step is small and on a GPU."""
    if not on_gpu():
        return 1
    num = num_equations(jax.make_jaxpr(step)(carry, None).jaxpr)
    return STEPS if num <= MAX_EQUATIONS else 1


def sums_in_a_pass() -> int:
    """How far to unroll a `jax.lax.scan` that computes a running sum."""
    return SUMS if on_gpu() else 1


def num_equations(jaxpr: Any) -> int:
    """Number of equations in a jaxpr and its inner jaxprs; the body of a loop counts once."""
    within = (inner for eqn in jaxpr.eqns for inner in jaxprs_in_params(eqn.params))
    return len(jaxpr.eqns) + sum(map(num_equations, within))
