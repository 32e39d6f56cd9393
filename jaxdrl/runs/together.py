"""How the processes of a run agree on it, before anything is compiled."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from jaxdrl.config.experiment import Experiment
from jaxdrl.distributed.hosts import Hosts
from jaxdrl.errors import ConfigError
from jaxdrl.runs.changes import Changes, described
from jaxdrl.runs.locking import LOCK_FILE, Claim, claim
from jaxdrl.runs.machine import processor, versions
from jaxdrl.runs.memory import MemoryBudget
from jaxdrl.runs.session import Session

NO_CHANGES = Changes()

FLAGS = (
    *("jax_enable_x64", "jax_default_prng_impl", "jax_threefry_partitionable"),
    *("jax_default_matmul_precision", "jax_numpy_dtype_promotion", "jax_disable_jit"),
    *("jax_debug_nans", "jax_debug_infs", "jax_enable_custom_prng", "jax_random_seed_offset"),
    *("jax_disable_most_optimizations", "jax_default_dtype_bits"),
)
"""Settings of JAX that change the program."""

VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_PLATFORMS")
"""Environment variables that change the program."""

SECONDS_TO_SEE = 3.0
"""How long a directory that one host has made may take to be seen by another."""


def require_same_run(
    hosts: Hosts, experiment: Experiment, overrides: list[str], changes: Changes = NO_CHANGES
) -> None:
    """Refuses a run that its processes do not start alike.

    Raises:
      ConfigError: on all of them, naming the process and the field.
    """
    if hosts.is_alone:
        return
    works = "run it in one process: JAXDRL_HOSTS=off"
    if experiment.debug_nans:
        raise ConfigError(f"debug_nans = True: looks for NaN in one process alone; {works}")
    flags = {name: jax.config.values[name] for name in FLAGS if name in jax.config.values}
    same: dict[str, Any] = {
        **versions(),
        **described(experiment),
        **{name: value for name, value in changes._asdict().items() if value},
        **{name: value if value is None else str(value) for name, value in flags.items()},
        **{name: os.environ.get(name) for name in VARIABLES},
        "overrides": overrides,
    }
    if experiment.run_dir is not None:
        same["run_dir"] = os.path.abspath(experiment.run_dir)
    if experiment.algorithm.execution.reproducible:
        same["processor"] = processor()  # others may round differently
    hosts.require_same("run", same)


def require_one_part(hosts: Hosts, experiment: Experiment) -> None:
    """Refuses a sweep in waves or trials, which a single process trains one after the other."""
    sweep = experiment.sweep
    if hosts.is_alone or sweep is None:
        return
    works = "is of parts that one process trains in turn; run it so with JAXDRL_HOSTS=off"
    if sweep.is_search:
        raise ConfigError(f"sweep.shapes: {works}")
    if sweep.wave_size is not None:
        raise ConfigError(f"sweep.wave_size = {sweep.wave_size}: {works}, or with fewer members")


@contextlib.contextmanager
def claim_together(run_dir: Path, session: Session) -> Iterator[Claim | None]:
    """Makes process 0 the only writer of `run_dir` for the block; the others see that they can.

    Returns:
      The claim, None in the other processes.

    Raises:
      ConfigError: on all processes, if another run writes there, or naming one whose host does not
        see the directory.
    """
    hosts, claimed = session.hosts, None
    with contextlib.ExitStack() as stack:
        if hosts.is_first:
            with hosts.refusing():
                claimed = stack.enter_context(claim(run_dir, session.warn))
        if not hosts.is_alone:
            _require_seen(run_dir, hosts)
        yield claimed


def _require_seen(run_dir: Path, hosts: Hosts) -> None:
    """Refuses a directory that is not the same one on every host."""
    lock = run_dir / LOCK_FILE
    written = hosts.first("lock", lambda: lock.read_text(errors="replace"))
    deadline = time.monotonic() + SECONDS_TO_SEE
    is_seen = _reads(lock, written)
    while not is_seen and time.monotonic() < deadline:
        time.sleep(0.1)
        is_seen = _reads(lock, written)
    for index, sees in enumerate(hosts.gather("sees", is_seen)):
        if not sees:
            there = f"{hosts.name(index)} does not see what {hosts.name(0)} writes to it"
            works = "name a directory that all hosts share"
            raise ConfigError(f"run_dir = {str(run_dir)!r}: {there}; {works}")


def _reads(path: Path, text: str) -> bool:
    with contextlib.suppress(OSError):
        os.listdir(path.parent)  # a network file system may have cached that it is not there
        return path.read_text(errors="replace") == text
    return False


def least_memory(hosts: Hosts, budget: MemoryBudget) -> MemoryBudget:
    """The budget of the process with the least free memory; those on a host share its memory."""
    if hosts.is_alone:
        return budget
    num_near = hosts.names.count(hosts.names[hosts.index])
    is_shared = jax.local_devices()[0].platform == "cpu"
    own = budget.free if budget.free is None or not is_shared else budget.free // num_near
    known = [free for free in hosts.gather("memory", own) if free is not None]
    return replace(budget, free=min(known, default=None))
