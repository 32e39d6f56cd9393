"""What the processes of a run publish about themselves, and what is known of the others."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Status:
    """What a process is doing.

    Attributes:
      pid: its number on its host.
      phase: "starting", "compiling", "updating", "evaluating", "saving" or "ending".
      dispatched: updates that it has handed to its devices.
      completed: updates whose metrics it has seen.
      own_seconds: mean seconds an update outside waiting for the devices, of the last ones.
      memory_bytes: its peak use of memory.
      signal: name of the signal that it has received, None before.
      failed: why it ends, None while it does not.
      has_ended: whether it is done with the run, so that its silence means nothing.
    """

    pid: int = field(default_factory=os.getpid)
    phase: str = "starting"
    dispatched: int = 0
    completed: int = 0
    own_seconds: float = 0.0
    memory_bytes: int = 0
    signal: str | None = None
    failed: str | None = None
    has_ended: bool = False


@dataclass
class Peer:
    """What is known of another process.

    Attributes:
      status: that it has published last.
      heard: when it last published something, by the clock of this process.
      changed: when its phase or counts last changed, likewise.
    """

    status: dict[str, Any]
    heard: float
    changed: float


def progress_of(status: dict[str, Any]) -> tuple[Any, ...]:
    """What changes in the status of a process that gets on."""
    return status["phase"], status["dispatched"], status["completed"]


def is_leaving(text: str) -> bool:
    """Whether the status that a process has published says that it ends."""
    status = json.loads(text)
    return status["failed"] is not None or status["has_ended"]
