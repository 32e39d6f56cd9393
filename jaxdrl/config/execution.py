"""How a training step is computed. Importing this module imports neither jax nor gymnax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxdrl.checks import Count, check_fields


@dataclass(frozen=True)
class ExecutionConfig:
    """How a training step is computed, for any algorithm: sharding, precision and memory use.

    Raises:
      ConfigError: in the constructor, naming the field, its value and what works.
    """

    num_shards: Count = 8
    """Logical shards of the environments; the number of devices must divide it."""
    reproducible: bool = False
    """Compute the same bits on any number of devices, at some cost in speed."""
    num_accumulation_steps: Count | None = None
    """Microbatches whose gradients are accumulated for one minibatch, to save memory; None: one, or
    on a CPU as many as are fastest."""
    remat: bool = False
    """Recompute activations in the backward pass instead of storing them, to save memory."""
    network_dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision inside the torso; parameters, heads and everything else stay float32."""
    matmul_precision: Literal["default", "high", "highest"] = "default"
    """Precision of the network's matrix products, as in jax.default_matmul_precision."""

    def __post_init__(self) -> None:
        check_fields(self)
