"""Ranges of float hyperparameters, draws from them, and the sweep that a config describes.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from jaxdrl.annotations import Bounds, may_be
from jaxdrl.checks import Count, Index, Share, check_fields, require
from jaxdrl.config.choices import OF_DEVICES, Choices, parse_choices
from jaxdrl.config.settings import hyperparameters, settings_of
from jaxdrl.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

MAX_MEMBERS = 100_000
"""Of a sweep, with all their seeds; each is an agent with an environment state of its own."""

Draw = Literal["random", "sobol", "grid"]
"""How members are spread over their ranges."""


@dataclass(frozen=True)
class Range:
    """Values from `low` to `high`, spread evenly, or evenly in their logarithm.

    Raises:
      ConfigError: if it is empty or not finite, or begins at or below 0 where it is logarithmic.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "range.")
        works = "must be LOW:HIGH or log:LOW:HIGH with LOW below HIGH"
        require(self.low < self.high, "range", str(self), works)
        works = "must begin above 0, where its logarithm exists; LOW:HIGH is the even one"
        require(not self.log or self.low > 0, "range", str(self), works)

    def __str__(self) -> str:
        return f"{'log:' if self.log else ''}{self.low:g}:{self.high:g}"

    def at(self, share: Any) -> Any:
        """The value at `share` of the way, 0 to 1; arrays of any kind."""
        if self.log:
            return self.low * (self.high / self.low) ** share
        return self.low + (self.high - self.low) * share


@dataclass(frozen=True)
class Sweep:
    """Many members that differ in hyperparameters and seeds, trained in one program.

    Raises:
      ConfigError: in the constructor, naming the field, its value and what works.
    """

    ranges: dict[str, str]
    """LOW:HIGH or log:LOW:HIGH for each hyperparameter that varies."""
    members: Count = 16
    """How many settings are drawn."""
    seeds: Count = 1
    """Members with the same setting and different seeds."""
    draw: Draw = "random"
    """How the settings are spread over the ranges."""
    pbt: bool = False
    """Population-based training: poor members copy good ones (exploit) and perturb their
    hyperparameters (explore)."""
    pbt_every: Count = 20
    """Updates between two rounds of exploit and explore."""
    pbt_fraction: Annotated[float, Bounds(0, 0.5, above=True)] = 0.2
    """Fraction of the members that is replaced in a round."""
    pbt_factor: Annotated[float, Bounds(1, above=True)] = 1.2
    """Factor by which a hyperparameter is perturbed."""
    pbt_resample: Share = 0.25
    """Probability that a hyperparameter is drawn from its range again instead."""
    wave_size: Count | None = None
    """Members trained together; the rest follow in further waves. None: as many as fit into
    memory."""
    wave: Index | None = None
    """Number of the wave that this run is; None: the whole sweep."""
    shapes: dict[str, str] = field(default_factory=dict)
    """Choices for settings that shape the program, separated by commas: an outer search."""
    trials: Count = 10
    """How many combinations of these choices are tried, each with all members."""
    trial: Index | None = None
    """Number of the trial that this run is; None: the whole search."""

    def __post_init__(self) -> None:
        check_fields(self, "sweep.")
        self._check_size()
        is_varied = bool(self.ranges) or ((bool(self.shapes) or self.seeds > 1) and not self.pbt)
        require(is_varied, "sweep.ranges", self.ranges, "must have at least one, or several seeds")
        self.parsed()
        self._check_shapes()
        if self.pbt:
            require(self.members >= 2, "sweep.members", self.members, "pbt needs at least 2")
            works = "must be 1 with pbt, whose members do not keep their settings"
            require(self.seeds == 1, "sweep.seeds", self.seeds, works)
        self._check_waves()

    def _check_size(self) -> None:
        """Before anything is drawn, which takes memory for each member."""
        for name, others in (("seeds", 1), ("members", self.seeds)):
            most, value = MAX_MEMBERS // others, getattr(self, name)
            of_each = f" of {others} seeds each" if others > 1 else ""
            works = f"must be at most {most}{of_each}: a sweep has up to {MAX_MEMBERS:,} agents"
            require(value <= most, f"sweep.{name}", value, works)

    def check_algorithm(self, config: Any) -> None:
        """Refuses ranges and choices of what is not a setting of the algorithm.

        Raises:
          ConfigError: naming the setting and the nearest that there is.
        """
        check_names(config, self.ranges)
        self.choices(config)

    def _check_shapes(self) -> None:
        if not self.ranges:
            works = "must be 1 where no range is given; --seeds has members of one setting"
            require(self.members == 1, "sweep.members", self.members, works)
        if self.trial is not None:
            works = f"must be from 0 to {self.trials - 1}, and for a search over shapes"
            is_one = 0 <= self.trial < self.trials and len(self.shapes) > 0
            require(is_one, "sweep.trial", self.trial, works)

    def _check_waves(self) -> None:
        size, total = self.wave_size, self.members * self.seeds
        if size is not None:
            works = f"must be None or {total} with pbt, whose members are trained together"
            require(size >= total or not self.pbt, "sweep.wave_size", size, works)
        if self.wave is not None:
            num_waves = 1 if size is None else -(-total // size)
            works = f"must be from 0 to {num_waves - 1}, by wave_size and members"
            require(0 <= self.wave < num_waves, "sweep.wave", self.wave, works)

    @property
    def numbers(self) -> range:
        """Of the members that this run trains; those of setting `i` are `i * seeds` and on."""
        every = range(self.members * self.seeds)
        if self.wave is None or self.wave_size is None:
            return every
        return every[self.wave * self.wave_size : (self.wave + 1) * self.wave_size]

    @property
    def num_members(self) -> int:
        """Members that this run trains: `members * seeds`, or those of its wave; of each trial."""
        return len(self.numbers)

    @property
    def is_search(self) -> bool:
        """Whether this is a search over shapes, whose trials are the sweeps."""
        return len(self.shapes) > 0 and self.trial is None

    @property
    def num_waves(self) -> int:
        """How many waves this sweep is trained in; 0 where all its members fit at once."""
        size = self.wave_size
        if self.is_search or self.wave is not None or size is None or size >= self.num_members:
            return 0
        return -(-self.num_members // size)

    @property
    def waves(self) -> list[Sweep]:
        """The sweeps over a part of the members that this one is; none where all fit at once."""
        return [dataclasses.replace(self, wave=i) for i in range(self.num_waves)]

    def parsed(self) -> dict[str, Range]:
        """The ranges by name."""
        return {name: parse_range(name, text) for name, text in self.ranges.items()}

    def choices(self, config: Any) -> dict[str, dict[str, Any]]:
        """The choices of each setting of an algorithm that shapes the program, by their text."""
        return {name: parse_choices(config, name, text) for name, text in self.shapes.items()}

    @property
    def axes(self) -> dict[str, Range | Choices]:
        """What differs between the settings that are ranked, by name."""
        shapes = self.shapes if self.is_search else {}
        texts = {name: [part.strip() for part in text.split(",")] for name, text in shapes.items()}
        return self.parsed() | {name: Choices(tuple(parts)) for name, parts in texts.items()}

    def values(self, seed: int) -> dict[str, np.ndarray]:
        """Hyperparameters of every member, float32 `[num_members]`; none without ranges."""
        import numpy as np

        if not self.ranges:
            return {}
        drawn = draw(self.parsed(), self.members, self.draw, seed)
        own = np.asarray(self.numbers) // self.seeds
        return {name: values[own].astype(np.float32) for name, values in drawn.items()}


def parse_range(field: str, text: str) -> Range:
    """`LOW:HIGH` or `log:LOW:HIGH`, as the command line has it.

    Raises:
      ConfigError: naming `field`.
    """
    kind, _, rest = text.partition(":") if text.startswith("log:") else ("", "", text)
    try:
        low, high = (float(part) for part in rest.split(":"))
        return Range(low, high, log=kind == "log")
    except ValueError as error:
        works = "must be LOW:HIGH or log:LOW:HIGH, such as log:1e-4:1e-2"
        raise ConfigError(f"{field} = {text!r}: {works}") from error
    except ConfigError as error:
        raise ConfigError(f"{field}: {error}") from error


def check_names(config: Any, names: Iterable[str]) -> None:
    """Refuses names that are not those of hyperparameters of an algorithm.

    Args:
      config: of the algorithm.
      names: of what is to vary.

    Raises:
      ConfigError: naming the nearest, or why one that exists does not do.
    """
    settings, varying = settings_of(config), hyperparameters(config)
    for name in names:
        if name in varying:
            continue
        if name in settings and may_be(float, settings[name].hint):
            works = "is a float that cannot vary; it can if the default of its field is "
            works += "jaxdrl.hyperparameter(...)"
        elif name in OF_DEVICES:
            works = f"does not change what is learned; --{name.replace('_', '-')} takes one value"
        elif name in settings:
            works = "shapes the program, which all members share; floats vary within one program, "
            works += f"and --shape {name}=CHOICE,CHOICE tries one program after another"
        elif not varying:
            works = "the algorithm has no hyperparameters that can vary; a float field of its "
            works += "settings is one if its default is jaxdrl.hyperparameter(...)"
        else:
            (nearest,) = difflib.get_close_matches(name, varying, n=1, cutoff=0)
            works = f"is not a setting of the algorithm; did you mean {nearest}?"
        raise ConfigError(f"hyperparams.{name}: {works}")


def draw(ranges: Mapping[str, Range], num: int, how: Draw, seed: int) -> dict[str, np.ndarray]:
    """Values of each hyperparameter for `num` members, float64 `[num]`.

    Args:
      ranges: by name.
      num: how many members.
      how: "random", independent and even; "sobol", a scrambled Sobol sequence, which fills the
        ranges more evenly (Sobol' 1967; Owen 1998, via `scipy.stats.qmc`); "grid", as many values
        of each, from end to end, in all combinations.
      seed: of the draws; a grid needs none.

    Raises:
      ConfigError: if a grid cannot have so many points, naming the nearest that it can have.
    """
    import numpy as np

    names = sorted(ranges)
    if how == "grid":
        shares = _grid(num, len(names))
    elif how == "sobol":
        from scipy.stats import qmc

        log2 = max(0, math.ceil(math.log2(num)))  # it is balanced at powers of two alone
        shares = qmc.Sobol(len(names), rng=np.random.default_rng(seed)).random_base2(log2)[:num]
    else:
        shares = np.random.default_rng(seed).random((num, len(names)))
    return {name: ranges[name].at(shares[:, i]) for i, name in enumerate(names)}


def _grid(num: int, num_axes: int) -> np.ndarray:
    import numpy as np

    side = round(num ** (1 / num_axes))
    near = [n**num_axes for n in (side - 1, side, side + 1) if n >= 2]
    works = f"a grid over {num_axes} range(s) has {', '.join(map(str, near))} ... members"
    require(side >= 2 and side**num_axes == num, "members", num, works)
    axes = np.meshgrid(*[np.linspace(0.0, 1.0, side)] * num_axes, indexing="ij")
    return np.stack([axis.ravel() for axis in axes], axis=1)
