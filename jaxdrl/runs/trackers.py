"""Hands the lines of `metrics.jsonl` on to trackers, none of which can stop or slow a run.

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
"""`tracker(run_dir, config)`, with the content of `config.json`, is a context manager over a run;
its value is called with each line of `metrics.jsonl`."""

QUEUE_SIZE = 1000
"""Lines that wait for a tracker; more are dropped."""

SECONDS_TO_FINISH = 10.0
"""How long the end of a run waits for all its trackers together."""

SECONDS_TO_LINGER = 60
"""How long the process of a named tracker may go on after the run, with its last upload."""


def require_installed(names: Sequence[str]) -> None:
    """Raises `ConfigError` for a tracker whose packages are missing, with what installs them."""
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
    """Whether it can be imported; a directory of its name, such as wandb writes, has no origin."""
    found = importlib.util.find_spec(package)
    return found is not None and found.origin is not None


class Tracking:
    """The trackers of a run, each in a daemon thread behind a queue; a context manager.

    A tracker that fails is reported once, by `log` or at the end, and then left alone.

    Args:
      names: of trackers in `PACKAGES`, which work in processes of their own.
      own: other trackers.
      run_dir: of the run, with its `config.json`.
      warn: takes what is to be said.
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
        """Hands a line of `metrics.jsonl` to every tracker; returns at once."""
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
    """A tracker in its thread, which is a daemon: no tracker can keep the process from its end."""

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
        except BaseException as error:  # sys.exit() is a tracker's failure too
            self.error = error

    def put(self, record: dict[str, Any]) -> None:
        """Queues a copy of a line, unless the tracker has failed or lags behind."""
        if self.error is not None:
            self.report()
        elif self.lines.qsize() < QUEUE_SIZE:
            self.lines.put(dict(record))
        elif not self.is_full:
            self.is_full = True
            self.warn(
                f"tracker {self.name} is {QUEUE_SIZE} lines behind; it misses lines from here on"
            )

    def report(self) -> None:
        """Says, once, how the tracker failed or that it has not come to its end."""
        if self.is_reported or (self.error is None and not self.thread.is_alive()):
            return
        self.is_reported = True
        if self.error is None:
            late = f"had not finished {SECONDS_TO_FINISH:g} s after the run, which does not wait"
            self.warn(f"tracker {self.name} {late} for it")
            return
        kind = type(self.error).__name__
        self.warn(f"tracker {self.name} failed, the run goes on without it ({kind}: {self.error})")


@contextlib.contextmanager
def in_own_process(
    name: str, run_dir: Path, config: dict[str, Any]
) -> Iterator[Callable[[dict[str, Any]], Any]]:
    """Runs a named tracker as a process that reads lines from a pipe.

    So its library shares no interpreter lock with the training, and none of its threads or
    exit handlers can hold up the end of the program; and what it has been given it finishes even
    where the run is killed.

    Raises:
      RuntimeError: with the words of the process, where it failed.
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
        start_new_session=True,  # Ctrl-C is for the run, which then closes the pipe
        text=True,
    )
    pipe = child.stdin
    assert pipe is not None

    def log(record: dict[str, Any]) -> None:
        pipe.write(json.dumps(record) + "\n")
        pipe.flush()

    with contextlib.suppress(BrokenPipeError):  # it says itself why it ended
        yield log
    words, _ = child.communicate()
    if child.returncode:
        raise RuntimeError(words.strip() or f"its process ended with {child.returncode}")
