"""When a process ends because of another one, and what it says."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from jaxdrl.distributed import peers
from jaxdrl.distributed.peers import Peers
from jaxdrl.distributed.process_states import state_of
from jaxdrl.distributed.status import Peer
from jaxdrl.distributed.store import local_store

NAMES = ("a", "a", "b")


@pytest.fixture
def gone():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def processes(pids=(None, None, None)):
    """Three processes that have heard each other."""
    store = local_store()
    found = [Peers(store, index, NAMES, pids) for index in range(3)]
    for number in (1, 2):
        beat(*found, number=number)
    return found


def beat(*some, number):
    """What the threads of processes do a few times a second."""
    for one in some:
        one.publish(number)
    for one in some:
        one.asked = time.monotonic()
        one._read()
        one.answered = time.monotonic()


def silent_for(one, index, seconds):
    one.peers[index].heard -= seconds


def test_nobody_is_lost_who_is_heard():
    assert [one.verdict() for one in processes()] == [None] * 3


def test_the_cause_of_a_failure_is_said_with_the_process():
    first, second, third = processes()
    second.fail("ValueError:\n  a bug", 1)
    beat(first, third, number=3)
    assert first.verdict() == third.verdict() == "process 1 on host a: ValueError: a bug"


def test_one_that_leaves_because_of_another_is_not_the_cause():
    first, second, third = processes()
    second.fail(third._name(2) + " is lost: it was killed", 75)
    beat(first, number=3)
    assert first.verdict() == "process 2 on host b is lost: it was killed"


def test_a_silent_one_is_lost_after_some_seconds():
    first, *_ = processes()
    silent_for(first, 2, peers.SILENT_SECONDS - 1)
    assert first.verdict() is None
    silent_for(first, 2, 2)
    assert first.verdict() == (
        "process 2 on host b is lost: it has not answered for 9 s; it, its host or the network is "
        "down"
    )


def test_one_that_has_ended_on_this_host_is_lost_at_once(gone):
    first, *_ = processes((os.getpid(), gone, None))
    silent_for(first, 1, 1)
    assert first.verdict() is None  # until what it has said last is read
    beat(first, number=3)
    silent_for(first, 1, 1)
    assert first.verdict() == (
        "process 1 on host a is lost: it was killed, or ended without a word"
    )


def test_one_that_has_ended_because_of_another_is_not_named(gone):
    _, second, third = processes((None, gone, gone))
    silent_for(third, 1, 1)
    assert third.verdict() is None
    second.fail("process 0 on host a is lost: it was killed", 75)
    beat(third, number=3)
    silent_for(third, 1, 1)
    assert third.verdict() == "process 0 on host a is lost: it was killed"


def test_process_0_is_lost_where_its_store_does_not_answer():
    first, second, _ = processes()
    for one in (first, second):
        one.answered -= peers.SILENT_SECONDS - 1
    assert second.verdict() is None
    for one in (first, second):
        one.answered -= 2
    assert first.verdict() is None
    assert second.verdict().startswith("process 0 on host a is lost: it has not answered for 9 s")


def test_one_that_is_seen_to_run_may_be_silent_for_longer():
    first, second, _ = processes((os.getpid(), os.getpid(), None))
    silent_for(first, 1, 5 * peers.SILENT_SECONDS)
    second.answered -= 5 * peers.SILENT_SECONDS
    assert first.verdict() is second.verdict() is None  # the host is busy
    silent_for(first, 1, peers.BUSY_SECONDS)
    assert first.verdict().startswith("process 1 on host a is lost: it has not answered for")


def test_one_that_jax_has_aborted_looks_for_the_cause_at_once(monkeypatch):
    first, second, _ = processes((os.getpid(), os.getpid(), None))
    silent_for(first, 2, 2)
    second.answered -= 2
    assert first.verdict() is second.verdict() is None
    monkeypatch.setattr(peers, "is_aborting", lambda: True)
    assert first.verdict().startswith("process 2 on host b is lost")
    assert second.verdict().startswith("process 0 on host a is lost")


def test_one_that_has_ended_its_run_is_not_lost(gone):
    first, second, _ = processes((None, gone, None))
    second.status.has_ended = True
    beat(first, second, number=3)
    silent_for(first, 1, 100)
    beat(first, number=4)
    assert first.verdict() is None


def test_no_process_finds_itself_lost(gone):
    _, second, _ = processes((None, gone, None))
    silent_for(second, 1, 100)
    assert second.verdict() is None


def test_one_that_is_stopped_is_said_to_be():
    child = subprocess.Popen(["sleep", "100"])
    try:
        child.send_signal(signal.SIGSTOP)
        while state_of(child.pid) != "T":
            time.sleep(0.002)
        first, *_ = processes((None, None, child.pid))
        silent_for(first, 2, peers.STOPPED_SECONDS - 1)
        assert first.verdict() is None  # it may go on
        silent_for(first, 2, 2)
        words = "process 2 on host b is lost: it has been stopped, as by SIGSTOP, for 6 s"
        assert first.verdict() == words
    finally:
        child.kill()
        child.wait()


def test_a_pause_of_its_own_counts_against_nobody():
    _, second, _ = processes()
    for clock in ("answered", "looked"):
        setattr(second, clock, getattr(second, clock) - 20)
    for index in (0, 2):
        silent_for(second, index, 20)
    second._forgive_own_pause()
    assert second.verdict() is None


def test_process_0_waits_until_all_that_can_have_read_why_it_ends(gone, monkeypatch):
    monkeypatch.setattr(peers, "LINGER_SECONDS", 30)
    first, second, _ = processes((None, None, gone))
    first.fail("a bug", 1)
    assert not first._has_everyone_read()
    second.fail("process 0 on host a: a bug", 75)
    assert first._has_everyone_read()  # but for the third, which is gone
    began = time.monotonic()
    first._linger()
    assert time.monotonic() - began < 5


def test_what_changes_is_progress_and_what_is_published_is_a_sign_of_life():
    store = local_store()
    one = Peers(store, 0, NAMES, (None,) * 3)
    texts = [
        {"phase": "updating", "dispatched": d, "completed": 0, "number": n}
        for d, n in ((1, 1), (1, 2), (2, 3))
    ]
    one.peers[1] = Peer(texts[0], 0.0, 0.0)
    store.set("peers/1", json.dumps(texts[1]))
    one._read()
    assert (one.peers[1].heard > 0, one.peers[1].changed) == (True, 0.0)
    store.set("peers/1", json.dumps(texts[2]))
    one._read()
    assert one.peers[1].changed > 0
