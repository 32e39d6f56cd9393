"""The import of packages that bring MJX, without what MJX prints where Warp is not installed."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator

WORDS = ("Failed to import warp:", "Failed to import mujoco_warp:")
"""How the two lines begin: of another way to compute on NVIDIA's GPUs, which we do not use."""


@contextlib.contextmanager
def without_warp() -> Iterator[None]:
    """Holds back what is printed within it, and prints all but lines about Warp at its end."""
    held = io.StringIO()
    try:
        with contextlib.redirect_stdout(held):
            yield
    finally:
        for line in held.getvalue().splitlines(keepends=True):
            if not line.startswith(WORDS):
                sys.stdout.write(line)
