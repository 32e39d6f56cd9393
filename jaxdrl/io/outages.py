"""What is said of files that cannot be written for a while, such as on a full disk.

Importing this module imports nothing but Python's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Outage:
    """Says once that something cannot be written, and once that it can again.

    Attributes:
      num_failed: attempts in a row that failed.
    """

    def __init__(self, warn: Callable[[str], Any]) -> None:
        self.warn, self.num_failed = warn, 0

    def failed(self, words: str) -> None:
        """Notes an attempt that failed; `words` are said of the first in a row."""
        self.num_failed += 1
        if self.num_failed == 1:
            self.warn(words)

    def is_over(self, words: str) -> None:
        """Notes one that did not; `words` are said if the one before it failed."""
        if self.num_failed:
            self.warn(words)
        self.num_failed = 0
