"""The flags of `jaxdrl sweep`. Importing this module imports neither jax nor gymnax."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from jaxdrl.annotations import Bounds
from jaxdrl.checks import Count, check_fields, require
from jaxdrl.config.search_space import Draw, Sweep, check_names
from jaxdrl.config.settings import settings_of
from jaxdrl.errors import ConfigError

IS_RANGE = re.compile(r"(log:)?[^:]+:[^:]+")
"""What varies a setting, where a value would fix it: LOW:HIGH or log:LOW:HIGH."""


@dataclass(frozen=True)
class SweepFlags:
    """Which settings a sweep tries, and how.

    LOW:HIGH or log:LOW:HIGH in place of the value of a setting that is a float varies it, as in
    --learning-rate log:1e-4:1e-2.
    """

    ranges: tyro.conf.Suppress[dict[str, str]] = dataclasses.field(default_factory=dict)
    """Taken out of the arguments before they are parsed."""
    members: Count | None = None
    """How many settings are drawn; None: 16, or 1 where no range is given."""
    seeds: Count = 1
    """Members with the same setting and different seeds; a setting is ranked by all of them."""
    draw: Draw = "random"
    """How the settings are spread over the ranges."""
    pbt: bool = False
    """Population-based training: poor members copy good ones (exploit) and perturb their
    hyperparameters (explore)."""
    pbt_every: Count = 20
    """Updates between two rounds of exploit and explore."""
    pbt_fraction: Annotated[float, Bounds(0, 0.5, above=True)] = 0.2
    """Fraction of the members that is replaced in a round."""
    wave_size: Count | None = None
    """Members trained together; the rest follow in further waves. None: as many as fit into
    memory."""
    shape: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """NAME=CHOICE,CHOICE for a setting that shapes the program, such as num_steps=32,64 or
    hidden_sizes=64x64,256; may be repeated. Optuna proposes combinations, each of them a trial."""
    trials: Count = 10
    """How many combinations are tried, each with all members."""

    def __post_init__(self) -> None:
        check_fields(self, "sweep.")

    def to_sweep(self) -> Sweep:
        """The sweep that the flags describe.

        Raises:
          ConfigError: if nothing varies, or a range or shape is bad.
        """
        fields = dict(vars(self))
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
    return name.replace("-", "_"), choices


def take_ranges(args: list[str], config: Any) -> dict[str, str]:
    """The ranges in the arguments of a command, which lose them, by the names of the settings.

    >>> args = ["--gamma", "0.9:0.99", "--learning-rate", "3e-4"]
    >>> from jaxdrl import PPOConfig
    >>> take_ranges(args, PPOConfig()), args
    ({'gamma': '0.9:0.99'}, ['--learning-rate', '3e-4'])

    Args:
      args: of the command line.
      config: of the algorithm, whose hyperparameters may vary.

    Raises:
      ConfigError: for a range of a setting that cannot vary, with what to do instead.
    """
    flags = {f"--{name.replace('_', '-')}": name for name in settings_of(config)}
    found: dict[str, str] = {}
    i = 0
    while i < len(args):
        flag, has_value, value = args[i].partition("=")
        name = flags.get(flag.replace("_", "-"))
        value = value if has_value else "".join(args[i + 1 : i + 2])
        if name is None or not IS_RANGE.fullmatch(value):
            i += 1
            continue
        check_names(config, [name])
        found[name] = value
        del args[i : i + (1 if has_value else 2)]
    return found
