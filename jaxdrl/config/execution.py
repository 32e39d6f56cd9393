"""How a training step is computed. Importing this module imports neither jax nor gymnax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxdrl.checks import Count, check_fields


@dataclass(frozen=True)
class ExecutionConfig:
    """How a training step is computed, whatever the algorithm: shards, precision and memory.

    Raises:
      ConfigError: in the constructor, naming the field, its value and what works.
    """

    num_shards: Count = 8
    """Logical shards of the environments; the number of devices must divide it."""
    reproducible: bool = False
    """The same bits on any number of devices, at some cost in speed."""
    num_accumulation_steps: Count | None = None
    """Microbatches into which a minibatch is split, one after another, to save memory; None: one,
    but on a CPU as many as make it fastest."""
    remat: bool = False
    """Compute activations again for the gradient instead of keeping them, to save memory."""
    network_dtype: Literal["float32", "bfloat16"] = "float32"
    """Numbers inside the torso; parameters, heads and everything else stay float32."""
    matmul_precision: Literal["default", "high", "highest"] = "default"
    """Of the network's matrix products, as in jax.default_matmul_precision."""

    def __post_init__(self) -> None:
        check_fields(self)
