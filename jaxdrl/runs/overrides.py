"""Objects that a run is given in Python, which no file can hold."""

from __future__ import annotations

from dataclasses import dataclass

import optax
from flax import linen as nn

from jaxdrl.algorithms.build import MakeAlgorithm, config_type
from jaxdrl.core.types import Network
from jaxdrl.envs import Environment


@dataclass(frozen=True)
class Overrides:
    """Objects in place of what a config describes; None where the config is used.

    Attributes:
      env: in place of the environment that `Experiment.env` names.
      network: in place of the one that the settings describe.
      optimizer: likewise.
      make_algorithm: makes the algorithm of `Experiment.algorithm`, for one of one's own.
    """

    env: Environment | None = None
    network: nn.Module | Network | None = None
    optimizer: optax.GradientTransformation | None = None
    make_algorithm: MakeAlgorithm | None = None

    @property
    def names(self) -> list[str]:
        """The names of those that are given."""
        return [name for name, value in vars(self).items() if value is not None]

    @property
    def config_type(self) -> type | None:
        """The type of the settings of an algorithm of one's own, None where there is none."""
        return None if self.make_algorithm is None else config_type(self.make_algorithm)
