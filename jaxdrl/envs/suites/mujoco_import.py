"""Imports packages that depend on MJX, without the lines that MJX prints if Warp is missing."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator

WORDS = ("Failed to import warp:", "Failed to import mujoco_warp:")
"""How the two lines begin; Warp is another backend for NVIDIA GPUs, which jaxdrl does not use."""


@contextlib.contextmanager
def without_warp() -> Iterator[None]:
    """A context that holds back what is printed in it, and then prints all but lines about Warp."""
    held = io.StringIO()
    try:
        with contextlib.redirect_stdout(held):
            yield
    finally:
        for line in held.getvalue().splitlines(keepends=True):
            if not line.startswith(WORDS):
                sys.stdout.write(line)
