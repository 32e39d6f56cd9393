"""How a process ends with the others, or makes them end."""

from types import SimpleNamespace

import pytest

from jaxdrl.distributed import connect
from jaxdrl.distributed.hosts import Hosts
from jaxdrl.distributed.status import Status
from jaxdrl.errors import ConfigError


@pytest.fixture
def failures(monkeypatch):
    """Why this process, one of two, makes the other end."""
    found = []
    peers = SimpleNamespace(
        status=Status(),
        fail=lambda *why: found.append(why),
        stop=tuple,
        exit=tuple,
        note_signals=tuple,
    )
    hosts = Hosts(None, 0, ["a", "b"], peers)
    monkeypatch.setattr(connect, "connect", lambda say: hosts)
    monkeypatch.setattr(connect, "END_SECONDS", 0.05)
    monkeypatch.setattr(connect.atexit, "register", lambda action: None)
    hosts.post("ended/1", True)
    return found


def test_processes_that_are_done_end_together(failures):
    with connect.connected():
        pass
    assert failures == []


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ValueError("a bug"), ("ValueError: a bug", 1)),
        (KeyboardInterrupt(), ("KeyboardInterrupt", 130)),
        (SystemExit(3), ("SystemExit: 3", 3)),
    ],
)
def test_an_error_of_one_ends_the_others(failures, error, why):
    with pytest.raises(type(error)), connect.connected():
        raise error
    assert failures == [why]


def test_an_error_while_it_waits_for_the_others_ends_them_too(failures, monkeypatch):
    def interrupt(hosts):
        raise KeyboardInterrupt

    monkeypatch.setattr(connect, "_end", interrupt)
    with pytest.raises(KeyboardInterrupt), connect.connected():
        pass
    assert failures == [("KeyboardInterrupt", 130)]


def test_what_all_refuse_ends_nobody_before_the_time(failures):
    with pytest.raises(ConfigError), connect.connected():
        raise ConfigError("wrong")
    assert failures == []
