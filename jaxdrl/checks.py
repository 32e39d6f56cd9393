"""Checks of settings, each with one message that says what works. Imports no jax."""

from __future__ import annotations

import math
import numbers
import sys
from typing import Any

from jaxdrl.errors import ConfigError


def require(condition: bool, field: str, value: Any, what_works: str) -> None:
    """Raises `ConfigError` unless `condition`: names the field, its value and what works."""
    if not condition:
        raise ConfigError(f"{field} = {value!r}: {what_works}")


def require_count(field: str, value: Any) -> None:
    """Raises `ConfigError` unless `value` is an integer of at least 1."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    require(is_integer and value >= 1, field, value, "must be an integer of at least 1")


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
    `optional`. A traced value passes: it has no value yet, which is what lets a population be
    `jax.vmap` over `dataclasses.replace(config, learning_rate=traced)`.
    """
    if value is None and optional:
        return
    works = "must be a finite number"
    works += f" {'above' if above else 'at least'} {low:g}" if low > -math.inf else ""
    works += f" and at most {high:g}" if high < math.inf else ""
    works += ", or None" if optional else ""
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(value, jax.core.Tracer):
        return
    is_number = isinstance(value, numbers.Real) or (
        jax is not None and isinstance(value, jax.Array) and value.shape == ()
    )
    require(is_number and not isinstance(value, bool), field, value, works)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{field} = {value!r}: {works}") from error
    in_range = (number > low if above else number >= low) and number <= high
    require(math.isfinite(number) and in_range, field, value, works)


def require_range(field: str, low: float, high: float) -> None:
    """Raises `ConfigError` unless `low` is less than `high`, both finite."""
    is_range = math.isfinite(low) and math.isfinite(high) and low < high
    require(is_range, field, f"{low:g}:{high:g}", "must be LOW:HIGH with LOW below HIGH")


def require_divisor(field: str, num_devices: int, num_shards: int) -> None:
    """Raises `ConfigError` unless `num_devices` divides `num_shards`, naming those that do."""
    divisors = [d for d in range(1, num_shards + 1) if num_shards % d == 0]
    if num_devices not in divisors:
        raise ConfigError(
            f"{field} = {num_devices}: must divide ppo.num_shards = {num_shards}; "
            f"{', '.join(map(str, divisors))} do, or change ppo.num_shards"
        )


def nearest_multiples(value: int, divisor: int) -> str:
    """The multiples of `divisor` just below and just above `value`, in words."""
    below = value // divisor * divisor
    return f"{below} or {below + divisor}" if below else f"{divisor}"


def largest_divisor(total: int, at_most: int) -> int:
    """The largest divisor of `total` that is at most `at_most`, 1 where that is less."""
    return max(d for d in range(1, max(1, min(at_most, total)) + 1) if total % d == 0)


def nearest_divisors(value: int, total: int) -> str:
    """The divisors of `total` just below and just above `value`, in words."""
    below = largest_divisor(total, value)
    above = next((d for d in range(value, total + 1) if total % d == 0), None)
    return f"{below}" if above is None or above == below else f"{below} or {above}"
