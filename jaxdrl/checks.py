"""Checks of settings against their annotations, each with one message. Imports no jax."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Collection
from dataclasses import fields
from typing import Annotated, Any, ParamSpec, TypeVar, get_type_hints

from jaxdrl.annotations import Bounds, fit
from jaxdrl.errors import ConfigError

Count = Annotated[int, Bounds(1)]
"""An integer of at least 1."""
EpisodeCount = Annotated[int, Bounds(1, 1_000_000)]
"""Number of episodes in an evaluation, which are played in parallel."""
Index = Annotated[int, Bounds(0)]
"""An integer of at least 0."""
Seed = Annotated[int, Bounds(0, 2**32 - 1)]
"""An integer that JAX accepts as a seed."""
Positive = Annotated[float, Bounds(0, above=True)]
"""A finite number above 0."""
NonNegative = Annotated[float, Bounds(0)]
"""A finite number of at least 0."""
Share = Annotated[float, Bounds(0, 1)]
"""A number from 0 to 1."""

P = ParamSpec("P")
R = TypeVar("R")


def check_fields(config: Any, prefix: str = "", given: Collection[str] = ()) -> None:
    """Checks each field of a frozen dataclass by its annotation, from its `__post_init__`.

    Scalars of NumPy and JAX become Python scalars, and strings become paths if the annotation says
    `Path`, so that an accepted value can be written as JSON and is equal when it is read back. A
    traced value is accepted as a float although it is not known yet: a population is `jax.vmap`
    over `dataclasses.replace(config, learning_rate=traced)`.

    Args:
      config: the dataclass.
      prefix: prefix for the names of its fields in messages.
      given: fields that are not checked.

    Raises:
      ConfigError: naming the field, its value and what works.
    """
    kind: Any = type(config)
    hints = hints_of(kind)
    for field in (field for field in fields(config) if field.name not in given):
        value = getattr(config, field.name)
        fitted = fit(f"{prefix}{field.name}", value, hints[field.name])
        object.__setattr__(config, field.name, fitted)


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """`function` with its arguments checked by their annotations, as in `check_fields`."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def with_checks(*args: P.args, **kwargs: P.kwargs) -> R:
        bound, hints = signature.bind(*args, **kwargs), hints_of(function)
        for name, value in bound.arguments.items():
            is_named = signature.parameters[name].kind is not inspect.Parameter.VAR_KEYWORD
            if is_named and name in hints:
                bound.arguments[name] = fit(name, value, hints[name])
        return function(*bound.args, **bound.kwargs)

    return with_checks


@functools.cache
def hints_of(annotated: Any) -> dict[str, Any]:
    """The annotations of a dataclass or function, with their bounds."""
    return get_type_hints(annotated, include_extras=True)


def require(condition: bool, field: str, value: Any, what_works: str) -> None:
    """Raises `ConfigError` unless `condition`: names the field, its value and what works."""
    if not condition:
        raise ConfigError(f"{field} = {value!r}: {what_works}")


def require_count(field: str, value: Any) -> None:
    """Raises `ConfigError` unless `value` is an integer of at least 1."""
    fit(field, value, Count)


def require_number(
    field: str,
    value: Any,
    *,
    low: float,
    high: float = math.inf,
    above: bool = False,
    optional: bool = False,
) -> None:
    """Raises `ConfigError` unless `value` is a finite number in the range.

    The range is `[low, high]`, or `(low, high]` with `above`. `None` passes where the setting is
    `optional`, and a traced value passes.
    """
    number = Annotated[float, Bounds(low, high, above)]
    fit(field, value, number | None if optional else number)


def require_range(field: str, low: float, high: float) -> None:
    """Raises `ConfigError` unless `low` is less than `high`, both finite."""
    is_range = math.isfinite(low) and math.isfinite(high) and low < high
    require(is_range, field, f"{low:g}:{high:g}", "must be LOW:HIGH with LOW below HIGH")


def require_divisor(field: str, num_devices: int, num_shards: int) -> None:
    """Raises `ConfigError` unless `num_devices` divides `num_shards`, naming the divisors."""
    if num_devices not in divisors(num_shards):
        raise ConfigError(
            f"{field} = {num_devices}: must divide num_shards = {num_shards}; "
            f"{', '.join(map(str, divisors(num_shards)))} do, or change num_shards"
        )


def divisors(total: int) -> list[int]:
    """Every divisor of `total`, in order.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    small = [d for d in range(1, math.isqrt(total) + 1) if total % d == 0]
    return small + [total // d for d in reversed(small) if d * d != total]


def nearest_multiples(value: int, divisor: int) -> str:
    """The multiples of `divisor` just below and just above `value`, in words."""
    below = value // divisor * divisor
    return f"{below} or {below + divisor}" if below else f"{divisor}"


def largest_divisor(total: int, at_most: int) -> int:
    """The largest divisor of `total` that is at most `at_most`, or 1 if `at_most` is less."""
    return max(d for d in divisors(total) if d <= max(1, at_most))


def nearest_divisors(value: int, total: int) -> str:
    """The divisors of `total` just below and just above `value`, in words."""
    below = largest_divisor(total, value)
    above = next((d for d in divisors(total) if d >= value), None)
    return f"{below}" if above is None or above == below else f"{below} or {above}"
