"""The flags of `jaxdrl sweep`. Importing this module imports neither jax nor gymnax."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from jaxdrl.config import ConfigError
from jaxdrl.hyperparams import Draw, Sweep, float_fields

RANGE = Annotated[str | None, tyro.conf.arg(metavar="LOW:HIGH|log:LOW:HIGH", help="(not varied)")]

Ranges: Any = dataclasses.make_dataclass(
    "Ranges", [(name, RANGE, None) for name in float_fields()], frozen=True
)
"""A range for each setting that may vary within one program."""


@dataclass(frozen=True)
class SweepFlags:
    """Which settings are tried, and how."""

    ranges: Annotated[Ranges, tyro.conf.arg(name="")]
    """Settings that vary."""
    members: int = 16
    """Settings that are drawn."""
    seeds: int = 1
    """Members of each setting, by which it is judged."""
    draw: Draw = "random"
    """How settings are spread over the ranges."""
    pbt: bool = False
    """Population-based training: members take over from the best and vary what they took."""
    pbt_every: int = 20
    """Updates between exchanges."""
    pbt_fraction: float = 0.2
    """Share of the members that is replaced at an exchange."""
    wave_size: int | None = None
    """Members trained at once, one wave of them after another; None: as many as fit."""

    def to_sweep(self) -> Sweep:
        """The sweep that the flags describe.

        Raises:
          ConfigError: if no range is given, or one is bad.
        """
        fields = vars(self) | {"ranges": {k: v for k, v in vars(self.ranges).items() if v}}
        if not fields["ranges"]:
            raise ConfigError(
                "sweep: nothing varies; give at least one range, such as "
                "--learning-rate log:1e-4:1e-2"
            )
        return Sweep(**fields)
