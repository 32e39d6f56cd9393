"""An experiment as JSON has it, and back. Importing this module imports neither jax nor gymnax."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import Any

from jaxdrl.config.algorithms import ALGORITHMS, StoredConfig, kind_of
from jaxdrl.config.execution import ExecutionConfig
from jaxdrl.config.experiment import Experiment
from jaxdrl.errors import ConfigError

KIND = "kind"
"""Field of the stored settings of an algorithm that says which it is."""

OF_ANY = ("num_envs", "env_steps_per_update")
"""What is stored beside the settings of an algorithm that jaxdrl does not have."""

MISSING = "put back what was there"


def to_json(experiment: Experiment) -> dict[str, Any]:
    """The fields of an experiment, with the kind of its algorithm."""
    fields = dataclasses.asdict(experiment) | {"algorithm": algorithm_to_json(experiment.algorithm)}
    for name in ("run_dir", "from_run"):
        fields[name] = None if fields[name] is None else str(fields[name])
    return fields


def algorithm_to_json(config: Any) -> dict[str, Any]:
    """The settings of an algorithm, with its kind."""
    if isinstance(config, StoredConfig):
        return config.settings
    settings = {KIND: kind_of(config)} | dataclasses.asdict(config)
    if settings[KIND] in ALGORITHMS:
        return settings
    return settings | {f"{KIND}_{name}": getattr(config, name) for name in OF_ANY}


def from_json(content: dict[str, Any], name: str, own_config: type | None = None) -> Experiment:
    """The experiment that `to_json` wrote.

    Args:
      content: its fields.
      name: of the file, for messages.
      own_config: type of the settings of an algorithm of one's own; None reads such settings as a
        `StoredConfig`.

    Raises:
      ConfigError: naming the field that is unknown, missing or of another type.
    """
    stored = content.get("algorithm")
    if not isinstance(stored, dict) or not isinstance(stored.get(KIND), str):
        raise ConfigError(f"{name}algorithm: has no {KIND}; {MISSING}")
    hints = {"algorithm": _type_of(stored[KIND], own_config, f"{name}algorithm.{KIND}")}
    return _convert_fields(content, Experiment, name, hints)


def _type_of(kind: str, own_config: type | None, name: str) -> type:
    if kind in ALGORITHMS:
        return ALGORITHMS[kind]
    if own_config is None:
        return StoredConfig
    if kind != own_config.__name__:
        works = f"make_algorithm takes {own_config.__name__}; give the one that the run had"
        raise ConfigError(f"{name} = {kind!r}: {works}")
    return own_config


def _stored_config(value: dict[str, Any], name: str) -> StoredConfig:
    """Settings that are not known, as they are."""
    numbers = []
    for of_any in OF_ANY:
        number = value.get(f"{KIND}_{of_any}")
        if type(number) is not int or number < 1:
            raise ConfigError(f"{name}.{KIND}_{of_any} = {number!r}: must be of type int")
        numbers.append(number)
    execution = _convert(value.get("execution"), ExecutionConfig, f"{name}.execution")
    num_envs, env_steps_per_update = numbers
    return StoredConfig(value[KIND], value, num_envs, env_steps_per_update, execution)


def _convert(value: Any, hint: Any, name: str) -> Any:
    """`value` from JSON as the type that a field of a config is annotated with."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        if isinstance(value, str) and str in args:
            return value
        return _convert(value, next(arg for arg in args if arg is not type(None)), name)
    if hint is StoredConfig:
        return _stored_config(value, name)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _convert_fields(value, hint, name)
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(item, args[0], name) for item in value)
    if origin is dict and isinstance(value, dict):
        return {key: _convert(item, args[1], f"{name}.{key}") for key, item in value.items()}
    if origin is typing.Literal:
        return value  # which the config checks
    if hint is Path and isinstance(value, str):
        return Path(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and (type(value) is float or (is_number and abs(value) < 10**308)):
        return float(value)
    if hint in (str, bool, int) and type(value) is hint:
        return value
    words = getattr(origin or hint, "__name__", str(hint))
    raise ConfigError(f"{name} = {value!r}: must be of type {words}")


def _convert_fields(
    value: dict[str, Any], hint: Any, name: str, known: dict[str, Any] | None = None
) -> Any:
    """A dataclass of the fields in JSON; `known` has the types of some of them."""
    hints = typing.get_type_hints(hint, include_extras=False) | (known or {})
    extra = {KIND, *(f"{KIND}_{of_any}" for of_any in OF_ANY)}
    value = {field: item for field, item in value.items() if field in hints or field not in extra}
    separator = "" if name.endswith(": ") else "."
    for field in value:
        if field not in hints:
            (close,) = difflib.get_close_matches(field, hints, n=1, cutoff=0)
            unknown = f"{name}{separator}{field} = {value[field]!r}"
            raise ConfigError(f"{unknown}: unknown field; the nearest: {close}")
    # A field with a default may have come after the run, which then did without it.
    for own in dataclasses.fields(hint):
        missing = dataclasses.MISSING
        has_default = own.default is not missing or own.default_factory is not missing
        if own.name not in value and not has_default:
            raise ConfigError(f"{name}{separator}{own.name}: is missing; {MISSING}")
    fields = {f: _convert(v, hints[f], f"{name}{separator}{f}") for f, v in value.items()}
    try:
        return hint(**fields)
    except ConfigError as error:
        raise ConfigError(f"{name}{separator}{error}") from error
