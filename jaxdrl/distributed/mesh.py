"""Meshes of devices: environments along one axis, members of a population along another."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from jaxdrl.checks import Count, checked, require

DATA_AXIS = "data"
"""Name of the mesh axis along which environments are sharded."""

POPULATION_AXIS = "population"
"""Name of the mesh axis along which the members of a population are sharded."""


@checked
def make_mesh(
    num_devices: Count | None = None, *, population: Count | None = None, data: Count | None = None
) -> Mesh:
    """A mesh of devices for the `mesh` of an algorithm, with `AxisType.Auto`.

    Where several processes are connected it spans all of them, with equally many devices of each.

    Args:
      num_devices: number of devices; None takes all.
      population: number of devices along the axis `population`, for `jaxdrl.population`; None takes
        those that `data` leaves, and makes no such axis if `data` is None, too.
      data: number of devices along the axis `data`, over which each member's environments are
        sharded; None takes those that `population` leaves.

    Raises:
      ConfigError: if there are fewer devices than asked for, or the axes do not fit them.
    """
    devices = in_process_order(jax.devices())
    if population is not None and data is not None:
        wanted = population * data
        fits = num_devices in (None, wanted)
        require(fits, "num_devices", num_devices, f"must be population * data = {wanted}, or None")
        num_devices = wanted
    if num_devices is None:
        num_devices = len(devices)
    kind = devices[0].platform
    num_processes = jax.process_count()
    who = "this process has" if num_processes == 1 else f"{num_processes} processes have"
    advice = f"{who} {len(devices)} {kind} device(s); ask for at most that many"
    if kind == "cpu":
        advice += (
            f", or simulate more before JAX is first used: "
            f'jax.config.update("jax_num_cpu_devices", {num_devices})'
        )
    require(num_devices <= len(devices), "num_devices", num_devices, advice)
    shape: tuple[int, ...] = (num_devices,)
    names: tuple[str, ...] = (DATA_AXIS,)
    if population is not None or data is not None:
        field, size = ("data", data) if data is not None else ("population", population)
        assert size is not None
        works = f"must divide num_devices = {num_devices}"
        require(num_devices % size == 0, field, size, works)
        rest = num_devices // size
        shape = (rest, size) if data is not None else (size, rest)
        names = (POPULATION_AXIS, DATA_AXIS)
    types = (AxisType.Auto,) * len(shape)
    if num_processes == 1:
        return jax.make_mesh(shape, names, axis_types=types, devices=devices[:num_devices])
    # In the order of the processes, which `jax.make_mesh` may change to suit the network.
    chosen = in_equal_parts(devices, num_devices)
    return Mesh(np.array(chosen).reshape(shape), names, axis_types=types)


def in_process_order(devices: Sequence[jax.Device]) -> list[jax.Device]:
    """Devices sorted by their processes."""
    return sorted(devices, key=lambda device: (device.process_index, device.id))


def in_equal_parts(devices: Sequence[jax.Device], num_devices: int) -> list[jax.Device]:
    """So many of the devices, equally many of each process.

    Raises:
      ConfigError: if that does not work out, naming the numbers that do.
    """
    of_process = [
        [device for device in devices if device.process_index == index]
        for index in range(jax.process_count())
    ]
    num_each, fewest = num_devices // len(of_process), min(map(len, of_process))
    works = f"must be {len(of_process)} * n, with n from 1 to {fewest}: as many of each process"
    fits = num_each * len(of_process) == num_devices and 1 <= num_each <= fewest
    require(fits, "num_devices", num_devices, works)
    return [device for own in of_process for device in own[:num_each]]


def spans_processes(mesh: Mesh | None) -> bool:
    """Whether some devices of a mesh belong to other processes."""
    return mesh is not None and len(mesh.local_devices) < mesh.devices.size
