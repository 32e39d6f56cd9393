"""What is refused, and how it is said. Importing this module imports nothing."""

from __future__ import annotations


class ConfigError(Exception):
    """Input that is refused before anything is compiled; the message says what would work.

    Not a `ValueError`, which the parser of the command line would wrap in a message of its own.
    """
