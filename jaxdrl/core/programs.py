"""Compiled programs that are used again, and let go once they are not."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax

MAX_PROGRAMS = 16
"""That are kept at once; the one that was not used for the longest time goes first."""


@lru_cache(maxsize=MAX_PROGRAMS)
def program(function: Callable[..., Any], static: tuple[str, ...], *bound: Any) -> Callable:
    """`function` with its first arguments bound, under `jax.jit`; for the same ones the same.

    A policy as a static argument of one jitted function would keep its program until the process
    ends; as an argument that is bound here it is let go with it.

    Args:
      function: pure.
      static: names of arguments that shape the program.
      *bound: hashable, such as a policy and the functions of an environment.
    """
    return jax.jit(partial(function, *bound), static_argnames=static)
