"""Output to the terminal: no data can style or control it, and no failing output stops a run.

Importing this module imports only Python's standard library.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, Literal

Name = Literal["stdout", "stderr"]

STYLES = re.compile(r"(\x1b\[[0-9;]*m)")
"""Escape sequences that only style the text that follows."""


def printable(text: object, keep: str = "") -> str:
    r"""`str(text)` with characters that a terminal would obey or not show escaped, as by `repr`.

    These are control characters (escape, carriage return, line feed, ...), marks that change the
    direction of writing, invisible characters, and bytes of a path that are not text.

    Args:
      text: any data.
      keep: characters that are not escaped, such as a line feed.

    >>> printable("a\x1b[31mb\r")
    'a\\x1b[31mb\\r'
    """
    words = str(text)
    if words.isprintable():
        return words
    return "".join(c if c in keep or c.isprintable() else ascii(c)[1:-1] for c in words)


def wrapped(text: str, width: int) -> Iterator[tuple[int, int]]:
    """Where the lines of prose begin and end if it is broken between words to fit a width.

    Commands to copy stay whole, as do words that are longer than a line, such as paths.
    """
    whole = COMMANDS.sub(lambda found: found[0].replace(" ", "_"), text)
    begin = 0
    for line in text.split("\n"):
        end, last = begin, begin + len(line)
        for part in textwrap.wrap(whole[begin:last], width, **AS_IT_IS):
            start = whole.index(part, end)
            end = start + len(part)
            yield start, end
        if not line:
            yield begin, begin
        begin = last + 1


def drawable(text: object) -> str:
    """`printable` for matplotlib, where a dollar sign starts a formula and `_` hides a label."""
    words = printable(text).replace("$", r"\$")
    return f" {words}" if words.startswith("_") else words


VERBS = (
    *("train", "sweep", "resume", "launch", "evaluate", "plot", "render"),
    *("export", "watch", "serve", "doctor", "envs", "check"),
)
"""Those of `jaxdrl`, by which its commands are told from sentences about it."""

COMMANDS = re.compile(
    rf"\b(?:jaxdrl (?:{'|'.join(VERBS)})|pip install) [^\n;,]*"
    r"|\bjaxdrl\.\w+\([^\n]*\)|`[^`\n]*`"
)
"""Commands and calls in messages."""

AS_IT_IS: dict[str, Any] = {
    "break_long_words": False,
    "break_on_hyphens": False,
    "expand_tabs": False,
    "replace_whitespace": False,
}
"""What keeps all characters but the spaces at which a line is broken."""


class Output:
    """A standard stream that never raises; what cannot be written is dropped.

    It writes to whatever `sys.stdout` or `sys.stderr` is at the time. Each write is tried anew, so
    that output continues once a full disk has room again. Characters that the stream cannot encode
    become question marks.

    Args:
      name: name of the stream.
      stream: a stream to use instead of the standard one.
      is_text: whether to escape all terminal commands in the text but colours for a terminal.
    """

    def __init__(self, name: Name, stream: Any = None, *, is_text: bool = False) -> None:
        self.name, self.is_text = name, is_text
        self.own = stream

    @property
    def stream(self) -> Any:
        """The underlying stream; None if it was closed when the process started."""
        found = getattr(sys, self.name) if self.own is None else self.own
        found = getattr(found, "rich_proxied_file", found)
        while isinstance(found, Output):
            found = found.own
        return found

    def write(self, text: str) -> int:
        """Writes what can be written, and returns the length of `text`."""
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
        """Whether it is a terminal; False if that cannot be determined."""
        with contextlib.suppress(Exception):
            return bool(self.stream.isatty())
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def guarded_output() -> Iterator[None]:
    """A context in which no output of a command fails; only for the main program of a process.

    If one of the descriptors 0 to 2 is closed, it is opened on the null device: otherwise the next
    file of the run would get its number, and libraries would write their messages into that file.
    At the end, output that a stream could not take is discarded, because Python would try to write
    it again on exit and fail.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
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
    """Flushes a stream; if that fails, its buffer goes to the null device."""
    try:
        if stream is not None:
            stream.flush()
    except Exception:  # of any kind, because any object may replace a stream
        with contextlib.suppress(Exception):
            target = stream.fileno()
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, target)
            os.close(null)
