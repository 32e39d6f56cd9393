"""Starts JAX for `jaxdrl.run` and the `jaxdrl` command: devices and the cache of programs.

Importing jaxdrl sets nothing, and what the user has set already stays as it is.
"""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path

import jax
from jax.sharding import Mesh

from jaxdrl.checks import largest_divisor
from jaxdrl.distributed.mesh import make_mesh
from jaxdrl.distributed.microbatches import num_cores
from jaxdrl.errors import ConfigError


def start(num_devices: int | None, num_shards: int) -> tuple[Mesh, str]:
    """Starts JAX: `(mesh, what to print about it)`.

    Compiled programs are cached on disk. A CPU is simulated as several devices: as many as are
    asked for, or else one for each core, since two devices of one thread each are faster than one
    device of two threads.

    Args:
      num_devices: of the mesh; None takes the largest number that divides `num_shards`.
      num_shards: logical shards.

    Raises:
      ConfigError: if there is no device, or fewer than are asked for.
    """
    cache = keep_programs()
    wanted = num_devices or largest_divisor(num_shards, num_cores())
    is_late = not simulate_devices(wanted)
    try:
        devices = jax.devices()
    except RuntimeError as error:
        raise ConfigError(
            f"JAX found no device: {error}. For an NVIDIA GPU: pip install 'jaxdrl[cuda12]'; "
            "for a TPU: pip install 'jaxdrl[tpu]'; JAX_PLATFORMS=cpu takes the CPU"
        ) from error
    chosen = num_devices or largest_divisor(num_shards, len(devices))
    mesh = make_mesh(chosen)
    left = num_devices is None and chosen < len(devices)
    of_all = f" of {len(devices)}, the most that divide num_shards = {num_shards}"
    kind = f"{mesh.devices.flat[0].device_kind}"
    if kind == "cpu" and chosen > 1:
        kind = f"CPU, one for each of {chosen} of its {num_cores()} cores"
        if chosen > num_cores():
            kind = f"CPU, simulated on {num_cores()} core(s)"
    words = f"devices: {chosen}{of_all if left else ''} ({kind}); "
    words += f"compiled programs: {cache or 'not cached'}"
    if is_late and kind == "cpu" and chosen < wanted:
        words += (
            f"\nnote: {wanted} devices would train faster on {num_cores()} cores, but JAX had "
            "already started, as it does for the first array; put this line above that: "
            f'jax.config.update("jax_num_cpu_devices", {wanted})'
        )
    return mesh, words


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
