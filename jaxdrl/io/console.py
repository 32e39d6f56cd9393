"""The console that everything is printed on.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from jaxdrl.io.terminal import Name, Output, printable


class _PlainConsole(Console):
    """A console that treats strings as text without markup, and prints no terminal commands."""

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(printable(text, keep="\n\t"), **how)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(printable(text, keep="\n\t"), style)


def make_console(name: Name = "stdout", *, quiet: bool = False) -> Console:
    """The console for everything that jaxdrl prints; strings have no markup, and it never raises.

    Styles come from `rich.text.Text` and from `style=`. In a notebook it prints plain text line by
    line, because live displays need ipywidgets there and warn without it.

    Args:
      name: name of the stream.
      quiet: whether to print nothing.
    """
    plain: dict[str, Any] = {"markup": False, "highlight": False, "emoji": False, "quiet": quiet}
    found = _PlainConsole(file=Output(name), **plain)  # type: ignore[arg-type]
    if not found.is_jupyter:
        return found
    return _PlainConsole(
        file=Output(name),  # type: ignore[arg-type]
        force_jupyter=False,
        force_terminal=False,
        **plain,
    )


def labelled(label: str, words: str, style: str = "yellow") -> Text:
    """A line that begins with a styled label."""
    return Text.assemble((label, style), " ", printable(words, keep="\n\t"))


def say(console: Console, words: str | Text) -> None:
    """Prints prose, which a terminal gets wrapped between words, never within a path."""
    text = words if isinstance(words, Text) else Text(printable(words, keep="\n\t"))
    for line in text.split("\n"):
        parts = _between_words(line, console.width) if console.is_terminal else [line]
        for part in parts:
            console.print(part, soft_wrap=True)


def _between_words(line: Text, width: int) -> Iterator[Text]:
    """Parts of a line that fit, unless a single word does not."""
    as_it_is = ("break_long_words", "break_on_hyphens", "expand_tabs", "replace_whitespace")
    unchanged: dict[str, Any] = dict.fromkeys(as_it_is, False)
    end = 0
    for part in textwrap.wrap(line.plain, width, **unchanged):
        start = line.plain.index(part, end)
        end = start + len(part)
        yield line[start:end]


@contextlib.contextmanager
def working(console: Console, words: str) -> Iterator[None]:
    """Says what is being done meanwhile: beside a spinner on a terminal, as a line elsewhere."""
    if not console.is_terminal:
        console.print(words)
    with console.status(words):
        yield


def warner(console: Console, before: str = "") -> Callable[[str], None]:
    """A function that prints a warning as one line on `console`."""
    return partial(_warn, console, before)


def _warn(console: Console, before: str, message: str) -> None:
    console.print(labelled("warning:", f"{before}{message}"), soft_wrap=True)
