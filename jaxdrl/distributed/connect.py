"""Connects the processes of a run before JAX starts, and ends them together."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
from jax._src import distributed  # JAX has no public way to the store of its coordinator

from jaxdrl.distributed import cluster
from jaxdrl.distributed.aborts import delay_aborts
from jaxdrl.distributed.cluster import Cluster
from jaxdrl.distributed.hosts import Hosts
from jaxdrl.distributed.peers import PEER_FAILED, Peers
from jaxdrl.distributed.process_states import start_of
from jaxdrl.distributed.store import coordinator_store
from jaxdrl.errors import ConfigError, note_said

HEARTBEAT_SECONDS = 10
"""After which JAX by itself takes a process for lost; `Peers` finds it sooner, and names it."""

CONNECT_SECONDS = 300
"""How long the processes wait for each other to start: a scheduler may start them one by one."""

END_SECONDS = 15
"""How long a process that ends early waits for the others, which are at most an update away."""

COMPILE_SECONDS = 600
"""The same for one that refuses what it is to train, while the others may still compile."""

VERDICT_SECONDS = 9.0
"""How long a process whose collective has failed waits to hear which one was lost."""

OF_PEERS = ("gloo", "nccl", "connection", "socket", "peer", "heartbeat", "coordination")
"""Words in errors of JAX that mean that another process is gone."""


def connect(say: Callable[[str], Any] = print) -> Hosts:
    """Connects this process with the others of its run, as the variables of its launcher say.

    Without such variables this is a single process, and nothing is started.

    Raises:
      ConfigError: if they cannot connect, or JAX has started already.
    """
    found_by = "jax.distributed"
    if not jax.distributed.is_initialized():
        found = cluster.find(dict(os.environ))
        if found is None:
            return Hosts()
        found_by = found.found_by
        of = f"process {found.index} of {found.num_processes}"
        if found.index == 0:
            say(f"hosts: {of}, by {found_by}; coordinator: {found.coordinator}")
        _initialize(found)
    state = distributed.global_state
    if state.num_processes == 1:
        return Hosts()
    return _meet(state.client, state.process_id, state.num_processes, found_by)


def _meet(client: Any, index: int, count: int, found_by: str) -> Hosts:
    """The processes, once all of them are there; they watch each other from here on."""
    delay_aborts()  # where the user has called `jax.distributed.initialize`
    session = client.key_value_increment(f"jaxdrl/sessions/{index}", 1)
    store = coordinator_store(client, f"jaxdrl/{session}")
    own = {"host": socket.gethostname(), "pid": os.getpid(), "start": start_of(os.getpid())}
    known = Hosts(store, index, [""] * count).gather("hosts", own)
    names = [one["host"] for one in known]
    # A container may share the name of a host, but not see its processes.
    is_near = [one["host"] == own["host"] and start_of(one["pid"]) == one["start"] for one in known]
    pids = [one["pid"] if near else None for one, near in zip(known, is_near, strict=True)]
    peers = Peers(store, index, names, pids)
    peers.start()
    return Hosts(store, index, names, peers, found_by)


def _initialize(found: Cluster) -> None:
    """Starts JAX's coordinator in process 0, and connects to it."""
    # Its service for preemption would take SIGTERM away from the run, which ends in good order.
    jax.config.update("jax_enable_preemption_service", False)
    bind = cluster.bind_address(found.coordinator) if found.index == 0 else None
    delay_aborts()
    of = f"process {found.index} of {found.num_processes}, by {found.found_by}"
    try:
        _patiently(
            of,
            partial(
                jax.distributed.initialize,
                found.coordinator,
                found.num_processes,
                found.index,
                found.local_device_ids,
                cluster_detection_method="deactivate",
                initialization_timeout=2 * CONNECT_SECONDS,  # it aborts, and says nothing
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
                coordinator_bind_address=bind,
            ),
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"{of}: cannot connect to the coordinator at {found.coordinator} "
            f"({str(error).splitlines()[0]}); call jaxdrl before anything else uses JAX; "
            "JAXDRL_HOSTS=off runs this process by itself"
        ) from error


def _patiently(of: str, connect: Callable[[], Any]) -> None:
    """Connects in a thread, so that a signal or a long wait can end this process meanwhile.

    There is no other way out of that thread than to end the process.
    """
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(connect)
        try:
            if wait_for(future, CONNECT_SECONDS):
                future.result()
                return
            words, code = f"not all others were there within {CONNECT_SECONDS} s", PEER_FAILED
        except KeyboardInterrupt:
            words, code = "interrupted while it waited for the others", 128 + signal.SIGINT
        print(f"error: {of}: {words}", file=sys.stderr, flush=True)
        os._exit(code)


def wait_for(future: Future, seconds: float) -> bool:
    """Whether the future is done within so many seconds; handles signals meanwhile."""
    deadline = time.monotonic() + seconds
    while not future.done() and time.monotonic() < deadline:
        time.sleep(0.05)
    return future.done()


def is_first_process() -> bool:
    """Whether this is process 0 of those that are connected, or the only one."""
    return distributed.global_state.process_id == 0


@contextlib.contextmanager
def connected(say: Callable[[str], Any] = print) -> Iterator[Hosts]:
    """Connects for a block, at whose end the processes wait for each other.

    What one of them refuses within it is refused by all. Where one fails, all others end within
    seconds, with the exit code `PEER_FAILED`.

    Args:
      say: takes one line that says what was found, in process 0.

    Raises:
      ConfigError: as `connect` does.
    """
    hosts = connect(say)
    if hosts.peers is None:
        yield hosts
        return
    try:
        with _noticed_signals(hosts.peers), hosts.refusing():
            yield hosts
        _end(hosts)
    except BaseException as error:
        _end_early(hosts, error)
        raise


@contextlib.contextmanager
def _noticed_signals(peers: Peers) -> Iterator[None]:
    """Lets the watching threads notice signals at once.

    Python's own handlers run in the main thread alone, and wait there for a program to compile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)

    def read() -> bytes:
        with contextlib.suppress(BlockingIOError):
            return os.read(reader, 64)
        return b""

    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    peers.signals = read
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        peers.note_signals()
        peers.signals = lambda: b""
        os.close(writer)  # the reader may be in use, and goes with the process


def _end_early(hosts: Hosts, error: BaseException) -> None:
    """Ends with the others where all have the same error, and else makes them end."""
    assert hosts.peers is not None
    if isinstance(error, ConfigError) or getattr(error, "is_agreed", False):
        is_early = hosts.status.phase in ("starting", "compiling") and hosts.status.signal is None
        if _end(hosts, COMPILE_SECONDS if is_early else END_SECONDS):
            if not hosts.is_first:
                note_said(error)
            return
    elif is_of_peers(error):
        time.sleep(VERDICT_SECONDS)  # the watching thread ends this process meanwhile
    hosts.peers.fail(in_words(error), exit_code_of(error))
    atexit.register(hosts.peers.exit)  # after the traceback, and before JAX waits for the others


def _end(hosts: Hosts, seconds: float = math.inf) -> bool:
    """Waits for so long until all processes are here; returns whether they are."""
    peers = hosts.peers
    assert peers is not None
    peers.status.phase = "ending"
    hosts.post(f"ended/{hosts.index}", True)
    deadline = time.monotonic() + seconds
    while len(hosts.store.all("ended")) < hosts.count:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    peers.status.has_ended = True
    peers.stop()
    return True


def is_of_peers(error: BaseException) -> bool:
    """Whether an error of JAX may mean that another process is gone."""
    text = str(error).lower()
    return isinstance(error, jax.errors.JaxRuntimeError) and any(w in text for w in OF_PEERS)


def exit_code_of(error: BaseException) -> int:
    """The exit code of a process that ends with an error."""
    if isinstance(error, ConfigError):
        return 2
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return getattr(error, "exit_code", 1)


def in_words(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
