"""How processes meet and end together; several of them in threads."""

import atexit
import functools
import os
import signal
import socket
import threading
import time
import types

import jax
import pytest

from jaxdrl.distributed import connect as module
from jaxdrl.distributed import peers as peers_module
from jaxdrl.distributed.connect import connect, connected
from jaxdrl.distributed.hosts import Hosts, PeerRefusedError
from jaxdrl.distributed.peers import PEER_FAILED, Peers
from jaxdrl.distributed.store import local_store
from jaxdrl.errors import ConfigError, is_said
from jaxdrl.runs.stopping import NonFiniteError, RunInterruptedError
from pretended import together


class Client:
    """JAX's client of a coordinator, which is a local store, and counts."""

    def __init__(self):
        self.store, self.counts, self.lock = local_store(), {}, threading.Lock()

    def key_value_increment(self, key, by):
        with self.lock:
            self.counts[key] = self.counts.get(key, 0) + by
            return self.counts[key]


@pytest.fixture
def process(monkeypatch):
    """What is of a process, in its thread."""
    process = threading.local()

    class Distributed:
        global_state = property(lambda self: process.state)

    def below(client, root):
        def set_below(key, text):
            client.store.set(f"{root}/{key}", text)

        def wait_below(key, seconds):
            return client.store.wait(f"{root}/{key}", seconds)

        return client.store._replace(
            set=set_below,
            get=lambda key: client.store.get(f"{root}/{key}"),
            wait=wait_below,
            all=lambda prefix: client.store.all(f"{root}/{prefix}"),
        )

    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(module, "distributed", Distributed())
    monkeypatch.setattr(module, "coordinator_store", below)
    monkeypatch.setattr(module, "start_of", lambda pid: process.start)
    return process


@pytest.mark.parametrize(("start", "sees"), [("7", [True, True]), (None, [True, False])])
def test_processes_meet_and_know_which_are_on_their_host(process, start, sees):
    client = Client()

    def meet(index):
        process.state = types.SimpleNamespace(client=client, process_id=index, num_processes=2)
        process.start = start or str(index)  # of a container of its own
        found = []
        for run in range(2):
            hosts = connect(pytest.fail)
            hosts.peers.stop()
            found.append((hosts.read("run"), hosts.gather("values", [index, run])))
            hosts.post("run", run)
        return hosts, found

    for index, (hosts, found) in enumerate(together(*(functools.partial(meet, i) for i in (0, 1)))):
        assert (hosts.index, hosts.count, hosts.found_by) == (index, 2, "jax.distributed")
        assert hosts.names == (socket.gethostname(),) * 2
        own_first = hosts.peers.pids if index == 0 else hosts.peers.pids[::-1]
        assert own_first == [os.getpid() if near else None for near in sees]
        # A second run in the same processes does not see what was said in the first.
        assert found == [(None, [[0, run], [1, run]]) for run in (0, 1)]


def test_jax_that_was_started_with_one_process_is_a_single_one(process):
    process.state = types.SimpleNamespace(client=None, process_id=0, num_processes=1)
    assert connect(pytest.fail).is_alone


@pytest.fixture
def world(monkeypatch):
    """Processes in threads, which end together: `run(block, ...)` calls a block in each."""
    monkeypatch.setattr(peers_module, "BEAT_SECONDS", 0.01)
    for name, seconds in {"END_SECONDS": 20, "VERDICT_SECONDS": 0.3}.items():
        monkeypatch.setattr(module, name, seconds)
    store, left, atexits, own = local_store(), [], [], threading.local()
    monkeypatch.setattr(module, "connect", lambda say: own.hosts)
    monkeypatch.setattr(atexit, "register", atexits.append)

    def leave(code):
        left.append((threading.current_thread().name, code))
        store.set("released", "null")
        own_end.wait(20)

    own_end = threading.Event()
    monkeypatch.setattr(os, "_exit", leave)
    names = ("a", "b", "c")
    everyone = [Peers(store, index, names, [None] * 3) for index in range(3)]
    hosts = [Hosts(store, index, names, everyone[index]) for index in range(3)]

    def call(index, block):
        own.hosts = hosts[index]
        for thread in everyone[index].threads:
            thread.name = str(index)
        everyone[index].start()
        with connected() as found:
            return block(found)

    def run(*blocks):
        return together(*(functools.partial(call, *each) for each in enumerate(blocks)))

    yield types.SimpleNamespace(run=run, hosts=hosts, left=left, atexits=atexits)
    for one in everyone:
        one.stopping.set()
    own_end.set()
    for thread in (thread for one in everyone for thread in one.threads):
        thread.join(20)


def failed(world):
    return [each.status.failed for each in world.hosts]


def test_processes_end_together(world):
    ended = []

    def block(hosts):
        time.sleep(0.1 * hosts.index)
        ended.append(hosts.index)
        return hosts.index, hosts.status.phase

    began = time.monotonic()
    assert world.run(block, block, block) == [(index, "starting") for index in range(3)]
    assert time.monotonic() - began >= 0.2
    assert [each.status.phase for each in world.hosts] == ["ending"] * 3
    assert all(each.status.has_ended for each in world.hosts)
    assert (failed(world), world.left, world.atexits) == ([None] * 3, [], [])


def test_what_one_refuses_is_refused_by_all_and_said_once(world):
    def block(hosts):
        if hosts.index == 1:
            raise ConfigError("track = 'wandb': is not installed")
        hosts.gather("what", 1)

    errors = world.run(block, block, block)
    assert [type(error) for error in errors] == [PeerRefusedError, ConfigError, PeerRefusedError]
    assert str(errors[0]) == f"process 1 on host b: {errors[1]}"
    assert [is_said(error) for error in errors] == [False, True, True]
    assert (failed(world), world.left, world.atexits) == ([None] * 3, [], [])


@pytest.mark.parametrize("kind", [RunInterruptedError, NonFiniteError])
def test_an_error_that_all_agree_on_ends_all_in_good_order(world, kind):
    def block(hosts):
        raise kind("stopped")

    errors = world.run(block, block, block)
    assert [type(error) for error in errors] == [kind] * 3
    assert [is_said(error) for error in errors] == [False, True, True]
    assert (failed(world), world.left, world.atexits) == ([None] * 3, [], [])


def test_one_that_refuses_waits_for_those_that_compile(world, monkeypatch):
    monkeypatch.setattr(module, "END_SECONDS", 0.0)

    def block(hosts):
        hosts.status.phase = "compiling"
        if hosts.index == 1:
            raise ConfigError("needs too much memory")
        time.sleep(0.3)
        hosts.gather("compiled", True)

    errors = world.run(block, block, block)
    assert str(errors[0]) == f"{world.hosts[0].name(1)}: needs too much memory"
    assert [type(error) for error in errors] == [PeerRefusedError, ConfigError, PeerRefusedError]
    assert (failed(world), world.left, world.atexits) == ([None] * 3, [], [])


@pytest.mark.parametrize(
    ("error", "code", "seconds"),
    [
        (ValueError("a\nfault"), 1, 0.0),
        (ConfigError("is refused by itself"), 2, 0.2),  # the others do not come
        (RunInterruptedError("by an impatient one", 130, is_agreed=False), 130, 0.0),
        (jax.errors.JaxRuntimeError("Gloo: Connection closed by peer"), 1, 0.3),
    ],
)
def test_an_error_of_one_ends_the_others(world, monkeypatch, error, code, seconds):
    monkeypatch.setattr(module, "END_SECONDS", 0.2)
    took = []

    def block(hosts):
        if hosts.index != 1:
            # Not a request, which a refusal would end: as if it trained.
            hosts.store.wait("released", 20)
            return hosts.store.set("ended/1", "true")  # here its end lets it go on
        hosts.status.phase = "updating"
        took.append(-time.monotonic())
        raise error

    found = world.run(block, block, block)
    assert found[1] is error
    assert not is_said(error)
    assert world.atexits == [world.hosts[1].peers.exit]
    why = f"{type(error).__name__}: {' '.join(str(error).split())}"
    assert world.hosts[1].status.failed == why
    assert world.hosts[1].peers.exit_code == code
    assert took[0] + time.monotonic() >= seconds
    assert ("0", PEER_FAILED) in world.left or ("2", PEER_FAILED) in world.left
    assert "1" not in [name for name, _ in world.left]  # it prints its traceback first


@pytest.mark.parametrize("beat", [0.01, 60])
def test_signals_are_noted_until_the_end(world, monkeypatch, beat):
    monkeypatch.setattr(peers_module, "BEAT_SECONDS", beat)
    one, received = world.hosts[0], []
    monkeypatch.setattr(module, "connect", lambda say: one)
    for index in (1, 2):
        one.store.set(f"ended/{index}", "true")
    for each in world.hosts:
        each.peers.start()
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with connected():
            assert one.status.signal is None
            os.kill(os.getpid(), signal.SIGTERM)
            deadline = time.monotonic() + 20
            while one.status.signal is None and beat < 1:
                assert time.monotonic() < deadline
        assert one.status.signal == "SIGTERM"
        assert one.peers.signals() == b""
        assert signal.set_wakeup_fd(-1) == -1
        assert received
    finally:
        signal.signal(signal.SIGTERM, before)
