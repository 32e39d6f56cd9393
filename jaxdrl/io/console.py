"""The console that everything is printed on.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from jaxdrl.io.terminal import Name, Output, printable, wrapped


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
    """Prints prose: wrapped between words on a terminal, as it is anywhere else."""
    text = words if isinstance(words, Text) else Text(printable(words, keep="\n\t"))
    if not console.is_terminal:
        console.print(text, soft_wrap=True)
        return
    for start, end in wrapped(text.plain, console.width):
        console.print(text[start:end], soft_wrap=True)


@contextlib.contextmanager
def working(console: Console, words: str) -> Iterator[None]:
    """Says what is being done meanwhile: beside a spinner on a terminal, as a line elsewhere."""
    if not console.is_terminal:
        console.print(words)
    with console.status(words):
        yield


def warner(console: Console, before: str = "") -> Callable[[str], None]:
    """A function that prints a warning on `console`, as one line unless that is a terminal."""
    return partial(_warn, console, before)


def _warn(console: Console, before: str, message: str) -> None:
    say(console, labelled("warning:", f"{before}{message}"))
