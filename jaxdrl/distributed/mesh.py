"""Meshes of devices: environments along one axis, members of a population along another."""

from __future__ import annotations

import jax
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
    """A mesh of devices of this host for the `mesh` of an algorithm, with `AxisType.Auto`.

    Args:
      num_devices: number of devices; None takes all.
      population: number of devices along the axis `population`, for `jaxdrl.population`; None takes
        those that `data` leaves, and makes no such axis if `data` is None, too.
      data: number of devices along the axis `data`, over which each member's environments are
        sharded; None takes those that `population` leaves.

    Raises:
      ConfigError: if there are fewer devices than asked for, or the axes do not fit them.
    """
    devices = jax.devices()
    if population is not None and data is not None:
        wanted = population * data
        fits = num_devices in (None, wanted)
        require(fits, "num_devices", num_devices, f"must be population * data = {wanted}, or None")
        num_devices = wanted
    if num_devices is None:
        num_devices = len(devices)
    kind = devices[0].platform
    advice = f"this process has {len(devices)} {kind} device(s); ask for at most that many"
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
    return jax.make_mesh(shape, names, axis_types=types, devices=devices[:num_devices])


def spans_processes(mesh: Mesh) -> bool:
    """Whether some of the devices of a mesh are those of other processes."""
    return any(device.process_index != jax.process_index() for device in mesh.devices.flat)
