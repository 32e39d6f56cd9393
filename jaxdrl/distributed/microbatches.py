"""Chooses the number of microbatches with which a CPU computes the gradient of a batch fastest."""

from __future__ import annotations

import os
from dataclasses import dataclass

import jax

from jaxdrl.checks import largest_divisor
from jaxdrl.distributed.layout import Layout


@dataclass(frozen=True)
class MicrobatchSizes:
    """Samples in a microbatch on a CPU, measured on two cores (`experiments/README.md`).

    Attributes:
      own_core: for a device with a single core, in whose cache the activations stay.
      many_cores: for a device with several cores, which fewer samples would not keep busy.
      reproducible: in reproducible mode, a compromise that does not depend on the devices.
      fewest_rows: the fewest sequences, so that each step, which waits for the one before, has
        enough work.
    """

    own_core: int = 256
    many_cores: int = 8192
    reproducible: int = 1024
    fewest_rows: int = 16


def num_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def num_microbatches(
    num_rows: int, device: jax.Device, *, reproducible: bool, row_length: int = 1
) -> int:
    """Number of microbatches, a divisor of `num_rows`; 1 on any device but a CPU.

    A row is a sequence of `row_length` samples.
    """
    if device.platform != "cpu":
        return 1
    sizes = MicrobatchSizes()
    if reproducible:
        size = sizes.reproducible
    else:
        has_own_core = jax.local_device_count("cpu") >= num_cores()
        size = sizes.own_core if has_own_core else sizes.many_cores
    rows = max(size // row_length, 1 if row_length == 1 else sizes.fewest_rows)
    return largest_divisor(num_rows, num_rows // rows)


def num_parts(layout: Layout, num_rows: int, given: int | None, row_length: int = 1) -> int:
    """The number of microbatches that is given, else that of `num_microbatches` for a layout."""
    device = jax.local_devices()[0] if layout.mesh is None else layout.mesh.devices.flat[0]
    return given or num_microbatches(
        num_rows, device, reproducible=layout.reproducible, row_length=row_length
    )
