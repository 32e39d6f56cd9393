"""What each launcher says in its environment variables. Imports no jax."""

from __future__ import annotations

import re
import socket
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jaxdrl.distributed import addresses
from jaxdrl.errors import ConfigError

FIRST_PORT, NUM_PORTS = 61440, 4096
"""Ports that are chosen: those above the ones that Linux gives to outgoing connections."""
KUBERNETES_PORT = 8476
"""Port of the coordinator in a pod, which has an address of its own."""
OFF = "JAXDRL_HOSTS=off makes this a run of one process"

Environ = Mapping[str, str]


@dataclass(frozen=True)
class Place:
    """What the variables of one launcher say; `address` gives host and port of process 0."""

    found_by: str
    num_processes: int
    index: int
    address: Callable[[], tuple[str, int]]
    local_index: int | None = None
    local_count: int | None = None


def from_jax(environ: Environ, host_name: str | None) -> Place | None:
    """The variables of JAX; a Kubernetes Job with an index gives that of the process."""
    count_given, index_given = environ.get("JAX_NUM_PROCESSES"), environ.get("JAX_PROCESS_ID")
    if not count_given and not index_given:
        return None
    count = number(environ, "JAX_NUM_PROCESSES", 1, beside="JAX_PROCESS_ID")
    if count > 1 and not index_given and environ.get("JOB_COMPLETION_INDEX"):
        index = number(environ, "JOB_COMPLETION_INDEX", 0, count - 1)
        pod = host_name or socket.getfqdn()
        return Place("Kubernetes", count, index, lambda: (_first_pod(pod, index), KUBERNETES_PORT))
    beside = "JAX_NUM_PROCESSES"
    index = 0 if count == 1 else number(environ, "JAX_PROCESS_ID", 0, count - 1, beside)
    return Place("JAX_NUM_PROCESSES", count, index, lambda: _missing("JAX_COORDINATOR_ADDRESS"))


def _first_pod(host_name: str, index: int) -> str:
    """Host name of the pod with index 0, from that of this pod."""
    name, _, domain = host_name.partition(".")
    if not domain or not name.endswith(f"-{index}"):
        raise ConfigError(
            f"JAX_COORDINATOR_ADDRESS is not set, and {host_name!r}, the name of this pod, is not "
            f"NAME-{index}.SERVICE, from which it would follow: set it to HOST:PORT of process 0, "
            "or set the pod's subdomain to the name of a headless Service"
        )
    return f"{name.removesuffix(f'-{index}')}-0.{domain}"


def from_torchrun(environ: Environ) -> Place | None:
    """The variables of `torchrun`, whose own store may listen on `MASTER_PORT`."""
    run = environ.get("TORCHELASTIC_RUN_ID") or environ.get("TORCHELASTIC_USE_AGENT_STORE")
    return _torch_place("torchrun", environ, run) if run else None


def from_torch_variables(environ: Environ) -> Place | None:
    """The same variables set by hand: nobody else listens on `MASTER_PORT`."""
    if not environ.get("RANK") or environ.get("WORLD_SIZE", "1") in ("", "1"):
        return None
    return _torch_place("RANK and WORLD_SIZE", environ, None)


def _torch_place(found_by: str, environ: Environ, run: str | None) -> Place:
    count = number(environ, "WORLD_SIZE", 1)
    index = number(environ, "RANK", 0, count - 1)
    local_index, local_count = _local(environ, "LOCAL_RANK", "LOCAL_WORLD_SIZE", count)

    def address() -> tuple[str, int]:
        host = environ.get("MASTER_ADDR") or _missing("MASTER_ADDR")[0]
        port = number(environ, "MASTER_PORT", 1, 65535)
        return host, port if run is None else _port(f"{host}:{port} {run}")

    return Place(found_by, count, index, address, local_index, local_count)


def from_open_mpi(environ: Environ) -> Place | None:
    """The variables of `mpirun`, which Open MPI 4 and 5 both set."""
    if not environ.get("OMPI_COMM_WORLD_SIZE") and not environ.get("OMPI_COMM_WORLD_RANK"):
        return None
    count = number(environ, "OMPI_COMM_WORLD_SIZE", 1)
    index = number(environ, "OMPI_COMM_WORLD_RANK", 0, count - 1)
    names = ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE")
    local = _local(environ, *names, count)
    return Place("Open MPI", count, index, lambda: _mpirun_host(environ), *local)


def _mpirun_host(environ: Environ) -> tuple[str, int]:
    """The host where `mpirun` was started, which is that of process 0 unless a list excludes it.

    Open MPI 4 names its addresses, as in `1531576320.0;tcp://10.96.0.1,10.148.0.1:34911`, and
    Open MPI 5 its name, as in `prterun-node03-12345@1`.
    """
    uri, namespace = environ.get("OMPI_MCA_orte_hnp_uri", ""), environ.get("PMIX_NAMESPACE", "")
    found = re.search(r"tcp://([^,:/]+)|tcp6://\[([^,\]]+)", uri)
    if found is not None:
        return found[1] or found[2], _port(uri)
    named = re.fullmatch(r"prte(?:run)?-(.+)-\d+@\d+", namespace)
    if named is not None:
        return named[1], _port(namespace)
    return _missing("JAX_COORDINATOR_ADDRESS")


def from_slurm(environ: Environ) -> Place | None:
    """The variables of a task that `srun` started.

    A batch script has those of the job alone, and waits for no tasks. It may have inherited those
    of a step too, if it was submitted from one, but then that step ran on other nodes.
    """
    given = environ.get("SLURM_STEP_NODELIST")
    if not given:
        return None
    nodes = addresses.expand_nodes("SLURM_STEP_NODELIST", given)
    of_job = addresses.expand_nodes("SLURM_JOB_NODELIST", environ.get("SLURM_JOB_NODELIST", given))
    if not {*nodes} <= {*of_job} or environ.get("SLURMD_NODENAME", nodes[0]) not in nodes:
        return None
    # An interactive shell keeps SLURM_NTASKS of its job and is a step of one task.
    has_own = environ.get("SLURM_STEP_NUM_TASKS")
    count = number(environ, "SLURM_STEP_NUM_TASKS" if has_own else "SLURM_NTASKS", 1)
    index = number(environ, "SLURM_PROCID", 0, count - 1)
    job = number(environ, "SLURM_JOB_ID", 1)
    step = number(environ, "SLURM_STEP_ID", 0) if environ.get("SLURM_STEP_ID") else 0
    port = FIRST_PORT + (job * 16 + step) % NUM_PORTS  # jobs in a row do not meet on a node
    local_count = count if len(nodes) == 1 else _tasks_here(environ, len(nodes))
    local_index = number(environ, "SLURM_LOCALID", 0, (local_count or count) - 1)
    place = (count, index, lambda: (nodes[0], port), local_index, local_count)
    return Place(f"SLURM step {job}.{step}", *place)


def _tasks_here(environ: Environ, num_nodes: int) -> int | None:
    """Tasks of the step on this node, from a list such as `4(x2),3`."""
    given, node = environ.get("SLURM_STEP_TASKS_PER_NODE"), environ.get("SLURM_NODEID")
    if not given or not node:
        return None
    counts: list[int] = []
    for part in given.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        counts += [int(found[1])] * int(found[2] or 1) if found else []
    if len(counts) != num_nodes:
        raise ConfigError(
            f"SLURM_STEP_TASKS_PER_NODE = {given!r}: must list {num_nodes} nodes, as in '4(x2),3'; "
            f"{OFF}"
        )
    return counts[number(environ, "SLURM_NODEID", 0, num_nodes - 1)]


def _local(environ: Environ, index: str, count: str, total: int) -> tuple[int | None, int | None]:
    """`(local index, local count)` from two variables, or None of both if either is not set."""
    if not environ.get(index) or not environ.get(count):
        return None, None
    local_count = number(environ, count, 1, total)
    return number(environ, index, 0, local_count - 1), local_count


def _port(text: str) -> int:
    """A port that is the same for all who know `text`."""
    return FIRST_PORT + zlib.crc32(text.encode()) % NUM_PORTS


def number(
    environ: Environ, name: str, low: int, high: int | None = None, beside: str | None = None
) -> int:
    """The variable `name` as an integer from `low` to `high`.

    Raises:
      ConfigError: if it is none, or not set although the variable `beside` is.
    """
    value = environ.get(name, "").strip()
    bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
    unset = f"{name} is not set" + (f", but {beside} is" if beside else "")
    said = f"{name} = {value!r}" if value else unset
    is_number = value.isascii() and value.isdecimal()
    if not is_number or int(value) < low or (high is not None and int(value) > high):
        raise ConfigError(f"{said}: must be an integer {bounds}; {OFF}")
    return int(value)


def _missing(name: str) -> tuple[str, int]:
    form = "HOST:PORT" if name == "JAX_COORDINATOR_ADDRESS" else "the host"
    raise ConfigError(f"{name} is not set: must be {form} of process 0; {OFF}")
