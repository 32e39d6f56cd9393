"""Data cannot style or steer a terminal, and an output that fails stops nothing."""

import ast
import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.live import Live
from rich.table import Table
from rich.text import Text

import jaxdrl
from jaxdrl.analysis.figures import make_figure, save_figure
from jaxdrl.io.console import labelled, make_console, say, warner, working
from jaxdrl.io.terminal import STYLES, Output, drawable, printable, wrapped

HOSTILE = [
    ("\x1b[31mred", "\\x1b[31mred"),
    ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
    ("\x9b2J", "\\x9b2J"),
    ("over\rwritten", "over\\rwritten"),
    ("\x08\x08\x7f", "\\x08\\x08\\x7f"),
    ("abc\u202edcba", "abc\\u202edcba"),
    ("\u2066x\u2069\u200b", "\\u2066x\\u2069\\u200b"),
    ("r\udcfcn", "r\\udcfcn"),
    ("\U000e0041", "\\U000e0041"),
]
HARMLESS = ["x[/y]", "a[b]", "[bold]b[/bold]", ":smile:", "ünï 日本", "[link=x]", "\\[x]"]


@pytest.fixture
def shown(monkeypatch):
    """`(console, what it has printed)`, as a terminal gets it or as a file does."""

    def make(is_terminal=False):
        stream = io.StringIO()
        stream.isatty = lambda: is_terminal
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setattr(sys, "stdout", stream)
        return make_console(), stream.getvalue

    return make


@pytest.mark.parametrize(("data", "words"), HOSTILE)
def test_what_a_terminal_would_obey_is_shown_instead(data, words, shown):
    assert printable(data) == words
    for is_terminal in (False, True):
        console, text = shown(is_terminal)
        table = Table("head " + data, box=None)
        table.add_row(data)
        table.add_row(Text(data))
        console.print(data, soft_wrap=True)
        console.print(Text(data), soft_wrap=True)
        console.print(table)
        warner(console)(data)
        with Live(Text(data), console=console, auto_refresh=False):
            pass
        assert text().count(words) >= 4  # of strings; rich takes some characters out of its texts
        for character in filter(lambda c: not c.isprintable() and c not in "\r\x1b", data):
            assert character not in text()
        assert "\x1b[31m" not in text()
        assert "over\r" not in text()


@pytest.mark.parametrize("data", HARMLESS)
def test_markup_in_data_is_text(data, shown):
    console, text = shown()
    table = Table(data, box=None)
    table.add_row(data)
    console.print(data, soft_wrap=True)
    console.print(table)
    console.print(labelled("warning:", data), soft_wrap=True)
    assert [line.strip() for line in text().splitlines()] == [data] * 3 + [f"warning: {data}"]
    assert printable(data) == data


def test_a_line_feed_in_a_name_begins_no_line_of_its_own():
    assert printable("a\nerror: b\tc") == "a\\nerror: b\\tc"
    assert printable("a\nb\r", keep="\n") == "a\nb\\r"


def test_styles_of_our_own_reach_a_terminal_and_no_file(shown):
    for is_terminal, count in ((True, 1), (False, 0)):
        console, text = shown(is_terminal)
        console.print(labelled("warning:", "x"))
        assert text().count("\x1b[33mwarning:\x1b[0m") == count


def test_prose_is_wrapped_between_words_on_a_terminal_alone(shown, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    path = "runs/" + "x" * 30
    words = Text.assemble("a return of ", ("12.5", "bold"), f" in {path}")
    for is_terminal, lines in ((True, ["a return of 12.5 in", path]), (False, [words.plain])):
        console, text = shown(is_terminal)
        say(console, words)
        say(console, "a\tb")
        printed = [STYLES.sub("", line).rstrip() for line in text().splitlines()]
        assert [line.expandtabs() for line in printed] == [*lines, "a       b"]


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ("", [""]),
        ("a b\n\n  c", ["a b", "", "  c"]),
        ("name another directory, please", ["name another", "directory, please"]),
        ("a long-winded-word-with-hyphens", ["a", "long-winded-word-with-hyphens"]),
        (
            "to do so: jaxdrl resume runs/a --devices 2; or not",
            ["to do so:", "jaxdrl resume runs/a --devices 2;", "or not"],
        ),
        (
            "with jaxdrl.resume('a', env=my_env) in Python",
            ["with", "jaxdrl.resume('a', env=my_env)", "in Python"],
        ),
        ("what jaxdrl has not done", ["what jaxdrl has", "not done"]),
        ("with pip install 'jaxdrl[a]' x", ["with", "pip install 'jaxdrl[a]' x"]),
        ("as `jaxdrl train a b c` makes", ["as", "`jaxdrl train a b c`", "makes"]),
    ],
)
def test_lines_are_broken_between_words_and_not_within_commands(words, lines):
    assert [words[start:end] for start, end in wrapped(words, 18)] == lines


def test_what_takes_long_is_announced_where_there_is_no_spinner(shown):
    for is_terminal in (True, False):
        console, text = shown(is_terminal)
        with working(console, "compiling"):
            assert is_terminal or text() == "compiling\n"
        assert ("\x1b" in text()) == is_terminal
        assert text().count("compiling") == 1


@pytest.mark.parametrize("title", [r"$\frac$", "$a$", "a$b", r"\$x^$", "_hidden", "x\x1b\n\ty"])
def test_a_title_is_no_formula(title, tmp_path):
    figure = make_figure(3, 2)
    axes = figure.subplots()
    axes.set_title(drawable(title))
    axes.plot([0, 1], label=drawable(title))
    legend = axes.legend()
    assert len(legend.get_texts()) == 1
    save_figure(figure, tmp_path / "x.png")


class Broken(io.StringIO):
    """A stream on which everything fails, in a way of its own."""

    def __init__(self, error):
        super().__init__()
        self.error, self.encoding_ = error, "ascii"

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error

    def isatty(self):
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EIO, "Input/output error"),
        ValueError("I/O operation on closed file"),
        RuntimeError("whatever stands in for a console"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_output_that_fails_stops_nothing(error, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(error))
    console = make_console()
    console.print("x")
    warner(console)("x")
    with console.status("x"), Live("y", console=console):
        pass
    assert not console.is_terminal


def test_an_output_that_was_closed_at_the_start_or_later(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stdout", stream)
        make_console().print("x")


def test_what_cannot_be_encoded_is_replaced(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    make_console().print("runs/ü: ▁█", soft_wrap=True)
    assert raw.getvalue() == b"runs/?: ??\n"


def test_a_disk_that_has_room_again_gets_what_comes_then(monkeypatch):
    stream = Broken(OSError(errno.ENOSPC, "full"))
    monkeypatch.setattr(sys, "stdout", stream)
    console = make_console()
    console.print("lost")
    stream.write = lambda text: io.StringIO.write(stream, text)
    console.print("there")
    assert stream.getvalue() == "there\n"


def test_text_of_others_keeps_its_colours_on_a_terminal_alone(monkeypatch):
    stream = io.StringIO()
    output = Output("stdout", stream, is_text=True)
    output.write("\x1b[1mhelp\x1b[0m \x1b[2J\x1b]0;x\x07\r\n")
    assert stream.getvalue() == "help \\x1b[2J\\x1b]0;x\\x07\\r\n"
    stream.isatty = lambda: True
    output.write("\x1b[1mhelp\x1b[0m\x1b[2J")
    assert stream.getvalue().endswith("\n\x1b[1mhelp\x1b[0m\\x1b[2J")


PROGRAM = """
import sys
from jaxdrl.errors import ConfigError
from jaxdrl.cli.exits import answer
def action():
    for line in range(2000):
        print("line", line, "\\xfc" * 20)
    open({path!r}, "w").write("went on")
    {end}
answer(action)
"""


@pytest.mark.parametrize("how", ["full", "closed", "ascii", "broken", "errors full"])
@pytest.mark.parametrize(("end", "code"), [("pass", 0), ("raise ConfigError('no')", 2)])
def test_a_command_ends_with_its_own_exit_code_whatever_its_output(how, end, code, tmp_path):
    path = tmp_path / "x"
    redirect = {
        "full": ">/dev/full 2>/dev/full",
        "closed": ">&- 2>&- <&-",
        "ascii": ">/dev/null",
        "broken": "| true",
        "errors full": "2>/dev/full",
    }[how]
    script = f'"$0" -c "$1" {redirect}; exit ${{PIPESTATUS[0]}}'
    program = PROGRAM.format(path=str(path), end=end)
    environ = os.environ | {"PYTHONIOENCODING": "ascii" if how == "ascii" else "utf-8"}
    command = ["bash", "-c", script, sys.executable, program]
    process = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert process.returncode == code
    assert path.read_text() == "went on"
    assert "Traceback" not in process.stderr
    assert "ignored" not in process.stderr


SIGNALLED = """
import atexit, os, signal
from jaxdrl.cli.exits import answer
from jaxdrl.runs.stopping import RunInterruptedError, Signals
def send(*names):
    for name in names:
        os.kill(os.getpid(), getattr(signal, name))
def run():
    with Signals() as signals, signals.held():
        send("SIGTERM", "SIGTERM")
        raise RunInterruptedError("saved", 0)
def saved():
    try:
        run()
    finally:
        send("SIGTERM", "SIGHUP")  # on the way out
def at_once():
    send({name!r})
    raise AssertionError
atexit.register(send, "SIGTERM", "SIGHUP", "SIGINT")
answer({action})
"""


@pytest.mark.parametrize(
    ("action", "name", "code", "words"),
    [
        ("saved", "", 0, "saved\n"),
        ("at_once", "SIGINT", 130, "interrupted\n"),
        ("at_once", "SIGTERM", 143, "interrupted\n"),
        ("at_once", "SIGHUP", 129, "interrupted\n"),
    ],
)
def test_signals_end_a_command_once(action, name, code, words):
    program = SIGNALLED.format(action=action, name=name)
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (code, words)


def prints_of(path):
    """What a module calls that prints, or that reads markup, other than its console's methods."""
    for node in ast.walk(ast.parse(path.read_text())):
        words = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        name = words.split(".")[-1]
        if name in ("print", "Console", "from_markup") and not words.endswith(
            ("console.print", "console().print")
        ):
            yield words


def test_everything_is_printed_by_the_one_console():
    found = {path.name: set(prints_of(path)) for path in Path(jaxdrl.__file__).parent.rglob("*.py")}
    assert {name: words for name, words in found.items() if words} == {
        "exits.py": {"print"},  # the last words, without rich
        "peers.py": {"print"},  # likewise, of a process that ends because of another
        "connect.py": {"print"},  # or that waits for others in vain
        "launch_processes.py": {"print"},  # without rich, since it is there before the processes
        "child_processes.py": {"print"},  # what they print
        "main.py": {"print"},  # versions, without rich
        "help.py": {"print"},  # what tyro prints, in lines that fit
    }
