"""How a command ends: its exit code, and a single message if it fails.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from jaxdrl.config.acting import THREAD
from jaxdrl.errors import ActorError, ConfigError, is_said
from jaxdrl.io.terminal import guarded_output, wrapped
from jaxdrl.runs.stopping import NonFiniteError, OutOfMemoryError, RunInterruptedError, Signals

DONE = 0
"""The command succeeded, or a signal stopped a run whose state is saved."""

FAILED = 1
"""The command failed: non-finite values, out of memory, or a file that cannot be written."""

REFUSED = 2
"""The request is invalid, and nothing was trained. Codes above 128 are 128 plus the number of the
signal that ended the command with nothing saved; 75 says that another process of the run has
failed, and that all of them may be started again."""


def answer(action: Callable[[], Any]) -> None:
    """Runs `action`; if it raises an expected error, ends with one message and an exit code.

    Raises:
      SystemExit: with one of the codes above, unless that is `DONE`.
    """
    with guarded_output(), Signals() as signals:
        words, code = outcome(action, signals)
        if signals.name is not None:  # schedulers send more than one
            signals.end()
        if words:
            print(_fitted(words), file=sys.stderr)
        if any(thread.name.startswith(THREAD) for thread in threading.enumerate()):
            end_at_once(code)
        if code:
            sys.exit(code)


def _fitted(words: str) -> str:
    """The last message, wrapped between words for a terminal and as one line for anything else."""
    with contextlib.suppress(Exception):  # of any kind, because any object may replace a stream
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns
            return "\n".join(words[start:end] for start, end in wrapped(words, width))
    return words


def end_at_once(code: int) -> NoReturn:
    """Ends this process although an actor was left behind, which compiles or whose step hangs.

    If it came back while Python ends in good order, it would crash.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def outcome(action: Callable[[], Any], signals: Signals) -> tuple[str, int]:
    """Runs an action that signals may interrupt: `(last message, exit code)`."""
    try:
        action()
    except ConfigError as error:
        return _unless_said(error, f"error: {error}"), REFUSED
    except (NonFiniteError, OutOfMemoryError, ActorError) as error:
        return _unless_said(error, f"error: {error}"), FAILED
    except RunInterruptedError as error:
        return _unless_said(error, str(error)), error.exit_code
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        return f"error: {where}{error.strerror or error}{_works_for(error)}", FAILED
    except KeyboardInterrupt:
        return "interrupted", 128 + signal.Signals[signals.name or "SIGINT"]
    return "", DONE


def _works_for(error: OSError) -> str:
    """What to do where a library finds no directory for temporary files, which importing it needs.

    Several look for one, and the error of Python's `tempfile` has no type of its own.
    """
    try:
        tempfile.gettempdir()
    except OSError as missing:
        if error.args == missing.args:
            return "; set TMPDIR to a directory that can be written and has room"
    return ""


def _unless_said(error: Exception, words: str) -> str:
    """The words, none where all processes of a run end with the error and process 0 says so."""
    return "" if is_said(error) else words
