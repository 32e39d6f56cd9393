"""Finds from environment variables which of several processes this one is. Imports no jax.

Launchers nest, and the innermost one started this process: `torchrun` inside `srun` leaves the
variables of both, and `mpirun` starts its daemons by `srun`. So torchrun and Open MPI are asked
before SLURM. Variables of one process count for nothing, and neither do those that a shell or a
batch script inherits although nobody started several processes.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from jaxdrl.distributed import addresses, launchers
from jaxdrl.distributed.launchers import OFF, Environ, Place, number
from jaxdrl.errors import ConfigError

GPUS = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Cluster:
    """Several processes, and which of them this one is."""

    coordinator: str
    """`HOST:PORT`, where process 0 listens and all processes connect."""
    num_processes: int
    index: int
    local_device_ids: tuple[int, ...] | None
    """GPUs of this process, counted among those that it sees; None: all of them."""
    found_by: str
    """Whose variables said so, in words."""
    local_index: int | None = None
    """This process among those of its host, where it is known."""
    local_count: int | None = None
    """Processes on this host, where it is known."""


def find(
    environ: Environ, *, visible_gpus: int | None = None, host_name: str | None = None
) -> Cluster | None:
    """The processes that a launcher has started this one among; None for a run of one process.

    `JAX_COORDINATOR_ADDRESS` has the last word on the coordinator, `JAX_COORDINATOR_PORT` on the
    port of one that is found, and `JAX_LOCAL_DEVICE_IDS` on the devices.

    Args:
      environ: environment variables.
      visible_gpus: number of GPUs that this process sees; None counts them.
      host_name: name of this host with its domain; None asks for it where it is needed.

    Raises:
      ConfigError: for variables that are wrong or incomplete, naming one and what works.
    """
    mode = environ.get("JAXDRL_HOSTS") or "auto"
    if mode not in ("auto", "off"):
        raise ConfigError(
            f"JAXDRL_HOSTS = {mode!r}: must be 'auto', which looks for several processes, or "
            "'off', which does not"
        )
    if mode == "off":
        return None
    place = (
        launchers.from_jax(environ, host_name)
        or launchers.from_torchrun(environ)
        or launchers.from_open_mpi(environ)
    )
    if place is None:
        place = launchers.from_slurm(environ)
        if place is None or place.num_processes == 1:  # such as an interactive shell
            place = launchers.from_torch_variables(environ) or place
    if place is None and environ.get("JAX_COORDINATOR_ADDRESS"):
        number(environ, "JAX_NUM_PROCESSES", 1, beside="JAX_COORDINATOR_ADDRESS")
    if place is None or place.num_processes == 1:
        return None
    seen = count_gpus(environ) if visible_gpus is None else visible_gpus
    return Cluster(
        coordinator=_coordinator(environ, place),
        num_processes=place.num_processes,
        index=place.index,
        local_device_ids=_devices(environ, place, seen),
        found_by=place.found_by,
        local_index=place.local_index,
        local_count=place.local_count,
    )


def count_gpus(environ: Environ) -> int:
    """Number of NVIDIA GPUs that this process sees, without starting CUDA."""
    given = environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        try:
            return len(list(GPUS.iterdir()))
        except OSError:
            return 0
    count = 0
    for name in given.split(","):  # CUDA stops at the first that it does not know
        if not re.fullmatch(r"\d+|GPU-.+|MIG-.+", name.strip()):
            break
        count += 1
    return count


def _coordinator(environ: Environ, place: Place) -> str:
    given = environ.get("JAX_COORDINATOR_ADDRESS")
    if given:
        return addresses.join(*addresses.split("JAX_COORDINATOR_ADDRESS", given))
    host, port = place.address()
    if place.local_count == place.num_processes:
        host = "127.0.0.1"  # which is right whatever the name of this host resolves to
    if environ.get("JAX_COORDINATOR_PORT"):
        port = number(environ, "JAX_COORDINATOR_PORT", 1, 65535)
    return addresses.join(host, port)


def _devices(environ: Environ, place: Place, seen: int) -> tuple[int, ...] | None:
    """GPUs of this process: an equal part of those that the processes of this host all see."""
    given = environ.get("JAX_LOCAL_DEVICE_IDS")
    if given:
        ids = [int(i) if i.strip().isdecimal() else -1 for i in given.split(",")]
        if -1 in ids or len(set(ids)) < len(ids):
            raise ConfigError(
                f"JAX_LOCAL_DEVICE_IDS = {given!r}: must be different numbers of devices, such as "
                "'0,1'"
            )
        return tuple(ids)
    index, count = place.local_index, place.local_count
    platforms = environ.get("JAX_PLATFORMS", "")
    is_elsewhere = platforms and "cuda" not in platforms and "gpu" not in platforms
    if is_elsewhere or index is None or count is None or count == 1 or seen < count:
        return None
    has_own = environ.get("SLURM_GPUS_PER_TASK") == str(seen)
    on_host = environ.get("SLURM_GPUS_ON_NODE", "")
    if has_own or (on_host.isdecimal() and seen < int(on_host)):
        return None
    if seen % count:
        raise ConfigError(
            f"{seen} GPUs cannot be shared equally by {count} processes of a host: start as many "
            f"processes as GPUs, or one, or set JAX_LOCAL_DEVICE_IDS in each; {OFF}"
        )
    share = seen // count
    return tuple(range(index * share, (index + 1) * share))


def bind_address(coordinator: str, environ: Environ = os.environ) -> str:
    """The address that the coordinator of process 0 binds to: its own, never all of the host.

    Args:
      coordinator: `HOST:PORT`, as in `Cluster.coordinator`.
      environ: environment variables, of which `JAX_COORDINATOR_BIND_ADDRESS` has the last word.

    Raises:
      ConfigError: if the name is not that of an address of this host, naming what to set.
    """
    given = environ.get("JAX_COORDINATOR_BIND_ADDRESS")
    if given:
        return addresses.join(*addresses.split("JAX_COORDINATOR_BIND_ADDRESS", given))
    return addresses.own_address(coordinator)
