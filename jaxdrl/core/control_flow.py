"""Loops and branches as the device at hand runs them fastest.

A GPU runs the steps of an environment as fast as it is given kernels, a few microseconds each,
and a loop or a branch that depends on data waits for the host to read its test. So there several
steps make one pass of a loop, and what is cheap is computed for all and chosen from. On any other
device nothing is computed in vain. `experiments/README.md` has what that gives on an H100.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params

STEPS = 4
"""Steps of environments in one pass; with 8 no more was gained, and compiling took longer."""

SUMS = 16
"""Steps of a running sum in one pass, which become one kernel."""

MAX_EQUATIONS = 3000
"""The largest step, in equations of its jaxpr, that is repeated: larger ones compile for minutes,
and give the GPU enough to do."""

WORTH_A_TEST = 5e8
"""Rows times parameters of a network from which its evaluation takes longer than a test."""


def on_gpu() -> bool:
    """Whether programs are for a GPU by default; for a mesh of other devices they are only slow."""
    return jax.default_backend() == "gpu"


def if_true(condition: jax.Array, function: Callable, *operands: Any) -> Any:
    """`function(*operands)` where the scalar `condition` holds, else `operands` as they are.

    A branch; on a GPU computed in any case and chosen.
    """
    if on_gpu():
        return jax.tree.map(partial(jnp.where, condition), function(*operands), operands)
    return jax.lax.cond(condition, function, lambda *operands: operands, *operands)


def steps_in_a_pass(step: Callable, carry: Any) -> int:
    """How often to unroll a `jax.lax.scan` of `step`: 1 but for a small one on a GPU."""
    if not on_gpu():
        return 1
    num = num_equations(jax.make_jaxpr(step)(carry, None).jaxpr)
    return STEPS if num <= MAX_EQUATIONS else 1


def sums_in_a_pass() -> int:
    """How often to unroll a `jax.lax.scan` that adds up."""
    return SUMS if on_gpu() else 1


def num_equations(jaxpr: Any) -> int:
    """Equations of a jaxpr and of all within it, a loop's once."""
    within = (inner for eqn in jaxpr.eqns for inner in jaxprs_in_params(eqn.params))
    return len(jaxpr.eqns) + sum(map(num_equations, within))
