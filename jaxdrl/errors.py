"""The error for input that is refused. Importing this module imports nothing."""

from __future__ import annotations


class ConfigError(Exception):
    """Input that is refused before anything is compiled; the message says what would work.

    It is not a `ValueError`, which the parser of the command line would wrap in its own message.
    """
