"""`jaxdrl launch`: several processes on this machine that train one run together.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from jaxdrl.annotations import Bounds, fit
from jaxdrl.checks import Index, divisors, require
from jaxdrl.cli.child_processes import End, Events, Program, noted_signals, run_together
from jaxdrl.cli.exits import DONE, REFUSED
from jaxdrl.distributed import cluster
from jaxdrl.errors import ConfigError

PEER_FAILED = 75
"""The exit code of a process that ended because another one had failed."""

RUNS = ("train", "sweep", "resume")
READERS = ("evaluate", "plot", "render", "export", "watch", "serve")
VERBS = (*RUNS, *READERS, "doctor", "envs", "check")
"""The other verbs of jaxdrl."""

MIN_WIDTH = 40
"""The least columns that a process prints in."""

EXAMPLE = "jaxdrl launch --processes 2 -- train CartPole-v1"

JAXDRL = "from jaxdrl.cli.main import main; main()"
"""The program of a verb; `-P` keeps the modules in the current directory out of it."""

STARTERS = {"SLURM": "srun ", "Open MPI": "mpirun ", "torchrun": "torchrun --no-python "}
"""What starts several processes by itself."""

Command = Annotated[
    tuple[str, ...],
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="-- VERB [VERB OPTIONS] | SCRIPT.py [SCRIPT OPTIONS]",
        help_behavior_hint="(required)",
    ),
]


def launch(*, processes: int = 2, restarts: int = 0, command: Command = ()) -> None:
    """Start several processes on this machine that train one run together.

    Use it to try out a run on several hosts on a single machine:
    `jaxdrl launch --processes 4 -- train CartPole-v1`. Each process gets an equal share of the
    cores and GPUs, and all of them end when one fails.

    Args:
      processes: Number of processes.
      restarts: How often to restart all of them after one is killed; train and sweep need --resume.
      command: A verb with its flags, or the path of a Python script with its own.
    """
    if code := main(command, processes, restarts):
        sys.exit(code)


def main(command: Sequence[str], num_processes: int, restarts: int) -> int:
    """Runs the processes, again after a failure that a restart can mend: the exit code.

    Raises:
      ConfigError: if the request is invalid, before any process is started.
    """
    _require_possible(command, num_processes, restarts, os.environ)
    if {"-h", "--help"} & set(command):
        num_processes = 1
    shares, words = share_gpus(num_processes, os.environ)
    if words:
        print(f"launch: {words}", file=sys.stderr)
    events = Events()
    with noted_signals(events) as noted:
        for attempt in range(restarts + 1):
            ends = run_together(_programs(command, num_processes, shares), events, noted)
            is_again = attempt < restarts and not noted and is_passing(ends)
            words = describe(ends)
            if is_again:
                words += f"; starting again ({attempt + 1} of {restarts})"
            if words and not noted:
                print(f"launch: {words}", file=sys.stderr)
            if not is_again:
                break
    return exit_code(ends) if ends else 128 + noted[0]


def require_separator(args: Sequence[str]) -> None:
    """Raises `ConfigError` for `launch` without `--`, whose flags would be taken for its own."""
    if args[:1] == ["launch"] and not {"--", "-h", "--help"} & set(args):
        raise ConfigError(f"launch: the command comes after --, as in: {EXAMPLE}")


def _require_possible(
    command: Sequence[str], num_processes: int, restarts: int, environ: Mapping[str, str]
) -> None:
    """Raises `ConfigError` for what cannot work."""
    fit("processes", num_processes, Annotated[int, Bounds(1, 256)])
    fit("restarts", restarts, Index)
    require(bool(command), "command", "", f"must be given after --, as in: {EXAMPLE}")
    verb = command[0]
    if verb.endswith(".py"):
        require(Path(verb).is_file(), "command", verb, "there is no such file")
    else:
        works = "cannot start itself; name the verb that each process runs, such as train"
        require(verb != "launch", "command", verb, works)
        nearest = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0)[0]
        have = f"is neither a verb nor a Python script (.py); the nearest verb: {nearest}"
        require(verb in VERBS, "command", verb, have)
    resumes = any(word.partition("=")[0] == "--resume" for word in command)
    if restarts and verb in ("train", "sweep") and not resumes:
        works = f"a restart repeats the command, and {verb} would begin a new run; add --resume"
        raise ConfigError(f"restarts = {restarts}: {works}, which continues the run in --run-dir")
    _require_alone(command, num_processes, environ)


def _require_alone(command: Sequence[str], num_processes: int, environ: Mapping[str, str]) -> None:
    """Raises `ConfigError` within processes that something else has started, or if they are off."""
    is_off = environ.get("JAXDRL_HOSTS") == "off"
    require(not is_off, "JAXDRL_HOSTS", "off", "the processes would train apart; unset it")
    found = cluster.find(environ, visible_gpus=0)
    if found is None:
        return
    starter = next((s for name, s in STARTERS.items() if found.found_by.startswith(name)), "")
    whole = f"{starter}{'python' if command[0].endswith('.py') else 'jaxdrl'} {shlex.join(command)}"
    raise ConfigError(
        f"{found.found_by}: this is one of {found.num_processes} processes already, each of which "
        f"would start {num_processes} more; leave launch out: {whole}"
    )


def _programs(
    command: Sequence[str], num_processes: int, shares: Sequence[Sequence[int]]
) -> list[Program]:
    """What the processes run; a new port each time, since the old one may be busy for a while."""
    before = [] if command[0].endswith(".py") else ["-P", "-c", JAXDRL]
    cores = share_cores(num_processes)
    common = {"PYTHONUNBUFFERED": "1"} | os.environ
    if num_processes > 1:
        common |= {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{_free_port()}"}
        common |= {"JAX_NUM_PROCESSES": str(num_processes)}
    if num_processes > 1 and os.isatty(1):  # of which a prefix takes a part
        width = shutil.get_terminal_size().columns - len(f"[{num_processes - 1}] ")
        common["COLUMNS"] = str(max(MIN_WIDTH, width))
    programs = []
    for process in range(num_processes):
        own = {"JAX_PROCESS_ID": str(process)} if num_processes > 1 else {}
        if shares:
            own["JAX_LOCAL_DEVICE_IDS"] = ",".join(map(str, shares[process]))
        prefix = f"[{process}] " if num_processes > 1 else None
        words = [sys.executable, *before, *command]
        programs.append(Program(words, common | own, cores[process], prefix))
    return programs


def share_cores(num_processes: int) -> list[list[int]]:
    """The cores of each process: equally many, or one that others may have too."""
    if not hasattr(os, "sched_getaffinity"):
        return [[] for _ in range(num_processes)]
    cores = sorted(os.sched_getaffinity(0))
    each = len(cores) // num_processes
    if not each:
        return [[cores[process % len(cores)]] for process in range(num_processes)]
    return [cores[process * each : (process + 1) * each] for process in range(num_processes)]


def share_gpus(num_processes: int, environ: Mapping[str, str]) -> tuple[list[list[int]], str]:
    """`(the GPUs of each process, what to say about it)`; no list where JAX computes elsewhere.

    Raises:
      ConfigError: if there are fewer GPUs than processes.
    """
    gpus = num_gpus(environ)
    if num_processes == 1 or not gpus:
        return [], ""
    if gpus < num_processes:
        have = "there is 1 GPU" if gpus == 1 else f"there are {gpus} GPUs"
        works = f"--processes {gpus}, or JAX_PLATFORMS=cpu to compute on the CPU"
        why = f"{have}, and each process needs one of its own"
        raise ConfigError(f"processes = {num_processes}: {why}; {works}")
    each = gpus // num_processes
    words = ""
    if left := gpus % num_processes:
        *most, last = map(str, divisors(gpus))
        are = "is" if left == 1 else "are"
        words = (
            f"{left} of {gpus} GPUs {are} not used; {', '.join(most)} or {last} processes use all"
        )
    return [list(range(i * each, (i + 1) * each)) for i in range(num_processes)], words


def num_gpus(environ: Mapping[str, str]) -> int:
    """Number of NVIDIA GPUs that JAX would use."""
    platform = environ.get("JAX_PLATFORMS", "").split(",")[0]
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    if platform not in ("", "cuda", "gpu") or not any(map(importlib.util.find_spec, plugins)):
        return 0
    return cluster.count_gpus(environ)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


# How it ended.


def causes(ends: Sequence[End]) -> list[End]:
    """The failures, in the order of time, without those that only follow from another."""
    failed = [end for end in ends if end.code and not end.was_sent]
    return [end for end in failed if end.code != PEER_FAILED] or failed


def is_passing(ends: Sequence[End]) -> bool:
    """Whether processes have failed in a way that may pass: killed, or without their peers."""
    found = causes(ends)
    return bool(found) and all(end.code < 0 or end.code == PEER_FAILED for end in found)


def exit_code(ends: Sequence[End]) -> int:
    """The code of the first process that failed; that of a refusal first of all."""
    if any(end.code == REFUSED for end in ends):
        return REFUSED
    code = next((end.code for end in causes(ends)), DONE)
    return code if code >= 0 else 128 - code


def describe(ends: Sequence[End]) -> str:
    """What failed first, in words; none for a refusal, of which the process has told."""
    if exit_code(ends) in (DONE, REFUSED):
        return ""
    first = causes(ends)[0]
    if first.code < 0:
        return f"process {first.process} was killed by {_name(-first.code)}"
    why = " because another one failed" if first.code == PEER_FAILED else ""
    return f"process {first.process} ended with code {first.code}{why}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
