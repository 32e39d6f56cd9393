"""Into how many parts the gradient of a batch is cut, so that a CPU computes it fastest."""

from __future__ import annotations

import os
from dataclasses import dataclass

import jax

from jaxdrl.checks import largest_divisor


@dataclass(frozen=True)
class PartSizes:
    """Samples of a part on a CPU; measured on two cores, `experiments/README.md` has the figures.

    Attributes:
      own_core: on a device with one core: their activations stay in its cache.
      many_cores: on a device with several: fewer would not keep them all busy.
      reproducible: in reproducible mode, where it cannot depend on the devices: a compromise.
      fewest_rows: of sequences, whose steps wait for each other, so that each has enough to do.
    """

    own_core: int = 256
    many_cores: int = 8192
    reproducible: int = 1024
    fewest_rows: int = 16


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def num_parts(num_rows: int, device: jax.Device, *, reproducible: bool, row_length: int = 1) -> int:
    """A divisor of `num_rows`: parts of about the right size on a CPU, 1 on any other device.

    A row is a sequence of `row_length` samples.
    """
    if device.platform != "cpu":
        return 1
    sizes = PartSizes()
    if reproducible:
        size = sizes.reproducible
    else:
        has_own_core = len(jax.devices("cpu")) >= num_cores()
        size = sizes.own_core if has_own_core else sizes.many_cores
    rows = max(size // row_length, 1 if row_length == 1 else sizes.fewest_rows)
    return largest_divisor(num_rows, num_rows // rows)
