"""Warnings about files that cannot be written for a while, such as on a full disk.

Importing this module imports only Python's standard library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Outage:
    """Warns once when something cannot be written, and once when it can be written again.

    Attributes:
      num_failed: number of consecutive failed attempts.
    """

    def __init__(self, warn: Callable[[str], Any]) -> None:
        self.warn, self.num_failed = warn, 0

    def failed(self, words: str) -> None:
        """Records a failed attempt; warns with `words` if it is the first in a row."""
        self.num_failed += 1
        if self.num_failed == 1:
            self.warn(words)

    def is_over(self, words: str) -> None:
        """Records a successful attempt; warns with `words` if the one before it failed."""
        if self.num_failed:
            self.warn(words)
        self.num_failed = 0
