"""How a process ends with the others, or makes them end."""

import atexit
import os
import signal
import socket
import threading
from types import SimpleNamespace

import jax
import pytest

from jaxdrl.distributed import connect
from jaxdrl.distributed.cluster import Cluster
from jaxdrl.distributed.hosts import Hosts, PeerRefusedError
from jaxdrl.distributed.status import Status
from jaxdrl.errors import ConfigError
from jaxdrl.runs.stopping import RunInterruptedError

LAUNCHED = {
    "JAX_COORDINATOR_ADDRESS": "127.0.0.1:1",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": "1",
}


@pytest.mark.parametrize("environ", [{}, LAUNCHED | {"JAXDRL_HOSTS": "off"}])
def test_a_single_process_starts_nothing(monkeypatch, environ):
    monkeypatch.setattr(os, "environ", environ)
    before, registered = threading.enumerate(), []
    monkeypatch.setattr(atexit, "register", registered.append)
    with connect.connected(pytest.fail) as hosts:
        assert (hosts.is_alone, hosts.index, hosts.peers, hosts.found_by) == (True, 0, None, "")
        assert hosts.names == (socket.gethostname(),)
        assert threading.enumerate() == before
        assert signal.set_wakeup_fd(-1) == -1
    with pytest.raises(ZeroDivisionError), connect.connected(pytest.fail):
        1 / 0  # noqa: B018
    assert threading.enumerate() == before
    assert registered == []
    assert not jax.distributed.is_initialized()


@pytest.mark.parametrize(("index", "bind"), [(0, "127.0.0.1:1"), (1, None)])
def test_who_cannot_connect_is_told_what_was_found(monkeypatch, index, bind):
    asked, said = {}, []

    def initialize(*place, **settings):
        asked.update(settings, place=place)
        raise RuntimeError("DEADLINE_EXCEEDED: nobody\nis there")

    found = Cluster("127.0.0.1:1", 3, index, [0, 1], "SLURM")
    monkeypatch.setattr(connect.cluster, "find", lambda environ: found)
    monkeypatch.setattr(connect, "delay_aborts", tuple)
    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(ConfigError) as caught:
        connect.connect(said.append)
    assert str(caught.value) == (
        f"process {index} of 3, by SLURM: cannot connect to the coordinator at 127.0.0.1:1 "
        "(DEADLINE_EXCEEDED: nobody); call jaxdrl before anything else uses JAX; "
        "JAXDRL_HOSTS=off runs this process by itself"
    )
    line = "hosts: process 0 of 3, by SLURM; coordinator: 127.0.0.1:1"
    assert said == ([line] if index == 0 else [])  # process 0 speaks for all
    assert asked["place"] == ("127.0.0.1:1", 3, index, [0, 1])
    assert asked["coordinator_bind_address"] == bind
    assert asked["heartbeat_timeout_seconds"] == 10
    assert not jax.config.values["jax_enable_preemption_service"]


def test_a_process_that_meets_nobody_may_be_started_again(monkeypatch, capfd):
    codes, is_over = [], threading.Event()

    def leave(code):
        codes.append(code)
        is_over.set()

    found = Cluster("127.0.0.1:1", 3, 1, None, "SLURM")
    monkeypatch.setattr(connect.cluster, "find", lambda environ: found)
    monkeypatch.setattr(connect, "delay_aborts", tuple)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: is_over.wait(20))
    monkeypatch.setattr(connect, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(connect, "_meet", lambda *_: None)
    monkeypatch.setattr(os, "_exit", leave)
    connect.connect(pytest.fail)
    assert codes == [75]
    words = "error: process 1 of 3, by SLURM: not all others were there within 0.1 s\n"
    assert capfd.readouterr().err == words


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


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigError("seed = -1"), 2, "ConfigError: seed = -1"),
        (PeerRefusedError("x"), 2, "PeerRefusedError: x"),
        (ValueError(), 1, "ValueError"),
        (SystemExit(7), 7, "SystemExit: 7"),
        (SystemExit("words"), 1, "SystemExit: words"),
        (KeyboardInterrupt(), 130, "KeyboardInterrupt"),
        (RunInterruptedError("SIGTERM", 143), 143, "RunInterruptedError: SIGTERM"),
    ],
)
def test_an_error_has_its_exit_code_and_its_words(error, code, words):
    assert (connect.exit_code_of(error), connect.in_words(error)) == (code, words)


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        (jax.errors.JaxRuntimeError("FAILED_PRECONDITION: Gloo all-reduce failed"), True),
        (jax.errors.JaxRuntimeError("Connection reset by peer"), True),
        (jax.errors.JaxRuntimeError("NCCL operation ncclAllReduce failed"), True),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), False),
        (ConnectionError("connection refused"), False),
    ],
)
def test_errors_that_a_lost_process_may_cause(error, is_so):
    assert connect.is_of_peers(error) == is_so
