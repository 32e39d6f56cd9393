"""Passes the lines of `metrics.jsonl` to trackers, none of which can stop or slow a run.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from jaxdrl.config.tracker_names import PACKAGES
from jaxdrl.errors import ConfigError
from jaxdrl.runs.run_dir import CONFIG_FILE

Tracker = Callable[[Path, dict[str, Any]], AbstractContextManager[Callable[[dict[str, Any]], Any]]]
"""`tracker(run_dir, config)`, with the content of `config.json`, is a context manager over a
run that gives a function to be called with each line of `metrics.jsonl`."""

QUEUE_SIZE = 1000
"""The most lines that wait for a tracker; further ones are dropped."""

SECONDS_TO_FINISH = 10.0
"""How long the end of a run waits for all its trackers together."""

SECONDS_TO_LINGER = 60
"""How long the process of a named tracker may outlive the run, for its last upload."""


def require_installed(names: Sequence[str]) -> None:
    """Raises `ConfigError` for a tracker whose packages are missing, saying what installs them."""
    missing = {name: [p for p in PACKAGES[name] if not _is_installed(p)] for name in names}
    extras = [name for name, packages in missing.items() if packages]
    if extras:
        packages = dict.fromkeys(package for name in extras for package in missing[name])
        raise ConfigError(
            f"track = {', '.join(map(repr, extras))}: {', '.join(packages)} "
            f"{'is' if len(packages) == 1 else 'are'} not installed; "
            f"pip install 'jaxdrl[{','.join(extras)}]'"
        )


def _is_installed(package: str) -> bool:
    """Whether it can be imported; a directory of its name, as wandb makes one, has no origin."""
    found = importlib.util.find_spec(package)
    return found is not None and found.origin is not None


class Tracking:
    """The trackers of a run, each in a daemon thread with a queue; a context manager.

    A tracker that fails is reported once, by `log` or at the end, and gets no further lines.

    Args:
      names: of trackers in `PACKAGES`, which run in processes of their own.
      own: further trackers.
      run_dir: of the run, with its `config.json`.
      warn: takes warnings.
    """

    def __init__(
        self,
        names: Sequence[str],
        own: Sequence[Tracker],
        run_dir: Path,
        warn: Callable[[str], Any],
    ) -> None:
        trackers: list[tuple[str, Tracker]] = [
            (name, partial(in_own_process, name)) for name in dict.fromkeys(names)
        ]
        trackers += [(getattr(t, "__name__", type(t).__name__), t) for t in own]
        self.workers = [_Worker(name, tracker, run_dir, warn) for name, tracker in trackers]

    def log(self, record: dict[str, Any]) -> None:
        """Passes a line of `metrics.jsonl` to every tracker; returns immediately."""
        for worker in self.workers:
            worker.put(record)

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, *error: Any) -> None:
        deadline = time.monotonic() + SECONDS_TO_FINISH
        for worker in self.workers:
            worker.lines.put(None)
        for worker in self.workers:
            worker.thread.join(max(0.0, deadline - time.monotonic()))
            worker.report()


class _Worker:
    """A tracker in a daemon thread, so that it cannot keep the process from ending."""

    def __init__(
        self, name: str, tracker: Tracker, run_dir: Path, warn: Callable[[str], Any]
    ) -> None:
        self.name, self.warn = name, warn
        self.lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.error: BaseException | None = None
        self.is_reported = self.is_full = False
        self.thread = threading.Thread(
            target=self._work, args=(tracker, run_dir), name=f"tracker {name}", daemon=True
        )
        self.thread.start()

    def _work(self, tracker: Tracker, run_dir: Path) -> None:
        try:
            config = json.loads((run_dir / CONFIG_FILE).read_text())
            with tracker(run_dir, config) as log:
                while (record := self.lines.get()) is not None:
                    log(record)
        except BaseException as error:  # sys.exit() is a failure of the tracker too
            self.error = error

    def put(self, record: dict[str, Any]) -> None:
        """Queues a copy of a line, unless the tracker has failed or lags behind."""
        if self.error is not None:
            self.report()
        elif self.lines.qsize() < QUEUE_SIZE:
            self.lines.put(dict(record))
        elif not self.is_full:
            self.is_full = True
            self.warn(f"tracker {self.name} is {QUEUE_SIZE} lines behind; it misses further lines")

    def report(self) -> None:
        """Warns once if the tracker failed or has not finished."""
        if self.is_reported or (self.error is None and not self.thread.is_alive()):
            return
        self.is_reported = True
        if self.error is None:
            late = f"had not finished {SECONDS_TO_FINISH:g} s after the run, which does not wait"
            self.warn(f"tracker {self.name} {late} for it")
            return
        kind = type(self.error).__name__
        self.warn(
            f"tracker {self.name} failed; the run continues without it ({kind}: {self.error})"
        )


@contextlib.contextmanager
def in_own_process(
    name: str, run_dir: Path, config: dict[str, Any]
) -> Iterator[Callable[[dict[str, Any]], Any]]:
    """Runs a named tracker as a process that reads lines from a pipe.

    Its library then shares no interpreter lock with the training, and none of its threads or exit
    handlers can delay the end of the program. It finishes the lines that it has even if the run is
    killed.

    Raises:
      RuntimeError: with the error of the process, if it failed.
    """
    child = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "jaxdrl.runs.tracker_process",
            name,
            run_dir,
            str(SECONDS_TO_LINGER),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
        start_new_session=True,  # Ctrl-C is meant for the run, which then closes the pipe
        text=True,
    )
    pipe = child.stdin
    assert pipe is not None

    def log(record: dict[str, Any]) -> None:
        pipe.write(json.dumps(record) + "\n")
        pipe.flush()

    with contextlib.suppress(BrokenPipeError):  # the process says why it ended
        yield log
    words, _ = child.communicate()
    if child.returncode:
        raise RuntimeError(words.strip() or f"its process ended with {child.returncode}")
