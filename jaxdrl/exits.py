"""How a command ends: its exit code, and one message where it does not come to its end.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

from jaxdrl.errors import ConfigError
from jaxdrl.stops import BadNumbersError, OutOfMemoryError, RunInterruptedError
from jaxdrl.terminal import guarded_output

DONE = 0
"""The command did what it was asked to, or a signal stopped a run whose state is saved."""

FAILED = 1
"""It could not: numbers that are not finite, no memory, a file that cannot be written."""

REFUSED = 2
"""It was asked for what cannot be: nothing was trained."""

INTERRUPTED = 128 + signal.SIGINT
"""Ctrl-C ended it with nothing saved; for another signal it is 128 and the signal's number."""


def answer(action: Callable[[], Any]) -> None:
    """Runs `action`; where it raises what is foreseen, ends with one message and an exit code.

    Raises:
      SystemExit: with one of the codes above, unless that is `DONE`.
    """
    with guarded_output():
        words, code = outcome(action)
        if words:
            print(words, file=sys.stderr)
        if code:
            sys.exit(code)


def outcome(action: Callable[[], Any]) -> tuple[str, int]:
    """`(last words, exit code)` of an action."""
    try:
        action()
    except ConfigError as error:
        return f"error: {error}", REFUSED
    except (BadNumbersError, OutOfMemoryError) as error:
        return f"error: {error}", FAILED
    except RunInterruptedError as error:
        return str(error), error.exit_code
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        return f"error: {where}{error.strerror or error}", FAILED
    except KeyboardInterrupt:
        return "interrupted", INTERRUPTED
    return "", DONE
