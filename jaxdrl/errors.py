"""The error for input that is refused. Importing this module imports nothing."""

from __future__ import annotations


class ConfigError(Exception):
    """Input that is refused before anything is compiled; the message says what would work.

    It is not a `ValueError`, which the parser of the command line would wrap in its own message.
    """


def note_said(error: BaseException) -> None:
    """Notes that another process of the run says the error, so that this one need not."""
    vars(error)["is_said"] = True


def is_said(error: BaseException) -> bool:
    """Whether another process of the run says the error."""
    return "is_said" in vars(error)


class ActorError(Exception):
    """The environments of an actor have failed again and again, and the run has stopped."""
