"""`jaxdrl watch` on a run of several processes."""

import contextlib
import dataclasses
import io
import os
import socket
import time

import pytest
from rich.console import Console

import jaxdrl
from jaxdrl.analysis import watch
from jaxdrl.analysis.watch_processes import MAX_ROWS, judged, render_processes, take_processes
from jaxdrl.cli import main
from jaxdrl.runs import processes_file
from jaxdrl.runs.locking import claim
from jaxdrl.runs.processes_file import Processes
from jaxdrl.runs.run_dir import RESULT_FILE
from small_runs import CARTPOLE

OWN_NAME = f"process {os.getpid()} on {socket.gethostname()}"


def report(process, **fields):
    common = {"host": "ab"[process // 2 % 2], "pid": os.getpid(), "phase": "updating"}
    common |= {"dispatched": 1234, "completed": 1233, "own_seconds": 0.002}
    common |= {"memory_bytes": 3 * 2**29, "idle_seconds": 0.2}
    return {"process": process, **common, **fields}


SLOW = [report(0), report(1), report(2, own_seconds=0.052), report(3)]
STUCK = [report(i, idle_seconds=34.0) for i in range(3)]
STUCK += [report(3, dispatched=1232, completed=1231, idle_seconds=36.0)]


def text_of(shown, width=100):
    output = io.StringIO()
    Console(file=output, width=width).print(render_processes(shown, width))
    return output.getvalue()


def colours_of(shown):
    """`{process: colour of its row}`."""
    output = io.StringIO()
    console = Console(file=output, width=100, force_terminal=True, color_system="standard")
    console.print(render_processes(shown, 100))
    rows = output.getvalue().splitlines()[1:]
    return {i: "yellow" if "\x1b[33m" in row else None for i, row in enumerate(rows)}


def test_a_row_for_each_process():
    header, *rows = text_of(judged(Processes(0.0, SLOW), 1.0, None)).splitlines()
    assert header.split() == [
        *("process", "host", "phase", "updates", "own", "ms", "memory", "idle")
    ]
    assert rows[2].split() == [
        *("2", "b", "updating", "1,233", "+1", "52.0", "1.5", "GiB", "0", "s")
    ]
    assert [row.split()[0] for row in rows] == ["0", "1", "2", "3"]


def test_what_is_not_known_yet_is_left_out():
    unknown = {"dispatched": 0, "completed": 0, "own_seconds": 0.0, "memory_bytes": 0}
    some = [report(i, phase="compiling", **unknown) for i in range(2)]
    shown = judged(Processes(0.0, some), 1.0, None)
    assert text_of(shown).splitlines()[1].split() == ["0", "a", "compiling", "0", "0", "s"]
    assert shown.warnings == ()


@pytest.mark.parametrize(
    ("reports", "age", "process", "words"),
    [
        (SLOW, 1.0, 2, "process 2 on host b spends 52 ms of each update outside the wait"),
        (STUCK, 1.0, 3, "process 3 on host b is stuck"),
        (SLOW, 12.0, 0, "no news of the processes for 12 s: process 0 on host a"),
    ],
    ids=["slow", "stuck", "silent"],
)
def test_the_one_at_fault_is_named_and_coloured(reports, age, process, words):
    shown = judged(Processes(1000.0, reports), 1000.0 + age, None)
    (warning,) = shown.warnings
    assert warning.startswith(words)
    assert colours_of(shown) == {i: "yellow" if i == process else None for i in range(4)}


def test_nobody_is_coloured_where_nobody_is_to_blame():
    shown = judged(Processes(0.0, STUCK[:3]), 1.0, None)
    (warning,) = shown.warnings
    assert "every process waits for its devices" in warning
    assert set(colours_of(shown).values()) == {None}


@pytest.mark.parametrize(
    ("update_seconds", "words"),
    [
        (None, "the others 2 ms: all wait for it"),
        (0.054, "the others 2 ms: all wait for it"),
        (0.2, "the others 2 ms: none waits for it yet, since an update takes 200 ms"),
    ],
)
def test_whether_the_others_wait_depends_on_what_an_update_takes(update_seconds, words):
    (warning,) = judged(Processes(0.0, SLOW), 1.0, update_seconds).warnings
    assert warning.endswith(words)


def test_in_a_narrow_terminal_names_are_cut_and_columns_left_out_but_no_figure_is():
    host = "ip-10-0-31-17.eu-central-1.compute.internal"
    shown = judged(Processes(0.0, [report(i, host=host) for i in range(2)]), 1.0, None)
    for width in (120, 80, 60, 50, 40, 30):
        lines = text_of(shown, width).splitlines()
        assert len(lines) == 3
        assert max(map(len, lines)) <= width
        assert lines[0].split()[:2] == ["process", "host"]
        assert " 2.0" in lines[1]
        assert ("…" in lines[1]) == (width < 100)
        assert ("updating" in lines[1]) == (width > 50)


def test_of_very_many_those_at_fault_have_a_row_and_the_rest_a_line():
    many = [
        report(i, own_seconds=0.05 if i in (40, 57) else 0.001 * (1 + i % 3)) for i in range(64)
    ]
    lines = text_of(judged(Processes(0.0, many), 1.0, None)).splitlines()
    rows = [int(line.split()[0]) for line in lines[1:-1]]
    assert rows == [*range(MAX_ROWS - 2), 40, 57]
    assert lines[-1] == "and 52 more, each with at most 3.0 ms of its own an update"


def test_a_name_cannot_write_to_the_terminal():
    shown = judged(Processes(0.0, [report(0, host="a\x1b[2J\n", phase="\rb")]), 1.0, None)
    assert "\x1b" not in text_of(shown)
    assert len(text_of(shown).splitlines()) == 2


# A run.


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    with contextlib.redirect_stdout(io.StringIO()):
        jaxdrl.run(dataclasses.replace(CARTPOLE, run_dir=path))
    return path


@pytest.fixture
def running(run_dir):
    """The run as it was before it had ended."""
    kept = run_dir / RESULT_FILE
    text = kept.read_text()
    kept.unlink()
    with claim(run_dir):
        yield run_dir
    kept.write_text(text)
    (run_dir / processes_file.PROCESSES_FILE).unlink(missing_ok=True)


def test_a_run_of_one_process_has_no_table(running, capsys):
    assert watch.take(running).processes is None
    main.main(["watch", str(running), "--once"])
    assert "process" not in capsys.readouterr().out.replace("by the process", "")


def test_the_command_shows_them(running, capsys):
    processes_file.write(running, SLOW)
    main.main(["watch", str(running), "--once"])
    printed = capsys.readouterr().out
    assert "warning: process 2 on host b spends 52 ms of each update" in printed
    assert "\nprocess  host  phase" in printed
    assert "\x1b" not in printed


def test_what_an_earlier_process_left_is_not_shown(running):
    processes_file.write(running, [report(0, pid=os.getpid() + 1), report(1)])
    assert watch.take(running).processes is None
    assert take_processes(running, OWN_NAME, 0.0, None) is None
    assert take_processes(running, None, 0.0, None) is not None


def test_how_they_were_when_a_run_was_stopped_is_shown_without_a_judgement(running, capsys):
    processes_file.write(running, STUCK, now=time.time() - 200)
    found = take_processes(running, None, time.time(), None)
    assert (found.warnings, found.faulty) == ((), frozenset())
    lines = text_of(found).splitlines()
    assert lines[0] == "the processes 3 min ago:"
    assert len(lines) == 6


def test_a_finished_run_does_not_show_them(run_dir):
    processes_file.write(run_dir, SLOW)
    try:
        found = watch.take(run_dir)
        assert (found.state, found.processes) == ("finished", None)
    finally:
        (run_dir / processes_file.PROCESSES_FILE).unlink()
