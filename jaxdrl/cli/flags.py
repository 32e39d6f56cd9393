"""Settings on the command line: flags override the settings of an environment or a file."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import tyro

from jaxdrl.algorithms.settings import make_experiment
from jaxdrl.checks import require
from jaxdrl.cli.help import VALUES, default_in_words
from jaxdrl.config.algorithms import ALGORITHMS, DEFAULT, kind_of, require_algorithm
from jaxdrl.config.experiment import Experiment, unresolve
from jaxdrl.config.presets import find as find_preset
from jaxdrl.config.sweep_flags import SweepFlags, take_ranges
from jaxdrl.errors import ConfigError
from jaxdrl.runs.run_dir import read_experiment

Flags = Annotated[Experiment, tyro.conf.arg(name="")]
ConfigFile = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="FILE",
        help="Instead of ENV: config.json of a run or best.json of a sweep, whose settings the "
        "flags override.",
    ),
]
"""Declared only for `--help`, because it is removed from the arguments before they are parsed."""
AlgorithmName = Annotated[
    str,
    tyro.conf.arg(
        metavar=f"{{{','.join(ALGORITHMS)}}}",
        help="The algorithm, whose settings are flags as well.",
    ),
]
"""Likewise."""
Resume = Annotated[
    bool,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.arg(
        help="Continue the run in --run-dir, if it holds one with these settings, on whatever "
        "devices and processes there are now: the same command starts and resumes."
    ),
]
Env = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")]
EnvIfAny = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[ENV]")]
SuiteIfAny = Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[SUITE]")]
Params = Annotated[
    dict[str, float | str],
    tyro.conf.arg(metavar=VALUES["env_params"], help_behavior_hint=default_in_words),
]
Metric = Annotated[str, tyro.conf.arg(metavar="NAME")]
Runs = Annotated[
    tuple[Path, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="PATH ...", help_behavior_hint="(required)"),
]
FLAT = (tyro.conf.OmitArgPrefixes,)
"""Every setting has a flag of its own name, nested or not."""


def with_known(function: Callable, args: list[str]) -> Callable:
    """A verb whose flags override the settings of the environment or file that its arguments name.

    Args:
      function: the verb; its parameters `experiment`, and `settings` of a sweep, get defaults.
      args: arguments of the command line, from which the environment, the file, the algorithm and
        the ranges are removed.

    Raises:
      ConfigError: for an unknown environment or algorithm, or a file that cannot be read.
    """
    if args[:1] != [function.__name__]:
        return function
    algorithm, known = _take_value(args, "--algorithm"), _take_config(args)
    if known is not None and algorithm not in (None, kind_of(known.algorithm)):
        works = f"--config has settings of {kind_of(known.algorithm)}; leave one of them out"
        raise ConfigError(f"algorithm = {algorithm!r}: {works}")
    algorithm = algorithm or DEFAULT
    require_algorithm(algorithm)
    config = ALGORITHMS[algorithm]() if known is None else known.algorithm
    defaults: dict[str, Any] = {}
    ranges = take_ranges(args, config)
    if "settings" in inspect.signature(function).parameters:
        defaults["settings"] = SweepFlags(ranges)
    elif ranges:
        name, value = next(iter(ranges.items()))
        works = "is a range, which jaxdrl sweep takes; jaxdrl train takes one value"
        raise ConfigError(f"{name} = {value!r}: {works}")
    if known is None and (position := _position_of_env(args)) is not None:
        name = args.pop(position)
        if find_preset(name, algorithm) is None:
            _prepare_devices(args)
        known = make_experiment(name, algorithm)
    if known is None and algorithm != DEFAULT:
        known = _without_env(config)
    if known is not None:
        defaults["experiment"] = known
    parameters = {
        name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(function).parameters.items()
    }
    for name, default in defaults.items():
        parameters[name] = parameters[name].replace(default=default)

    def verb(**arguments: Any) -> None:
        function(**arguments)

    hints = get_type_hints(function, include_extras=True)
    verb.__signature__ = inspect.Signature([*parameters.values()])  # type: ignore[attr-defined]
    verb.__annotations__ = hints
    return verb


def _prepare_devices(args: list[str]) -> None:
    """Simulates the devices that `--devices` asks for, or one for each core.

    Without a preset the environment is made for its spaces, and many packages of environments start
    JAX, whose number of devices is then fixed. Of several processes, each has what it finds.
    """
    from jaxdrl.distributed import cluster  # help and mistakes do without JAX
    from jaxdrl.distributed.microbatches import num_cores
    from jaxdrl.runs.backend import simulate_devices

    if cluster.find(os.environ) is None:
        given = _take_value(list(args), "--devices") or ""
        simulate_devices(int(given) if given.isdigit() else num_cores())


def _without_env(config: Any) -> Experiment:
    """Default settings with those of an algorithm; the environment is still missing."""
    experiment = Experiment("missing", algorithm=config)
    object.__setattr__(experiment, "env", tyro.MISSING)  # which no environment may be named
    return experiment


def _take_config(args: list[str]) -> Experiment | None:
    """The experiment in the file of `--config`, which is removed from `args`."""
    path = _take_value(args, "--config")
    return None if path is None else unresolve(read_experiment(Path(path)))


def _take_value(args: list[str], name: str) -> str | None:
    """The value of a flag, which is removed from `args`."""
    for i, arg in enumerate(args):
        flag, has_value, value = arg.partition("=")
        if flag == name and (has_value or i + 1 < len(args)):
            value = value if has_value else args[i + 1]
            del args[i : i + (1 if has_value else 2)]
            return value
    return None


def _position_of_env(args: list[str]) -> int | None:
    """The position of the environment: the first argument that is neither a flag nor a value."""
    configs = (Experiment, SweepFlags, *ALGORITHMS.values())
    kinds = {flag: kind for config in configs for flag, kind in _kinds_of_flags(config).items()}
    i = 1
    while i < len(args):
        if not args[i].startswith("-"):
            return i
        flag, has_value, _ = args[i].partition("=")
        kind = "flag" if has_value else kinds.get(flag.replace("_", "-"), "flag")
        i += 2 if kind == "value" else 1
        while kind == "values" and i < len(args) and not args[i].startswith("-"):
            i += 1
    return None


def _kinds_of_flags(config: type) -> dict[str, str]:
    """For each flag of a config, whether it takes a "value", many "values" or is a "flag"."""
    kinds: dict[str, str] = {}
    with_extras = get_type_hints(config, include_extras=True)
    for name, hint in get_type_hints(config).items():
        is_repeated = tyro.conf.UseAppendAction in getattr(with_extras[name], "__metadata__", ())
        flag = "--" + {"from_run": "from"}.get(name, name).replace("_", "-")
        if dataclasses.is_dataclass(hint):
            kinds |= _kinds_of_flags(hint)  # type: ignore[arg-type]
        elif hint is not bool:
            takes_many = get_origin(hint) in (tuple, dict) and not is_repeated
            kinds[flag] = "values" if takes_many else "value"
    return kinds


def require_verb(given: str, verbs: list[str]) -> None:
    """Refuses a word that is no verb, with the nearest that is."""
    close = difflib.get_close_matches(given, verbs, n=1, cutoff=0.4)
    nearest = f"the nearest: {close[0]}; " if close else ""
    require(given in verbs, "verb", given, f"unknown; {nearest}there are {', '.join(verbs)}")
