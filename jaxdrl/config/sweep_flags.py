"""The flags of `jaxdrl sweep`. Importing this module imports neither jax nor gymnax."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from jaxdrl.annotations import Bounds
from jaxdrl.checks import Count, check_fields, require
from jaxdrl.config.search_space import Draw, Sweep, float_fields
from jaxdrl.errors import ConfigError

RANGE = Annotated[str | None, tyro.conf.arg(metavar="LOW:HIGH|log:LOW:HIGH", help="(not varied)")]

_ABOUT = "A range for each setting that may vary within one program."

Ranges: Any = dataclasses.make_dataclass(
    "Ranges",
    [(name, RANGE, None) for name in float_fields()],
    namespace={"__doc__": _ABOUT, "__module__": __name__},
    frozen=True,
)


@dataclass(frozen=True)
class SweepFlags:
    """Which settings are tried, and how."""

    ranges: Annotated[Ranges, tyro.conf.arg(name="")]
    """Settings that vary."""
    members: Count | None = None
    """Settings that are drawn; None: 16, and 1 where no range is given."""
    seeds: Count = 1
    """Members of each setting, by which it is judged."""
    draw: Draw = "random"
    """How settings are spread over the ranges."""
    pbt: bool = False
    """Population-based training: members take over from the best and vary what they took."""
    pbt_every: Count = 20
    """Updates between exchanges."""
    pbt_fraction: Annotated[float, Bounds(0, 0.5, above=True)] = 0.2
    """Share of the members that is replaced at an exchange."""
    wave_size: Count | None = None
    """Members trained at once, one wave of them after another; None: as many as fit."""
    shape: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """NAME=CHOICE,CHOICE of what shapes the program, such as num_steps=32,64 or
    hidden_sizes=64x64,256; twice: their combinations. Each is a trial, proposed by Optuna."""
    trials: Count = 10
    """Combinations of shapes that are tried, each with all members."""

    def __post_init__(self) -> None:
        check_fields(self, "sweep.")

    def to_sweep(self) -> Sweep:
        """The sweep that the flags describe.

        Raises:
          ConfigError: if nothing varies, or a range or shape is bad.
        """
        fields = vars(self) | {"ranges": {k: v for k, v in vars(self.ranges).items() if v}}
        shapes = fields["shapes"] = dict(map(_name_and_choices, fields.pop("shape")))
        works = "must name each setting once, with all its choices"
        require(len(shapes) == len(self.shape), "shape", list(self.shape), works)
        if not fields["ranges"] and not fields["shapes"] and self.seeds == 1:
            raise ConfigError(
                "sweep: nothing varies; give at least one range, such as "
                "--learning-rate log:1e-4:1e-2, or --shape num_steps=32,64, or --seeds 5"
            )
        if self.members is None:
            fields["members"] = 16 if fields["ranges"] else 1
        return Sweep(**fields)


def _name_and_choices(text: str) -> tuple[str, str]:
    name, is_pair, choices = text.partition("=")
    works = "must be NAME=CHOICE,CHOICE, such as num_steps=32,64"
    require(bool(is_pair), "shape", text, works)
    return name.removeprefix("ppo.").replace("-", "_"), choices
