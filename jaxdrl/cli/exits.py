"""How a command ends: its exit code, and one message where it does not come to its end.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

from jaxdrl.errors import ConfigError
from jaxdrl.io.terminal import guarded_output
from jaxdrl.runs.stopping import NonFiniteError, OutOfMemoryError, RunInterruptedError, Signals

DONE = 0
"""The command did what it was asked to, or a signal stopped a run whose state is saved."""

FAILED = 1
"""It could not: numbers that are not finite, no memory, a file that cannot be written."""

REFUSED = 2
"""It was asked for what cannot be: nothing was trained. Above 128 it is 128 and the number of the
signal that ended the command with nothing saved."""


def answer(action: Callable[[], Any]) -> None:
    """Runs `action`; where it raises what is foreseen, ends with one message and an exit code.

    Raises:
      SystemExit: with one of the codes above, unless that is `DONE`.
    """
    with guarded_output(), Signals() as signals:
        words, code = outcome(action, signals)
        if signals.name is not None:  # schedulers send more than one
            signals.end()
        if words:
            print(words, file=sys.stderr)
        if code:
            sys.exit(code)


def outcome(action: Callable[[], Any], signals: Signals) -> tuple[str, int]:
    """`(last words, exit code)` of an action that signals may interrupt."""
    try:
        action()
    except ConfigError as error:
        return f"error: {error}", REFUSED
    except (NonFiniteError, OutOfMemoryError) as error:
        return f"error: {error}", FAILED
    except RunInterruptedError as error:
        return str(error), error.exit_code
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        return f"error: {where}{error.strerror or error}", FAILED
    except KeyboardInterrupt:
        return "interrupted", 128 + signal.Signals[signals.name or "SIGINT"]
    return "", DONE
