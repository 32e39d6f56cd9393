"""Processes that watch each other, in threads of this one: what they hear, and how they end."""

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import types

import pytest

from jaxdrl.distributed import peers as module
from jaxdrl.distributed.peers import PEER_FAILED, Peers, handled
from jaxdrl.distributed.status import Status
from jaxdrl.distributed.store import local_store

NAMES = ("a", "b", "c")
NETWORK = "it, its host or the network is down"


def until(is_so):
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def run(monkeypatch):
    """Processes that watch each other quickly: `start(index, ...)`, and what became of them."""
    quick = {"BEAT": 0.01, "SILENT": 0.9, "LINGER": 0.3, "SIGNAL": 0.2}
    for name, seconds in quick.items():
        monkeypatch.setattr(module, f"{name}_SECONDS", seconds)
    store, started, left, is_over = local_store(), [], [], threading.Event()

    def leave(code):
        if threading.current_thread() is threading.main_thread():
            raise SystemExit
        left.append((threading.current_thread().name, code))
        is_over.wait(20)  # a thread that has ended its process does nothing more

    def start(index, store=store, num=2):
        peers = Peers(store, index, NAMES[:num], [None] * num)
        for thread in peers.threads:
            thread.name = str(index)
        peers.start()
        started.append(peers)
        return peers

    monkeypatch.setattr(os, "_exit", leave)
    yield types.SimpleNamespace(start=start, left=left, store=store)
    for peers in started:
        peers.stopping.set()
    is_over.set()
    for thread in (thread for peers in started for thread in peers.threads):
        thread.join(20)
        assert not thread.is_alive()


def test_processes_hear_what_the_others_do(run):
    one, two = run.start(0), run.start(1)
    two.status.phase, two.status.dispatched = "updating", 7
    until(lambda: one.peers[1].status["dispatched"] == 7)
    assert one.peers[1].status["phase"] == "updating"
    changed, heard = one.peers[1].changed, one.peers[1].heard
    two.status.memory_bytes = 5  # no progress
    until(lambda: one.peers[1].status["memory_bytes"] == 5)
    assert (one.peers[1].changed, one.peers[1].heard > heard) == (changed, True)
    two.status.completed = 6
    until(lambda: one.peers[1].changed > changed)
    time.sleep(1.0)  # longer than a process may be silent
    assert run.left == []


def test_nothing_is_published_once_it_has_stopped(run):
    peers = run.start(0)
    until(lambda: run.store.get("peers/0"))
    peers.stop()
    until(lambda: not any(thread.is_alive() for thread in peers.threads))
    text = run.store.get("peers/0")
    time.sleep(0.05)
    assert run.store.get("peers/0") == text


def test_a_failure_ends_the_others_with_the_cause(run, capsys):
    one, two, three = (run.start(index, num=3) for index in range(3))
    two.fail("ValueError: a\n  fault", 1)
    until(lambda: len(run.left) == 2)
    assert sorted(run.left) == [("0", PEER_FAILED), ("2", PEER_FAILED)]
    why = "process 1 on host b: ValueError: a fault"
    lines = {f"error: {why}", f"error: process 2 on host c ends: {why}"}
    assert set(capsys.readouterr().err.splitlines()) == lines
    assert (one.exit_code, two.exit_code, three.exit_code) == (PEER_FAILED, 1, PEER_FAILED)
    assert json.loads(run.store.get("peers/2"))["failed"] == why


def test_a_failure_is_told_in_one_line_of_500_letters(run):
    two = run.start(1)
    two.fail("x " * 1000, 1)
    assert two.status.failed == "x " * 250


@pytest.mark.parametrize("has_spoken", [False, True])
def test_a_process_that_falls_silent_is_lost(run, capsys, has_spoken):
    if has_spoken:
        run.start(1).stop()
    run.start(0)
    until(lambda: run.left)
    assert run.left == [("0", PEER_FAILED)]
    words = "error: process 1 on host b is lost: it has not answered for 1 s; "
    assert capsys.readouterr().err == f"{words}{NETWORK}\n"


def test_a_process_that_has_ended_may_be_silent(run):
    two = run.start(1)
    two.status.has_ended = True
    one = run.start(0)
    until(lambda: one.peers[1].status["has_ended"])
    two.stop()
    time.sleep(1.0)
    assert run.left == []


def test_a_store_that_never_answers_is_that_of_a_lost_process(run, capsys):
    answers = threading.Event()

    def hang(*args):
        answers.wait(20)
        return []

    run.start(1, run.store._replace(set=hang, all=hang))
    until(lambda: run.left)
    answers.set()
    assert run.left == [("1", PEER_FAILED)]
    found = f"process 0 on host a is lost: it has not answered for 1 s; {NETWORK}"
    assert capsys.readouterr().err == f"error: process 1 on host b ends: {found}\n"


def test_what_is_found_on_looking_ends_the_run(run, capsys):
    one, seen = run.start(0), []

    def look(peers):
        seen.append(sorted(peers))
        return "process 1 on host b is stuck" if len(seen) == 3 else None

    one.on_look = look
    two = run.start(1)
    until(lambda: len(run.left) == 2)
    assert seen == [[0, 1]] * 3
    assert two.status.failed == one.status.failed == "process 1 on host b is stuck"
    assert capsys.readouterr().err.splitlines()[0] == "error: process 1 on host b is stuck"


@pytest.fixture
def received():
    """The signals that the main thread receives."""
    received, numbers = [], (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.signal(number, lambda n, _: received.append(n)) for number in numbers}
    yield received
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_is_passed_on_once(run, received):
    one, two = run.start(0), run.start(1)
    one.status.phase = two.status.phase = "updating"
    numbers = itertools.chain([b"", bytes([signal.SIGUSR1]), bytes([signal.SIGTERM, 2])])
    two.signals = lambda: next(numbers, b"")
    until(lambda: received)
    time.sleep(0.4)
    assert received == [signal.SIGTERM]  # in process 0; process 1 has its own
    assert (one.status.signal, two.status.signal) == ("SIGTERM", "SIGTERM")
    assert run.left == []


@pytest.mark.parametrize("phase", ["starting", "compiling"])
def test_a_signal_ends_what_does_not_react(run, received, capsys, phase):
    one = run.start(0)
    one.status.phase = phase
    run.start(1).status.phase = "updating"
    one.signals = iter([bytes([signal.SIGINT])] + [b""] * 10_000).__next__
    until(lambda: len(run.left) == 2)
    assert ("0", 128 + signal.SIGINT) in run.left
    assert ("1", 128 + signal.SIGINT) in run.left  # it has the signal as well
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: SIGINT: stopped before training could start"
    assert received == [signal.SIGINT]


def test_process_0_ends_once_the_others_know_why(run):
    one = run.start(0)
    one.status.failed, one.exit_code = "why", 1
    one.publish()

    def seconds_to_exit():
        started = time.monotonic()
        with pytest.raises(SystemExit):
            one.exit()
        return time.monotonic() - started

    run.store.set("peers/1", json.dumps(dataclasses.asdict(Status())))
    assert seconds_to_exit() >= 0.3
    run.store.set("peers/1", json.dumps(dataclasses.asdict(Status(failed="the same"))))
    assert seconds_to_exit() < 0.3


def test_without_a_reason_nothing_is_ended(run):
    run.start(0).exit()
    assert run.left == []


def test_a_signal_that_is_ignored_is_replaced_by_one_that_is_not(received):
    assert handled(signal.SIGINT) == signal.SIGINT
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert handled(signal.SIGINT) == signal.SIGTERM
    assert handled(signal.SIGTERM) == signal.SIGTERM
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert handled(signal.SIGHUP) == signal.SIGHUP


LEAVE = """
import sys, threading
from jaxdrl.distributed.peers import Peers
from jaxdrl.distributed.store import local_store
peers = Peers(local_store(), int(sys.argv[1]), ["a", "b"], [None, None])
peers.status.signal = sys.argv[2] or None
print("printed", end="")
threading.Thread(target=peers.leave, args=("process 2 on host c is lost",)).start()
threading.Event().wait(60)
"""


@pytest.mark.parametrize(
    ("index", "name", "code", "line"),
    [
        (1, "", 75, "error: process 1 on host b ends: process 2 on host c is lost\n"),
        (0, "SIGTERM", 143, "error: process 2 on host c is lost\n"),
    ],
)
def test_a_process_leaves_at_once_with_one_line(monkeypatch, index, name, code, line):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # what was printed is not lost
    arguments = [sys.executable, "-c", LEAVE, str(index), name]
    found = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stderr, found.stdout) == (code, line, "printed")
