"""Processes that run together: they end together, and their output is copied line by line.

Importing this module imports only Python's standard library.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STEPS = ((10.0, signal.SIGTERM), (5.0, signal.SIGKILL))
"""After a failure: how many seconds the others have to end by themselves, then what they get."""

MOST_BYTES = 1 << 20
"""A longer line is copied in parts."""

PREPARE = """
import os, signal, sys
parent, cores, *command = sys.argv[1:]
if cores:
    try:
        os.sched_setaffinity(0, map(int, cores.split(",")))
    except OSError:
        pass
if sys.platform == "linux":
    try:
        import ctypes
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except (ImportError, OSError, AttributeError):
        pass
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""
"""What a process does before it becomes the program: it takes its cores, and asks the kernel to
kill it when the process that started it dies. That outlasts `execv`."""


@dataclass(frozen=True)
class Program:
    """What one of the processes runs.

    Attributes:
      command: path of the program, and its arguments.
      environ: its environment variables.
      cores: of this machine that it may use; empty for all.
      prefix: before each line that it prints; None leaves it the output of this process.
    """

    command: Sequence[str]
    environ: Mapping[str, str]
    cores: Sequence[int] = ()
    prefix: str | None = None


@dataclass(frozen=True)
class End:
    """How a process ended.

    Attributes:
      process: its number.
      code: its exit code, or the number of the signal that killed it, negative.
      was_sent: whether it had been told to end because another one had failed.
    """

    process: int
    code: int
    was_sent: bool = False


Events = queue.SimpleQueue[Any]
"""An `End`, or the number of a signal that this process has got."""


@contextlib.contextmanager
def noted_signals(events: Events) -> Iterator[list[int]]:
    """Puts SIGINT, SIGTERM and SIGHUP into `events`: the list of those that came.

    Those that this process ignores, as under `nohup`, stay ignored.
    """
    noted: list[int] = []

    def note(number: int, frame: Any) -> None:
        noted.append(number)
        events.put(number)  # may be called within another `put` or `get`

    before: dict[int, Any] = {}
    for number in map(int, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_together(programs: Sequence[Program], events: Events, noted: Sequence[int]) -> list[End]:
    """Runs programs until all have ended: how, in the order of time.

    Where one fails, the others get `STEPS`. Signals that this process gets are passed on to all.

    Args:
      programs: what the processes run.
      events: of `noted_signals`.
      noted: likewise; where it is not empty, no further process is started.

    Raises:
      OSError: if a process cannot be started; those that were started are killed.
    """
    children: list[subprocess.Popen] = []
    is_over = threading.Event()
    copier = None
    try:
        for program in programs:
            if not noted:
                children.append(_start(program))
        copier = threading.Thread(target=_copy, args=(children, programs, is_over), daemon=True)
        copier.start()
        for process, child in enumerate(children):
            threading.Thread(target=_wait, args=(process, child, events), daemon=True).start()
        return _supervise(children, events)
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
        is_over.set()
        if copier is not None:
            copier.join()


def _start(program: Program) -> subprocess.Popen:
    """Starts a process in a group of its own, which Ctrl-C in the terminal does not reach."""
    cores = ",".join(map(str, program.cores))
    before = [sys.executable, "-I", "-S", "-c", PREPARE, str(os.getpid()), cores]
    pipe = None if program.prefix is None else subprocess.PIPE
    return subprocess.Popen(
        [*before, *program.command],
        env=dict(program.environ),
        stdin=subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        process_group=0,
        bufsize=0,
    )


def _wait(process: int, child: subprocess.Popen, events: Events) -> None:
    """Waits for the end of a process, and ends what it may have left behind in its group."""
    code = child.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    events.put(End(process, code))


def _supervise(children: Sequence[subprocess.Popen], events: Events) -> list[End]:
    """Waits for all, passes signals on, and ends those that stay behind after a failure."""
    ends: list[End] = []
    steps, due, seconds, number = (
        iter(STEPS),
        math.inf,
        0.0,
        0,
    )  # who is left then gets which signal
    is_late = False
    while len(ends) < len(children):
        event = _next(events, due)
        has_failed = isinstance(event, End) and event.code != 0
        if event is None:
            left = sorted(set(range(len(children))) - {end.process for end in ends})
            _say_late(left, seconds, number, is_first=not is_late)
            _send(number, children)
            is_late = True
        elif isinstance(event, End):
            ends.append(End(event.process, event.code, was_sent=is_late))
        else:
            _send(event, children)
        is_first = has_failed and due == math.inf and not is_late
        if is_first:
            _send(signal.SIGCONT, children)  # one that was stopped cannot end by itself
        if event is None or is_first:
            seconds, number = next(steps, (math.inf, 0))
            due = time.monotonic() + seconds
    return ends


def _next(events: Events, due: float) -> Any:
    """The next event, None if there is none before `due`."""
    try:
        return events.get(timeout=None if due == math.inf else max(0.0, due - time.monotonic()))
    except queue.Empty:
        return None


def _say_late(left: Sequence[int], seconds: float, number: int, *, is_first: bool) -> None:
    names = ", ".join(map(str, left))
    who = f"process {names} still runs" if len(left) == 1 else f"processes {names} still run"
    since = "the failure of another" if is_first else "that"
    what = f"sending {signal.Signals(number).name}"
    print(f"launch: {who} {seconds:g} s after {since}; {what}", file=sys.stderr)


def _send(number: int, children: Sequence[subprocess.Popen]) -> None:
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)


def _copy(
    children: Sequence[subprocess.Popen], programs: Sequence[Program], is_over: threading.Event
) -> None:
    """Copies output, whole lines at a time, until all of it is closed.

    Once all processes have ended, silence is enough: what one of them has left running may still
    have its output.
    """
    rest: dict[int, bytes] = {}
    with selectors.DefaultSelector() as selector:
        for child, program in zip(children, programs, strict=False):
            before = (program.prefix or "").encode()
            for pipe, target in ((child.stdout, 1), (child.stderr, 2)):
                if pipe is not None:
                    selector.register(pipe, selectors.EVENT_READ, (target, before))
        while selector.get_map():
            ready = selector.select(timeout=0.2)
            if not ready and is_over.is_set():
                break
            for key, _ in ready:
                chunk = os.read(key.fd, 1 << 16)
                lines = rest.pop(key.fd, b"") + chunk
                if chunk and len(lines) < MOST_BYTES:
                    lines, newline, rest[key.fd] = lines.rpartition(b"\n")
                    lines += newline
                _write(key.data, lines)
                if not chunk:
                    selector.unregister(key.fileobj)
        for key in selector.get_map().values():
            _write(key.data, rest.get(key.fd, b""))
    for pipe in (pipe for child in children for pipe in (child.stdout, child.stderr) if pipe):
        pipe.close()


def _write(where: tuple[int, bytes], lines: bytes) -> None:
    """Writes lines with their prefix at once; what cannot be written is dropped."""
    target, before = where
    data = b"".join(before + line + b"\n" for line in lines.removesuffix(b"\n").split(b"\n"))
    with contextlib.suppress(OSError):
        while lines and data:
            data = data[os.write(target, data) :]
