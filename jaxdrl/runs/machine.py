"""Describes this machine, and finds what on it is not set up as it should be."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import jax
from packaging.requirements import Requirement

import jaxdrl
from jaxdrl.distributed.microbatches import num_cores
from jaxdrl.runs.host_memory import free_host_memory

PACKAGES = ("jax", "jaxlib", "flax", "optax", "chex", "gymnax", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python, jaxdrl and the packages that decide its numbers."""
    own = {"python": platform.python_version(), "jaxdrl": jaxdrl.__version__}
    return own | {package: version(package) for package in PACKAGES}


def describe() -> dict[str, Any]:
    """Processor, cores, memory (bytes) and devices of this machine; starts JAX."""
    devices = jax.local_devices()
    stats = devices[0].memory_stats() or {}
    return {
        "processor": processor(),
        "cores": num_cores(),
        "free_host_memory": free_host_memory(),
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "num_devices": len(devices),
        "device_memory": stats.get("bytes_limit"),
    }


def processor() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def complaints(machine: dict[str, Any], environ: dict[str, str] | None = None) -> list[str]:
    """What makes training slow, or is not what was tested; each with what to do about it."""
    environ = dict(os.environ) if environ is None else environ
    found = [*_of_settings(environ), *_of_versions()]
    if machine["platform"] == "cpu" and has_nvidia_gpu():
        found.append(
            "there is an NVIDIA GPU, but JAX computes on the CPU: pip install 'jaxdrl[cuda12]', "
            "and unset JAX_PLATFORMS where it is set"
        )
    if machine["cores"] < (os.cpu_count() or 1):
        found.append(f"this process may use {machine['cores']} of {os.cpu_count()} cores")
    return found


def busy_cores(seconds: float = 0.5, stat: Path = Path("/proc/stat")) -> float | None:
    """How many of the cores of this process others keep busy; None where that is unknown.

    Args:
      seconds: how long to measure.
      stat: the file with the counters of the kernel.
    """
    first, own, then = _busy_seconds(stat), time.process_time(), time.perf_counter()
    time.sleep(seconds)
    last, own = _busy_seconds(stat), time.process_time() - own
    if first is None or last is None:
        return None
    return max(0.0, (last - first - own) / (time.perf_counter() - then))


def _busy_seconds(stat: Path) -> float | None:
    """Seconds for which the cores of this process have worked since the machine started."""
    try:
        fields = [line.split() for line in stat.read_text().splitlines()]
        cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
        # user, nice, system, irq, softirq, steal; idle and iowait are left out.
        own = [[int(x) for x in f[1:9]] for f in fields if f and f[0] in cores]
        ticks = sum(sum(times[:3]) + sum(times[5:8]) for times in own)
        return ticks / os.sysconf("SC_CLK_TCK") if own else None
    except (OSError, ValueError, AttributeError):
        return None


def busy_complaints(busy: float | None, cores: int | None = None) -> list[str]:
    """The complaint where other processes use more than a tenth of the cores."""
    cores = num_cores() if cores is None else cores
    if busy is None or busy < 0.1 * cores:
        return []
    return [
        f"other processes keep {busy:.1f} of {cores} cores busy: the speeds measured now are too "
        "low; measure again when they have ended"
    ]


def _of_settings(environ: dict[str, str]) -> list[str]:
    slow = {
        "jax_disable_jit": "each operation runs by itself: unset JAX_DISABLE_JIT",
        "jax_enable_x64": "64-bit numbers may slip in, at half the speed: unset JAX_ENABLE_X64",
        "jax_debug_nans": "every step is checked for NaN: unset JAX_DEBUG_NANS",
        "jax_debug_infs": "every step is checked for infinities: unset JAX_DEBUG_INFS",
        "jax_disable_most_optimizations": "programs are not optimised: unset "
        "JAX_DISABLE_MOST_OPTIMIZATIONS",
    }
    found = [f"{name} is on: {words}" for name, words in slow.items() if jax.config.values[name]]
    if not jax.config.values["jax_enable_compilation_cache"]:
        found.append("compiled programs are not cached: unset JAX_ENABLE_COMPILATION_CACHE")
    if environ.get("XLA_FLAGS"):
        found.append(
            f"XLA_FLAGS = {environ['XLA_FLAGS']!r}: not the compiler settings that were tested"
        )
    return found


def _of_versions() -> list[str]:
    """Installed packages outside the range that this version of jaxdrl was tested with."""
    found = []
    for line in requires("jaxdrl") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            found.append(f"{requirement} is not installed: pip install '{requirement}'")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            found.append(f"{requirement.name} {installed} was not tested: install {requirement}")
    return found


def has_nvidia_gpu() -> bool:
    """Whether the NVIDIA driver sees a GPU."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return False
    listed = subprocess.run([command, "-L"], capture_output=True, text=True, check=False)
    return listed.returncode == 0 and "GPU" in listed.stdout
