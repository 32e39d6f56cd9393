"""Several processes pretended by threads of this one, which share the eight simulated devices."""

import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import jax

from jaxdrl.distributed.hosts import Hosts
from jaxdrl.distributed.store import local_store
from jaxdrl.runs import checkpoint_rows
from jaxdrl.runs.checkpoint_rows import split

NAMES = ("a", "b", "b", "c")
"""Hosts of the processes."""


class Killed(BaseException):
    """Stands in for SIGKILL: no `except` of the library sees it."""


class Pretended(Hosts):
    """A process that ends while it waits for others if one of them is killed.

    Attributes:
      lost: set when a process is killed.
    """

    lost: threading.Event

    def wait(self, key):
        while self.store.get(key) is None:
            if self.lost.wait(0.005):
                raise Killed
        return super().wait(key)


def pretended_hosts(num=4, lost=None):
    """What each process knows of the others."""
    store, lost = local_store(), lost or threading.Event()
    hosts = [Pretended(store, index, NAMES[:num]) for index in range(num)]
    for one in hosts:
        one.lost = lost
    return hosts


def split_by(monkeypatch, num=4):
    """A `split` of pretended processes: `(state, process) -> parts`, with two devices each of 4."""
    monkeypatch.setattr(checkpoint_rows, "is_spread", lambda array: not array.is_fully_replicated)
    each = jax.device_count() // num

    def split_for(state, process):
        devices = jax.devices()[each * process : each * (process + 1)]
        parts = split(state)
        own = [block for block in parts.blocks if block.data.device in devices]
        return parts._replace(blocks=own)

    return split_for


def together(*calls):
    """The results of calls that wait for each other; an error of one is its result."""

    def outcome(call):
        try:
            return call()
        except BaseException as error:
            return error

    with ThreadPoolExecutor(len(calls)) as executor:
        return [future.result(60) for future in [executor.submit(outcome, c) for c in calls]]


def three_hosts():
    """Three processes on two hosts, as each of them sees them."""
    store = local_store()
    return [Hosts(store, index, ("a", "b", "b")) for index in range(3)]


def in_each(hosts, call):
    """The results of `call(hosts)` in each process, or its error."""
    return together(*(functools.partial(call, each) for each in hosts))
