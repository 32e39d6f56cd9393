"""Starts JAX for `jaxdrl.run` and the `jaxdrl` command: devices and the cache of programs.

Importing jaxdrl sets nothing, and what the user has set already stays as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from jaxdrl.checks import largest_divisor
from jaxdrl.distributed.cluster_faults import addresses_of, name_faults
from jaxdrl.distributed.gloo_thread import waits_in_idle_time
from jaxdrl.distributed.hosts import Hosts
from jaxdrl.distributed.mesh import make_mesh
from jaxdrl.distributed.microbatches import num_cores
from jaxdrl.errors import ConfigError


class Beside(NamedTuple):
    """How many devices of each process are kept out of the mesh.

    Attributes:
      num: of any kind; None takes `num_on_cpu` on a CPU of several cores, and none elsewhere.
      num_on_cpu: see there.
    """

    num: int | None = 0
    num_on_cpu: int = 0

    def on(self, platform: str, num_devices: int) -> int:
        """The number on a platform, where there are so many devices."""
        if self.num is not None:
            return self.num
        return self.num_on_cpu if platform == "cpu" and num_devices > 1 else 0


NOTHING_BESIDE = Beside()


def beside_mesh(mesh: Mesh, beside: Beside) -> list[jax.Device]:
    """The devices that a mesh leaves; its own first one where there are none."""
    known = jax.local_devices()
    num = beside.on(known[0].platform, len(known))
    left = [device for device in known if device not in set(mesh.devices.flat)][:num]
    return left or [mesh.devices.flat[0]]


def start(
    num_devices: int | None,
    num_shards: int,
    hosts: Hosts | None = None,
    *,
    is_wish: bool = False,
    beside: Beside = NOTHING_BESIDE,
) -> tuple[Mesh, str]:
    """Starts JAX: `(mesh, what to print about it)`.

    Compiled programs are cached on disk. A CPU is simulated as several devices: as many as are
    asked for, or else one for each core, since two devices of one thread each are faster than one
    device of two threads.

    Args:
      num_devices: of the mesh; None takes the largest number that divides `num_shards`.
      num_shards: logical shards.
      hosts: the processes that the mesh spans, with equally many devices of each.
      is_wish: whether to take the largest number where there are not `num_devices`.
      beside: devices that are kept out of the mesh.

    Raises:
      ConfigError: if there is no device, or fewer than are asked for, or if the processes cannot
        share the shards equally.
    """
    hosts = hosts or Hosts()
    cache = keep_programs()
    require_equal_shares(num_shards, num_devices, hosts, is_wish)
    if num_devices is not None and num_devices % hosts.count:
        num_devices = None
    num_each = min(hosts.gather("cores", num_cores()))
    num_beside = beside.on("cpu", num_each)
    wanted = num_devices or most_devices(num_shards, num_each - num_beside, hosts.count)
    is_late = not simulate_devices(wanted // hosts.count + num_beside)
    devices = _devices_of(hosts)
    of_each = [num_of(devices, index) for index in range(hosts.count)]
    num_beside = beside.on(devices[0].platform, min(of_each))
    of_each = [max(1, num - num_beside) for num in of_each]
    if is_wish and num_devices is not None and num_devices > min(of_each) * hosts.count:
        num_devices = None
    chosen = num_devices or most_devices(num_shards, min(of_each), hosts.count)
    mesh = make_mesh(chosen)
    require_alike(mesh, hosts)
    is_part = num_devices is None and chosen < len(devices) - num_beside
    words = f"devices: {chosen}"
    if is_part:
        words += f" of {len(devices)}, the most that divide num_shards = {num_shards}"
        words += "" if hosts.is_alone else f" in equal parts of {hosts.count} processes"
    words += f" ({_kind_in_words(mesh, hosts)}); compiled programs: {cache or 'not cached'}"
    is_cpu = devices[0].platform == "cpu"
    if is_late and is_cpu and chosen == 1 < wanted and hosts.is_alone:
        words += (
            f"\nnote: {wanted} devices would train faster on {num_cores()} cores, but JAX had "
            "already started, as it does for the first array; put this line above that: "
            f'jax.config.update("jax_num_cpu_devices", {wanted})'
        )
    return mesh, words


def _devices_of(hosts: Hosts) -> list[jax.Device]:
    """The devices of all processes."""
    try:
        with contextlib.nullcontext() if hosts.is_alone else waits_in_idle_time():
            return jax.devices()
    except RuntimeError as error:
        raise ConfigError(
            f"JAX found no device: {error}. For an NVIDIA GPU: pip install 'jaxdrl[cuda12]'; "
            "for a TPU: pip install 'jaxdrl[tpu]'; JAX_PLATFORMS=cpu takes the CPU"
        ) from error


def _kind_in_words(mesh: Mesh, hosts: Hosts) -> str:
    """The kind of the devices of a mesh, and how they are shared out."""
    chosen, kind = int(mesh.devices.size), str(mesh.devices.flat[0].device_kind)
    if not hosts.is_alone:
        return f"{kind}, {chosen // hosts.count} in each of {hosts.count} processes"
    if kind != "cpu" or chosen == 1:
        return kind
    if chosen > num_cores():
        return f"CPU, simulated on {num_cores()} core(s)"
    of = "its" if chosen == num_cores() else f"{chosen} of its"
    return f"CPU, one for each of {of} {num_cores()} cores"


def require_alike(mesh: Mesh, hosts: Hosts) -> None:
    """Refuses devices of different kinds, and CPUs of hosts that could not reach each other."""
    device = mesh.local_devices[0]
    hosts.require_same("devices", {"the kind of devices": device.device_kind})
    if device.platform != "cpu" or len(set(hosts.names)) == 1:
        return
    name = hosts.names[hosts.index]
    faults = name_faults(name, addresses_of(name))
    for index, fault in enumerate(hosts.gather("names", faults[0] if faults else None)):
        if fault is not None:
            raise ConfigError(f"{hosts.name(index)}: {fault}")


def num_of(devices: list[jax.Device], index: int) -> int:
    """How many of the devices belong to a process."""
    return sum(device.process_index == index for device in devices)


def most_devices(num_shards: int, num_each: int, num_processes: int) -> int:
    """The most devices that divide the shards, with at most `num_each` of each process."""
    return num_processes * largest_divisor(num_shards // num_processes, num_each)


def require_equal_shares(
    num_shards: int, num_devices: int | None, hosts: Hosts, is_wish: bool
) -> None:
    """Refuses shards or devices that the processes cannot share equally."""
    count = hosts.count
    if num_shards % count:
        *fewer, most = [str(n) for n in range(1, num_shards + 1) if num_shards % n == 0]
        fits = f"{', '.join(fewer)} or {most} processes" if fewer else "1 process"
        raise ConfigError(
            f"num_shards = {num_shards}: {count} processes cannot share them equally; start "
            f"{fits}, or a new run with --num-shards {count * -(-num_shards // count)}"
        )
    if num_devices is not None and num_devices % count and not is_wish:
        raise ConfigError(
            f"devices = {num_devices}: is the number in all {count} processes together; must be a "
            f"multiple of {count}, such as {count * -(-num_devices // count)}"
        )


def simulate_devices(num_devices: int) -> bool:
    """Simulates so many devices on the CPU, unless the user has set another number.

    Returns:
      False where it is too late, since JAX has started already.
    """
    is_set = jax.config.values["jax_num_cpu_devices"] > 0
    if is_set or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return True
    try:
        jax.config.update("jax_num_cpu_devices", num_devices)
    except RuntimeError:
        return False
    return True


def keep_programs() -> Path | None:
    """Caches compiled programs on disk, unless the user has set up a cache.

    Returns:
      The directory: the user's, or one under `$XDG_CACHE_HOME` (`~/.cache`) for this jaxlib and
      this kind of processor. None where it cannot be written, and nothing is cached.
    """
    given = jax.config.values["jax_compilation_cache_dir"]
    if given is not None:
        return Path(given)
    if not jax.config.values["jax_enable_compilation_cache"]:
        return None
    directory = cache_directory()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(directory, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return directory


def cache_directory() -> Path:
    """Where programs are cached; machines that share a home may differ in their instructions."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    features = hashlib.sha256(f"{platform.machine()} {_processor_flags()}".encode()).hexdigest()[:8]
    return root / "jaxdrl" / f"jaxlib-{version('jaxlib')}-{features}"


def _processor_flags() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
