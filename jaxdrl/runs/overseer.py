"""What process 0 of several does with the news of all: a file for `watch`, and a judgement."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from jaxdrl.distributed.hosts import Hosts
from jaxdrl.distributed.judge_processes import stuck
from jaxdrl.distributed.status import Peer
from jaxdrl.runs import processes_file

SECONDS = 2.0
"""How often the file is written."""


class Overseer:
    """Keeps `processes.json`, and ends a run whose process is stuck.

    Args:
      hosts: the processes.
      run_dir: of the run.
      stuck_after: seconds without progress after which the run ends, None for never.
    """

    def __init__(self, hosts: Hosts, run_dir: Path, stuck_after: float | None) -> None:
        self.hosts, self.run_dir, self.stuck_after = hosts, run_dir, stuck_after
        self.written = -SECONDS

    def look(self, peers: dict[int, Peer]) -> str | None:
        """Takes what is known of all processes; returns why the run has to end, or None."""
        if len(peers) < self.hosts.count:
            return None
        now = time.monotonic()
        reports = [self._report(index, peers[index], now) for index in range(self.hosts.count)]
        if now - self.written >= SECONDS:
            self.written = now
            processes_file.write(self.run_dir, reports)
        if self.stuck_after is None:
            return None
        found = stuck(reports, self.stuck_after)
        return None if found is None else found.why

    def _report(self, index: int, peer: Peer, now: float) -> dict[str, Any]:
        names = ("phase", "dispatched", "completed", "own_seconds", "memory_bytes")
        return {
            "process": index,
            "host": self.hosts.names[index],
            "pid": peer.status["pid"],
            **{name: peer.status[name] for name in names},
            "idle_seconds": now - peer.changed,
        }
