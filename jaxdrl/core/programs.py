"""A cache of compiled programs, which drops those that are no longer used."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax

MAX_PROGRAMS = 16
"""How many are kept at once; the least recently used is dropped first."""


@lru_cache(maxsize=MAX_PROGRAMS)
def program(
    function: Callable[..., Any],
    static: tuple[str, ...],
    *bound: Any,
    donated: tuple[str, ...] = (),
) -> Callable:
    """`function` with its first arguments bound, under `jax.jit`; equal calls share one program.

    If a policy were a static argument of one jitted function, its program would stay in memory
    until the process ends. Bound here, it is dropped together with its program.

    Args:
      function: a pure function.
      static: names of arguments that shape the program.
      *bound: hashable values, such as a policy and the functions of an environment.
      donated: names of arguments whose memory the results take over.
    """
    return jax.jit(partial(function, *bound), static_argnames=static, donate_argnames=donated)
