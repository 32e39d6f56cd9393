"""What the operating system says of a process, and of one that is stopped, ended or gone."""

import os
import signal
import subprocess
import time

from jaxdrl.distributed.process_states import GONE, start_of, state_of


def becomes(pid, state):
    deadline = time.monotonic() + 20
    while state_of(pid) != state:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return True


def test_a_process_is_known_by_its_state_and_its_start():
    child = subprocess.Popen(["sleep", "100"])
    try:
        assert becomes(child.pid, "S")
        start = start_of(child.pid)
        assert int(start) >= int(start_of(os.getpid()))
        child.send_signal(signal.SIGSTOP)
        assert becomes(child.pid, "T")
        assert start_of(child.pid) == start
    finally:
        child.kill()
    assert becomes(child.pid, "Z")
    child.wait()
    assert state_of(child.pid) == ""
    assert start_of(child.pid) is None
    assert {"Z", ""} == set(GONE)
    assert state_of(os.getpid()) not in GONE


def test_nothing_is_said_where_there_is_no_such_table(monkeypatch):
    def absent(*args):
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", absent)
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    assert state_of(os.getpid()) is None
    assert start_of(os.getpid()) is None
