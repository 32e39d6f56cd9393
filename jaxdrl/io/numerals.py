"""Formats numbers for people, wherever the terminal shows one.

Importing this module imports only Python's standard library.
"""

from __future__ import annotations

import math


def short(value: float) -> str:
    """About four significant digits, with a power of ten only if there is no other way.

    >>> [short(x) for x in (138_974.7, 1234.56, 0.693147, 500.0, 2.5399e-05, -4.2e12)]
    ['138,975', '1,234.6', '0.6931', '500', '2.54e-5', '-4.2e12']
    """
    size = abs(value)
    if not math.isfinite(value):
        return str(float(value))
    if size >= 1e9 or 0 < size < 1e-4:
        digits, exponent = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(exponent)}"
    if size < 1000:
        return f"{value:.4g}"
    return f"{value:,.1f}".removesuffix(".0") if size < 10_000 else f"{value:,.0f}"


def brief(value: float) -> str:
    """Three significant digits at most, with a letter for thousands, millions and billions.

    >>> [brief(x) for x in (230_776, 1_234, 999_999, 4.2e12, 455.23, 0.50112, -0.0007713, 7.19e-5)]
    ['231k', '1,230', '1M', '4.2e12', '455', '0.501', '-0.00077', '7.2e-5']
    """
    if not math.isfinite(value):
        return str(float(value))
    value = float(f"{value:.3g}")
    size = abs(value)
    if size >= 1e12 or 0 < size < 1e-4:
        digits, exponent = f"{value:.1e}".split("e")
        return f"{float(digits):g}e{int(exponent)}"
    for letter, unit, least in (("G", 1e9, 1e9), ("M", 1e6, 1e6), ("k", 1e3, 1e4)):
        if size >= least:
            return f"{value / unit:.3g}{letter}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.2g}" if size < 1e-3 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """A duration in its two largest units.

    >>> [duration(x) for x in (0.4, 95, 600, 12_345, 200_000)]
    ['0 s', '95 s', '10 min', '3 h 26 min', '2 d 8 h']
    """
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours} h"


def size_in_words(num_bytes: int) -> str:
    """A number of bytes.

    >>> [size_in_words(x) for x in (512, 123_456, 3 * 2**30, 2**52)]
    ['512.0 B', '120.6 KiB', '3.0 GiB', '4096.0 TiB']
    """
    value, units = float(num_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.1f} {units[0]}"
