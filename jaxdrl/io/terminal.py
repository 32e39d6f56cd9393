"""What goes to the terminal: no data can style or steer it, and no output that fails stops a run.

Importing this module imports nothing but Python's own.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, Literal

Name = Literal["stdout", "stderr"]

STYLES = re.compile(r"(\x1b\[[0-9;]*m)")
"""Escape sequences that do no more than colour what follows."""


def printable(text: object, keep: str = "") -> str:
    r"""`str(text)` with what a terminal would obey or not show as Python's `repr` writes it.

    These are control characters (escape, carriage return, line feed, ...), marks that turn the
    direction of writing, invisible characters, and bytes of a path that are no text.

    Args:
      text: any data.
      keep: characters that stay, such as a line feed.

    >>> printable("a\x1b[31mb\r")
    'a\\x1b[31mb\\r'
    """
    words = str(text)
    if words.isprintable():
        return words
    return "".join(c if c in keep or c.isprintable() else ascii(c)[1:-1] for c in words)


def drawable(text: object) -> str:
    """`printable`, for a picture: a dollar sign begins no formula, and `_` hides no label."""
    words = printable(text).replace("$", r"\$")
    return f" {words}" if words.startswith("_") else words


class Output:
    """A standard stream that never raises; what cannot be written is dropped.

    It is whatever `sys.stdout` or `sys.stderr` is at the time of writing. Each write is a try of
    its own, so that a disk that has room again gets what comes then. Characters that the stream
    cannot encode become question marks.

    Args:
      name: of the stream.
      stream: a stream instead of the standard one.
      is_text: the text is not ours: of its escape sequences only colours for a terminal stay.
    """

    def __init__(self, name: Name, stream: Any = None, *, is_text: bool = False) -> None:
        self.name, self.is_text = name, is_text
        self.own = stream

    @property
    def stream(self) -> Any:
        """The stream below; None where it was closed when the process began."""
        found = getattr(sys, self.name) if self.own is None else self.own
        found = getattr(found, "rich_proxied_file", found)
        while isinstance(found, Output):
            found = found.own
        return found

    def write(self, text: str) -> int:
        """Writes what can be written; the length of `text`."""
        stream = self.stream
        if self.is_text:
            text = self._without_commands(text)
        with contextlib.suppress(Exception):
            try:
                stream.write(text)
            except UnicodeEncodeError:
                encoding = stream.encoding
                stream.write(text.encode(encoding, "replace").decode(encoding))
        return len(text)

    def _without_commands(self, text: str) -> str:
        if not self.isatty():
            return printable(STYLES.sub("", text), keep="\n\t")
        parts = STYLES.split(text)  # every second one is a style
        return "".join(p if i % 2 else printable(p, keep="\n\t") for i, p in enumerate(parts))

    def flush(self) -> None:
        """Flushes what can be flushed."""
        with contextlib.suppress(Exception):
            self.stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal; not where that cannot be told."""
        with contextlib.suppress(Exception):
            return bool(self.stream.isatty())
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def guarded_output() -> Iterator[None]:
    """Within it, nothing that a command prints fails; for the main program of a process alone.

    Descriptors 0 to 2 that are closed are opened on the null device, or the next file of the run
    would get such a number, and libraries would write their messages into it. At the end, what a
    stream could not take is discarded: Python would try it again at its exit and fail for it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    before = sys.stdout, sys.stderr
    sys.stdout = Output("stdout", before[0], is_text=True) if before[0] else before[0]  # type: ignore[assignment]
    sys.stderr = Output("stderr", before[1], is_text=True) if before[1] else before[1]  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in before:
            _settle(stream)


def _settle(stream: Any) -> None:
    """Flushes a stream; where that fails, what it holds goes to the null device."""
    try:
        if stream is not None:
            stream.flush()
    except Exception:  # of whatever stands in for a stream
        with contextlib.suppress(Exception):
            target = stream.fileno()
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, target)
            os.close(null)
