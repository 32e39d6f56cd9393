"""Worker processes: started, asked in turn, stopped."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from benchmarks.cases import Job, to_json

ROOT = Path(__file__).parent.parent
"""Where `benchmarks` is found; each worker runs one of its modules."""

MODULES = {
    "rejax": "benchmarks.peer_rejax",
    "brax": "benchmarks.peer_brax",
    "sbx": "benchmarks.peer_sbx",
    "run": "benchmarks.runner",
    "actor": "benchmarks.runner",
}
"""Of the trainers that are not in `benchmarks.worker`."""


class WorkerError(Exception):
    """A worker process that ended before it had answered; the message has its last words."""


class Worker(NamedTuple):
    """A process that trains when it is asked to.

    Attributes:
      name: what messages call it.
      process: the process.
      errors: file that its standard error goes to.
      ready: what it said of itself when it was compiled and warm.
    """

    name: str
    process: subprocess.Popen
    errors: IO[str]
    ready: dict[str, Any]


@contextmanager
def open_worker(name: str, job: Job, python: str | Path | None = None) -> Iterator[Worker]:
    """A worker that is compiled and warm; it is gone afterwards.

    Raises:
      WorkerError: if it does not get so far.
    """
    module = MODULES.get(job.trainer, "benchmarks.worker")
    settings = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    # On a GPU the first of several processes would take the memory of all.
    settings["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [str(python or sys.executable), "-m", module, to_json(job)],
            env=os.environ | settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            yield Worker(name, process, errors, _read(name, process, errors))
        finally:
            process.kill()
            process.communicate()


def ask(worker: Worker) -> dict[str, Any]:
    """Has the worker do one run: its seconds, environment steps and memory.

    Raises:
      WorkerError: if it ends instead.
    """
    assert worker.process.stdin is not None
    try:
        worker.process.stdin.write("run\n")
        worker.process.stdin.flush()
    except BrokenPipeError:
        pass  # it has ended, and what it said is read below
    return _read(worker.name, worker.process, worker.errors)


def take_turns(
    workers: list[Worker], repetitions: int, on_run: Callable[[], Any] = lambda: None
) -> dict[str, list[dict[str, Any]]]:
    """Runs of each worker by name, A B C A B C ..., so that all meet the same conditions."""
    runs: dict[str, list[dict[str, Any]]] = {worker.name: [] for worker in workers}
    for _ in range(repetitions):
        for worker in workers:
            runs[worker.name].append(ask(worker))
            on_run()
    return runs


def is_out_of_memory(error: WorkerError) -> bool:
    """Whether a worker ended for want of memory, by its own words or killed by the system."""
    words = ("RESOURCE_EXHAUSTED", "Out of memory", "MemoryError", "ended with -9")
    return any(word in str(error) for word in words)


def describe(ready: Mapping[str, Any]) -> dict[str, Any]:
    """The devices and versions in what a worker said of itself."""
    names = ("platform", "device_kind", "num_devices", "versions")
    return {name: ready[name] for name in names}


def _read(name: str, process: subprocess.Popen, errors: IO[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if line:
        return json.loads(line)
    code = process.wait()
    errors.seek(0)
    last = "".join(errors.readlines()[-12:])
    raise WorkerError(f"worker {name} ended with {code}:\n{last}")
