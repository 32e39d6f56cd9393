"""Collectives of a compiled program, counted from its text."""

import math
import re
from collections import Counter
from dataclasses import dataclass

KINDS = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*?\{$(.*?)^\}", re.S | re.M)
_COLLECTIVE = re.compile(rf" = (.*?)\s({'|'.join(KINDS)})(-start)?\(")
_ARRAY = re.compile(r"\b(pred|[sufbc]\w*?(\d+)\w*)\[([\d,]*)\]")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLED = re.compile(r"(body|calls|to_apply)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{(.*?)\}|(?:true|false)_computation=%?([\w.\-]+)")


@dataclass(frozen=True)
class Collectives:
    """What one call of a program sends.

    Attributes:
      count: how often each kind of collective runs.
      bytes: size of what it gives on one device, over all of them.
      is_exact: False where one stands in a loop of unknown length, counted as a single pass.
    """

    count: Counter[str]
    bytes: Counter[str]
    is_exact: bool = True


def count_collectives(hlo: str) -> Collectives:
    """Collectives of one call, those in a loop as often as it runs.

    Of the branches of a conditional, the one that sends most is counted.

    Args:
      hlo: `compiled.as_text()`.
    """
    found = _COMPUTATION.findall(hlo)
    bodies = {name: body for _, name, body in found}
    (entry,) = [name for is_entry, name, _ in found if is_entry]
    return _count(bodies, entry)


def _count(bodies: dict[str, str], name: str) -> Collectives:
    total = Collectives(Counter(), Counter())
    for line in bodies.get(name, "").splitlines():
        match = _COLLECTIVE.search(line)
        if match:
            shape, kind, is_start = match.groups()
            size = array_bytes(shape, only_largest=bool(is_start) and kind != "all-reduce")
            total = _add(total, Collectives(Counter({kind: 1}), Counter({kind: size})))
        for relation, called in _CALLED.findall(line):
            inside = _count(bodies, called)
            total = _add(total, _repeat(inside, line) if relation == "body" else inside)
        names = [name for pair in _BRANCHES.findall(line) for name in pair if name]
        branches = [n.strip().lstrip("%") for group in names for n in group.split(",")]
        if branches:
            inside_each = [_count(bodies, branch) for branch in branches]
            total = _add(total, max(inside_each, key=lambda c: c.bytes.total()))
    return total


def _repeat(inside: Collectives, loop: str) -> Collectives:
    """What a loop sends, of which `inside` is one pass."""
    match = _TRIPS.search(loop)
    trips = int(match[1]) if match else 1
    count, sizes = (
        Counter({kind: trips * value for kind, value in counter.items()})
        for counter in (inside.count, inside.bytes)
    )
    return Collectives(count, sizes, inside.is_exact and (match is not None or not count))


def _add(one: Collectives, other: Collectives) -> Collectives:
    is_exact = one.is_exact and other.is_exact
    return Collectives(one.count + other.count, one.bytes + other.bytes, is_exact)


def array_bytes(shape: str, *, only_largest: bool = False) -> int:
    """Bytes of an array or a tuple of arrays in HLO's notation, `f32[8,2]{1,0}`.

    Args:
      shape: the notation.
      only_largest: takes the largest array of the tuple: an asynchronous start lists its operand
        beside its result.
    """
    sizes = [
        math.prod(int(n) for n in dims.split(",") if n) * max(1, int(bits or 8) // 8)
        for _, bits, dims in _ARRAY.findall(shape)
    ]
    return max(sizes, default=0) if only_largest else sum(sizes)
