"""Checks whether a value fits the annotation of a setting, and says what would. Imports no jax."""

from __future__ import annotations

import collections.abc
import difflib
import math
import numbers
import os
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from jaxdrl.errors import ConfigError


@dataclass(frozen=True)
class Bounds:
    """Bounds of a number: from `low` (excluded if `above`) to `high`."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False

    def hold(self, number: float) -> bool:
        """Whether a number lies within the bounds."""
        return (number > self.low if self.above else number >= self.low) and number <= self.high


OBJECTS = {
    "Environment": "an environment: jaxdrl.make('CartPole-v1') makes one",
    "Experiment": "a jaxdrl.Experiment, such as jaxdrl.make_experiment('CartPole-v1') makes",
    "PPOConfig": "a jaxdrl.PPOConfig, such as PPOConfig(num_envs=64)",
    "IMPALAConfig": "a jaxdrl.IMPALAConfig, such as IMPALAConfig(num_envs=64)",
    "PQNConfig": "a jaxdrl.PQNConfig, such as PQNConfig(num_envs=64)",
    "DQNConfig": "a jaxdrl.DQNConfig, such as DQNConfig(num_envs=16)",
    "SACConfig": "a jaxdrl.SACConfig, such as SACConfig(num_envs=64)",
    "TD3Config": "a jaxdrl.TD3Config, such as TD3Config(num_envs=64)",
    "NetworkConfig": "a jaxdrl.NetworkConfig, such as NetworkConfig(hidden_sizes=(64, 64))",
    "ExecutionConfig": "a jaxdrl.ExecutionConfig, such as ExecutionConfig(reproducible=True)",
    "Sweep": "a jaxdrl.Sweep, such as Sweep(ranges={'learning_rate': 'log:1e-4:1e-2'})",
    "Range": "a jaxdrl.Range, such as Range(1e-4, 1e-2, log=True)",
    "Variation": "a Variation of jaxdrl.evaluation.parameter_grid",
    "GradientTransformation": "an optimiser of optax, such as optax.adam(3e-4)",
    "Module": "a flax.linen module (flax.nnx.bridge.to_linen makes one of an nnx class)",
    "Network": "a jaxdrl.Network",
    "Mesh": "a mesh, as jaxdrl.make_mesh() makes it",
    "Policy": "a policy, as algorithm.policy is",
    "Algorithm": "a jaxdrl.Algorithm, as jaxdrl.algorithms.build.build(env, config) makes it",
    "LearnerState": "the state of a learner, as state.learner is",
    "Array": "an array of JAX",
}
"""Names of objects in messages, with what makes one, by the name of their class."""

ARGUMENTS = {
    "trackers": "those that jaxdrl has go by name, into Experiment(track=('tensorboard',))",
    "network": "the settings torso, hidden_sizes and memory describe the built-in ones, "
    "flax.nnx.bridge.to_linen wraps a class of nnx, and docs/networks.md has others",
    "make_algorithm": "such as def make_algorithm(env, config: MyConfig, *, mesh=None)",
    "make_member": "such as lambda h: jaxdrl.ppo(env, jaxdrl.with_settings(config, **h))",
}
"""Further advice about an argument, by its name."""

MANY = (collections.abc.Sequence, collections.abc.Collection)
MAX_INTEGER = 2**63
REFUSED: Any = object()


def fit(field: str, value: Any, hint: Any) -> Any:
    """`value` converted for a setting annotated with `hint`: to Python scalars and `Path`.

    Raises:
      ConfigError: if it is of another type or out of bounds.
    """
    for kind, bounds in _options(hint):
        taken = _take(field, value, kind, bounds)
        if taken is not REFUSED:
            return taken
    more = f"; {ARGUMENTS[field]}" if field in ARGUMENTS else ""
    more += " and less than 2**63" if isinstance(value, int) and value >= MAX_INTEGER else ""
    words = f"must be {works(hint, value)}{_nearest(value, hint)}{more}"
    raise ConfigError(f"{field} = {shown(value)}: {words}")


def shown(value: Any) -> str:
    """A value for a message, in one line of limited length."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # such as an integer of 5,000 digits
        text = object.__repr__(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def works(hint: Any, value: Any = None) -> str:
    """What fits a hint, in words; an example, if there is one, is made from `value`."""
    options = _options(hint)
    if any(kind is Path for kind, _ in options):
        options = [(kind, bounds) for kind, bounds in options if kind is not str]
    *first, last = dict.fromkeys(_words(kind, bounds, value) for kind, bounds in options)
    return f"{', '.join(first)}, or {last}" if first else last


def _options(hint: Any) -> list[tuple[Any, Bounds]]:
    """The types that a hint allows, each with its bounds."""
    if get_origin(hint) is Annotated:
        kind, *extras = get_args(hint)
        bounds = next((extra for extra in extras if isinstance(extra, Bounds)), None)
        return [(k, b if bounds is None else bounds) for k, b in _options(kind)]
    if get_origin(hint) in (types.UnionType, Union):
        return [option for part in get_args(hint) for option in _options(part)]
    return [(hint, Bounds())]


def _take(field: str, value: Any, kind: Any, bounds: Bounds) -> Any:
    """`value` as an instance of `kind`, or `REFUSED`."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any or isinstance(kind, TypeVar):
        return value
    if kind in (bool, int, float):
        return _take_scalar(value, kind, bounds)
    if kind is str:
        return str(value) if isinstance(value, str) else REFUSED
    if kind is Path:
        return _take_path(field, value)
    if origin is Literal:
        return str(value) if isinstance(value, str) and value in args else REFUSED
    if origin is tuple and isinstance(value, tuple):
        kinds = [args[0]] * len(value) if args[-1] is ... else args
        fits = len(kinds) == len(value)
        return tuple(map(fit, [field] * len(value), value, kinds)) if fits else REFUSED
    if origin in (dict, collections.abc.Mapping) and isinstance(value, collections.abc.Mapping):
        names = [fit(f"{field}.{shown(name)}", name, args[0]) for name in value]
        items = zip(names, value.values(), strict=True)
        return {name: fit(f"{field}.{name}", item, args[1]) for name, item in items}
    if origin in MANY and isinstance(value, list | tuple | set | frozenset):
        fitted = [fit(field, item, args[0]) for item in value]
        return tuple(fitted) if isinstance(value, tuple) else fitted
    if origin is collections.abc.Callable:
        return value if callable(value) else REFUSED
    is_instance = isinstance(kind, type) and origin is None and isinstance(value, kind)
    return value if is_instance else REFUSED


def _take_scalar(value: Any, kind: type, bounds: Bounds) -> Any:
    if is_traced(value):
        return value if kind is float else REFUSED
    value = to_python(value)
    if kind is bool or isinstance(value, bool):
        return value if kind is bool and isinstance(value, bool) else REFUSED
    if not isinstance(value, numbers.Integral if kind is int else numbers.Real):
        return REFUSED
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        return REFUSED
    fits = abs(number) < MAX_INTEGER if kind is int else math.isfinite(number)
    return number if fits and bounds.hold(number) else REFUSED


def is_traced(value: Any) -> bool:
    """Whether a value is traced by JAX, and so is not known yet."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.core.Tracer)


def to_python(value: Any) -> Any:
    """Converts a scalar of NumPy or JAX, or an array without axes, to Python; returns others as is.

    A float32 keeps its exact value.
    """
    if is_traced(value) or getattr(value, "shape", None) != () or not hasattr(value, "item"):
        return value
    dtype = str(value.dtype)
    if "float" in dtype:  # bfloat16 too, which NumPy does not know
        return float(value)
    return value.item() if dtype == "bool" or "int" in dtype else value


def _take_path(field: str, value: Any) -> Any:
    if not isinstance(value, str | os.PathLike) or not (text := os.fspath(value)):
        return REFUSED
    try:
        is_path = isinstance(text, str) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        is_path = False
    if not is_path:
        raise ConfigError(f"{field} = {shown(value)}: no file can have this name; name another")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{field} = {shown(value)}: {error}; name the directory") from error


def _words(kind: Any, bounds: Bounds, value: Any) -> str:
    origin, args = get_origin(kind), get_args(kind)
    if kind is int:
        return "an integer" + _range_of_integers(bounds)
    if kind is float:
        return "a finite number" + _range_of_numbers(bounds)
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}"
    if origin is tuple and may_be(str, args[0]):
        example = f", such as {(value,)!r}" if isinstance(value, str) else ""
        return f"a tuple of strings{example}"
    if origin is tuple:
        pair = "two numbers, such as (0.5, 2.0)"
        return f"a tuple of {'integers, such as (64, 64)' if args[-1] is ... else pair}"
    if origin in (dict, collections.abc.Mapping):
        return f"a dictionary of names, each with {works(args[1])}"
    if origin in MANY:
        return f"a list, each {works(args[0])}"
    if origin is collections.abc.Callable:
        return "a function"
    plain = {bool: "True or False", str: "a string", Path: "a path", type(None): "None"}
    name = getattr(kind, "__name__", str(kind))
    return plain.get(kind) or OBJECTS.get(name, f"of type {name}")


def may_be(kind: type, hint: Any) -> bool:
    """Whether a hint allows the type `kind`."""
    return any(option is kind for option, _ in _options(hint))


def _range_of_integers(bounds: Bounds) -> str:
    if bounds.high < math.inf:
        high = "2**32 - 1" if bounds.high == 2**32 - 1 else str(bounds.high)
        return f" from {bounds.low} to {high}"
    return f" of at least {bounds.low}" if bounds.low > -math.inf else ""


def _range_of_numbers(bounds: Bounds) -> str:
    words = f" {'above' if bounds.above else 'at least'} {bounds.low:g}"
    words = words if bounds.low > -math.inf else ""
    return words + (f" and at most {bounds.high:g}" if bounds.high < math.inf else "")


def _nearest(value: Any, hint: Any) -> str:
    """The choice nearest to a string, in words, if the hint has choices."""
    choices = [
        choice
        for kind, _ in _options(hint)
        if get_origin(kind) is Literal
        for choice in get_args(kind)
    ]
    if not isinstance(value, str) or not choices:
        return ""
    found = difflib.get_close_matches(value.lower(), choices, n=1, cutoff=0.5)
    return f"; the nearest: {found[0]}" if found else ""
