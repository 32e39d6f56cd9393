"""Watches the other processes of a run, and ends this one where one of them is lost.

Each process publishes a few times a second what it is doing. One that fails, is killed, is stopped,
or cannot be reached ends all others within seconds, each with one line that names the process, its
host and the cause: JAX by itself would let them wait for minutes.
"""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from jaxdrl.distributed.aborts import is_aborting
from jaxdrl.distributed.process_states import GONE, STOPPED, state_of
from jaxdrl.distributed.status import Peer, Status, is_leaving, progress_of
from jaxdrl.distributed.store import Store
from jaxdrl.io.terminal import printable

PEER_FAILED = 75
"""The exit code of a process that another one has failed: start all of them again."""

BEAT_SECONDS = 0.25
"""How often a process publishes what it is doing, and looks at the others."""

SILENT_SECONDS = 8.0
"""After which a process that publishes nothing is lost, or process 0 if its store does not answer.
JAX would end all after 10 seconds."""

STOPPED_SECONDS = 5.0
"""The same for a process on this host that can be seen to be stopped."""

BUSY_SECONDS = 60.0
"""The same for a process on this host that can be seen to run: the host is busy."""

ABORTED_SECONDS = 1.5
"""The same once JAX has aborted this process, since it has found out by itself."""

MOST_DELAY_SECONDS = 1.0
"""By which a busy machine may delay this process; more is a pause of its own."""

LINGER_SECONDS = 1.2
"""How long process 0 keeps its store up for the others to read why they end."""

SIGNAL_SECONDS = 3.0
"""How long a process may take to react to a signal that another has received, unless it trains."""


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a run in good order."""


class Peers:
    """Watches the other processes in two threads: one publishes and reads, the other judges.

    A thread of its own reads, because a request to a coordinator that is gone never returns.

    Args:
      store: that the processes share.
      index: of this process.
      names: of the hosts of all processes.
      pids: of all processes on their hosts; None for those that cannot be looked up from here.

    Attributes:
      status: what this process is doing.
      peers: what is known of each process.
      signals: gives the numbers of the signals that this process has received since it was asked.
      on_look: called in the judging thread with what is known of all processes; it returns why the
        run has to end, or None.
    """

    def __init__(
        self,
        store: Store,
        index: int,
        names: Sequence[str],
        pids: Sequence[int | None],
    ) -> None:
        self.store, self.index, self.names, self.pids = store, index, names, pids
        self.signals: Callable[[], bytes] = lambda: b""
        self.on_look: Callable[[dict[int, Peer]], str | None] = lambda peers: None
        self.status = Status()
        self.peers: dict[int, Peer] = {}
        self.answered = self.asked = self.looked = time.monotonic()
        self.seen_gone: dict[int, float] = {}
        self.signalled: float | None = None
        self.exit_code: int | None = None
        self.stopping, self.publishing = threading.Event(), threading.Lock()
        self.threads = [
            threading.Thread(target=work, name=f"peers-{work.__name__}", daemon=True)
            for work in (self._beat, self._watch)
        ]

    def start(self) -> None:
        """Starts to watch, also those that never publish anything."""
        now = self.answered = self.asked = self.looked = time.monotonic()
        for index, pid in enumerate(self.pids):
            self.peers[index] = Peer(asdict(Status(pid=pid or 0)), now, now)
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """Stops watching."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(2 * BEAT_SECONDS)

    def _beat(self) -> None:
        number = 0
        while not self.stopping.wait(BEAT_SECONDS):
            number += 1
            self.note_signals()
            began = time.monotonic()
            # An error of the store means that the coordinator is gone, which its silence tells too.
            with contextlib.suppress(Exception):
                self.publish(number)
                self._read()
                self.asked, self.answered = began, time.monotonic()

    def note_signals(self) -> None:
        """Notes the first signal that this process has received of those that end a run."""
        for number in self.signals():
            if number in ENDING:
                self.status.signal = self.status.signal or signal.Signals(number).name

    def publish(self, number: int = 0) -> None:
        """Publishes what this process is doing; other threads call it where that is urgent."""
        with self.publishing:  # or an older status could replace that which says why it ends
            content = asdict(self.status) | {"number": number}
            self.store.set(f"peers/{self.index}", json.dumps(content))

    def _read(self) -> None:
        now = time.monotonic()
        for index, text in self.store.all("peers"):
            status, known = json.loads(text), self.peers.get(int(index))
            if known is None:
                self.peers[int(index)] = Peer(status, now, now)
                continue
            if status != known.status:
                known.heard = now
            if progress_of(status) != progress_of(known.status):
                known.changed = now
            known.status = status

    def _watch(self) -> None:
        while not self.stopping.wait(BEAT_SECONDS):
            if self.status.failed is not None or self.status.has_ended:
                continue  # it ends by itself
            self._forgive_own_pause()
            self._pass_signals_on()
            why = self.verdict()
            with contextlib.suppress(Exception):  # whatever it finds, this thread goes on
                why = why or self.on_look(dict(self.peers))
            if why is not None and not self.stopping.is_set():
                self.leave(why)

    def verdict(self) -> str | None:
        """Why this process has to end because of another one, None if it has not."""
        now, is_aborted = time.monotonic(), is_aborting()
        silent = now - self.answered
        if self.index != 0 and silent > self._patience(0, is_aborted):
            return f"{self._name(0)} is lost: {self._cause(0, silent)}"
        others = [(i, p) for i, p in list(self.peers.items()) if i != self.index]
        here = [(i, peer) for i, peer in others if not peer.status["has_ended"]]
        for index, peer in here:  # first of all: those that are gone may have said why
            if (failed := peer.status["failed"]) is not None:
                is_known = failed.startswith("process ")  # which one it was
                return failed if is_known else f"{self._name(index)}: {failed}"
        for index, peer in here:
            silent = now - peer.heard
            if silent > self._patience(index, is_aborted) or self._is_gone(index, silent):
                return f"{self._name(index)} is lost: {self._cause(index, silent)}"
        return None

    def _patience(self, index: int, is_aborted: bool) -> float:
        """Seconds of silence after which a process is lost."""
        if is_aborted:
            return ABORTED_SECONDS
        state = self._state(index)
        if state is None:
            return SILENT_SECONDS
        return STOPPED_SECONDS if state in (*GONE, STOPPED) else BUSY_SECONDS

    def _is_gone(self, index: int, silent: float) -> bool:
        """Whether a process has ended on this host, and everything that it has said is read."""
        if silent < 2 * BEAT_SECONDS or self._state(index) not in GONE:
            return False
        seen = self.seen_gone.setdefault(index, time.monotonic())
        return index == 0 or self.asked > seen  # process 0 takes the store with it

    def _forgive_own_pause(self) -> None:
        """Lets a pause of this process, in which it has heard nobody, count against no other."""
        now = time.monotonic()
        pause, self.looked = now - self.looked - BEAT_SECONDS, now
        if pause > MOST_DELAY_SECONDS:
            self.answered += pause
            for peer in list(self.peers.values()):
                peer.heard += pause

    def _name(self, index: int) -> str:
        return f"process {index} on host {self.names[index]}"

    def _state(self, index: int) -> str | None:
        pid = self.pids[index]
        return None if pid is None else state_of(pid)

    def _cause(self, index: int, seconds: float) -> str:
        state = self._state(index)
        if state in GONE:
            return "it was killed, or ended without a word"
        if state == STOPPED:
            return f"it has been stopped, as by SIGSTOP, for {seconds:.0f} s"
        return f"it has not answered for {seconds:.0f} s; it, its host or the network is down"

    def _pass_signals_on(self) -> None:
        """A signal that another process has received arrives here too, and ends what blocks it."""
        self.note_signals()  # or a terminal's Ctrl-C would arrive here twice
        names = {peer.status["signal"] for peer in list(self.peers.values())} - {None}
        if self.status.signal is None and names:
            self.status.signal = min(names)
            _thread.interrupt_main(handled(signal.Signals[self.status.signal]))
        if self.status.signal is None or self.status.phase not in ("starting", "compiling"):
            self.signalled = None
            return
        self.signalled = self.signalled or time.monotonic()
        if time.monotonic() - self.signalled > SIGNAL_SECONDS:
            self.leave(f"{self.status.signal}: stopped before training could start")

    def fail(self, why: str, code: int) -> None:
        """Tells the others that this process ends, and why; they end too.

        Args:
          why: the cause, in one line.
          code: the exit code of this process.
        """
        self.status.failed, self.exit_code = " ".join(why.split())[:500], code
        self._do_briefly(self.publish)

    def leave(self, why: str, code: int = PEER_FAILED) -> None:
        """Ends this process at once, with one line; the others learn the same cause."""
        if self.status.signal is not None:  # as the others end, too
            code = 128 + signal.Signals[self.status.signal]
        self.fail(why, code)
        where = f"process {self.index} on host {self.names[self.index]}"
        words = f"error: {why}" if self.index == 0 else f"error: {where} ends: {why}"
        print(printable(words), file=sys.stderr, flush=True)
        self.exit()

    def exit(self) -> None:
        """Ends this process as `fail` or `leave` has decided, without waiting for the others."""
        if self.exit_code is None:
            return
        if self.index == 0:  # the others still have to read why
            self._do_briefly(self._linger)
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(self.exit_code)

    def _linger(self) -> None:
        deadline = time.monotonic() + LINGER_SECONDS
        while time.monotonic() < deadline and not self._has_everyone_read():
            time.sleep(0.05)

    def _has_everyone_read(self) -> bool:
        """Whether all other processes are leaving, or cannot read why they should."""
        left = {int(index) for index, text in self.store.all("peers") if not is_leaving(text)}
        return all(self._state(index) in (*GONE, STOPPED) for index in left)

    def _do_briefly(self, action: Callable[[], Any]) -> None:
        """Calls the store in a thread, since a coordinator that is gone never answers."""
        thread = threading.Thread(target=_quietly, args=(action,), daemon=True)
        thread.start()
        thread.join(LINGER_SECONDS + 0.2)


def handled(number: signal.Signals) -> signal.Signals:
    """A signal for which Python has a handler: that one, or another that ends a run as well.

    A shell lets what it starts in the background ignore SIGINT.
    """
    numbers = (number, signal.SIGTERM, signal.SIGINT)
    return next((one for one in numbers if callable(signal.getsignal(one))), number)


def _quietly(action: Callable[[], Any]) -> None:
    with contextlib.suppress(Exception):
        action()
