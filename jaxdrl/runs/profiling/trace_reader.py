"""Where the time of the devices goes: a trace of them joined with the text of their program."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

WINDOW = "jaxdrl.profile"
"""Name of the host's event from the first to the last moment that counts."""

OTHER = "other"
"""Stage of operations outside of every stage."""

WAITING = "waiting for the host"
"""Stage of the time in which a device had nothing to do."""

_COMPUTATION = re.compile(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = ")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_CALLED = re.compile(
    r"\b(?:calls|to_apply|body|condition|(?:true|false)_computation|branch_computations)="
    r"(\{[^}]*\}|%?[\w.\-]+)"
)
_DEVICE_PLANE = re.compile(r"/device:\w+:(\d+)$")


class Instruction(NamedTuple):
    """An instruction of a program: its own stage, where its name has one, and what it calls."""

    name: str
    stage: str | None
    called: list[str]


@dataclass(frozen=True)
class Operations:
    """Operations of one device that hold no other, `[n]` each.

    Attributes:
      start: ns.
      end: ns.
      stage: index of the stage.
      call: number of the call of a program that it is part of; -1 where the trace has none.
    """

    start: np.ndarray
    end: np.ndarray
    stage: np.ndarray
    call: np.ndarray


def stage_of(op_name: str, stages: Sequence[str]) -> str | None:
    """The innermost stage in the name of an operation, such as `jit(f)/rollout/vmap(policy)/add`.

    >>> stage_of("jit(f)/rollout/vmap(policy)/add", ["rollout", "rollout/policy"])
    'rollout/policy'
    >>> stage_of("jit(f)/transpose(jvp(gradients))/policy/add", ["gradients", "rollout/policy"])
    'gradients'
    """
    scopes = {scope for stage in stages for scope in stage.split("/")}
    path = [word for word in re.split(r"[/()]", op_name) if word in scopes]
    for end in range(len(path), 0, -1):
        for start in range(end):
            if "/".join(path[start:end]) in stages:
                return "/".join(path[start:end])
    return None


def stages_of_program(text: str, stages: Sequence[str]) -> dict[str, str]:
    """The stage of each instruction.

    What has no stage in its own name, such as a copy that the compiler put in, has that of most of
    what it calls, or else of what calls it.

    Args:
      text: `compiled.as_text()`.
      stages: scopes of `jax.named_scope`, `a/b` for `b` within `a`.
    """
    computations = _parse(text, stages)
    found, inherited = {}, dict.fromkeys(computations, OTHER)
    for name, instructions in reversed(computations.items()):  # callers stand below
        for instruction in instructions:
            called = [c for c in instruction.called if c in computations]
            within = [i.stage for c in called for i in computations[c] if i.stage is not None]
            most = Counter(within).most_common(1)
            stage = instruction.stage or (most[0][0] if most else inherited[name])
            found[instruction.name] = stage
            inherited |= dict.fromkeys(called, instruction.stage or inherited[name])
    return found


def stages_in(text: str, stages: Sequence[str]) -> list[str]:
    """Those of the stages that the program has operations of; arguments as above."""
    found = set(stages_of_program(text, stages).values())
    return [stage for stage in stages if any(f"{x}/".startswith(f"{stage}/") for x in found)]


def _parse(text: str, stages: Sequence[str]) -> dict[str, list[Instruction]]:
    """Instructions by computation, in the order of the text."""
    computations: dict[str, list[Instruction]] = {}
    members: list[Instruction] = []
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            members = computations.setdefault(match[1], [])
        elif match := _INSTRUCTION.match(line):
            op_name = _OP_NAME.search(line)
            stage = stage_of(op_name[1], stages) if op_name else None
            called = re.findall(r"[\w.\-]+", " ".join(_CALLED.findall(line)))
            members.append(Instruction(match[1], stage, called))
    return computations


def measure(trace: Path, text: str, stages: Sequence[str]) -> tuple[dict[str, float], int]:
    """Seconds of each stage within `WINDOW`, means over the devices, and how many these are.

    A moment counts to the operation that runs, in equal parts where several do. What passes until
    the next one starts counts to the one before, as dispatching it does, unless that was of
    another call of the program: the device has then waited for the host. Where a trace does not
    tell calls apart, as on a GPU, every such pause is one of waiting.

    Args:
      trace: an `.xplane.pb` file.
      text: of the program, as `stages_of_program` takes it.
      stages: likewise.

    Returns:
      The seconds, with those of `OTHER` and `WAITING`: a stage without its own parts `stage/part`.
      Nothing where the trace has no operations, whose kind of device then has another form.
    """
    index = {stage: i for i, stage in enumerate([*stages, OTHER])}
    of_instruction = {k: index[v] for k, v in stages_of_program(text, stages).items()}
    module = re.match(r"HloModule ([\w.\-]+)", text)
    devices, window = read(trace, module[1] if module else "", of_instruction, index[OTHER])
    if not devices:
        return {}, 0
    shares = [share(operations, len(index), window) for operations in devices]
    names = [*index, WAITING]
    return dict(zip(names, (np.mean(shares, axis=0) / 1e9).tolist(), strict=True)), len(devices)


@contextlib.contextmanager
def _types_without_a_module() -> Iterator[None]:
    """Lets a warning through that must not become an error: it would end the process.

    `ProfileData` makes the types of its iterators in C++ where they are used first, and Python 3.12
    and later warn that they have no module. Where warnings are errors, nanobind aborts.
    """
    with warnings.catch_warnings():
        words = r"builtin type \w+ has no __module__ attribute"
        warnings.filterwarnings("ignore", words, DeprecationWarning)
        yield


@_types_without_a_module()
def read(
    trace: Path, module: str, stages: dict[str, int], other: int
) -> tuple[list[Operations], tuple[float, float]]:
    """Operations of each device, and start and end of the window (ns)."""
    rows: dict[tuple[bool, int], list[np.ndarray]] = {}
    calls: dict[object, int] = {None: -1}
    window = (0.0, 0.0)
    for plane in jax.profiler.ProfileData.from_file(str(trace)).planes:
        own = _DEVICE_PLANE.search(plane.name)
        for line in plane.lines:
            found = []
            for event in line.events:
                if event.name == WINDOW:
                    window = (event.start_ns, event.end_ns)
                stats = dict(event.stats)
                if "hlo_op" not in stats:
                    continue
                is_own = stats.get("hlo_module", module) == module
                stage = stages.get(stats["hlo_op"], other) if is_own else other
                call = calls.setdefault(stats.get("run_id"), len(calls))
                device = int(own[1]) if own else int(stats.get("device_ordinal", 0))
                found.append((event.start_ns, event.end_ns, stage, call, device))
            for device, leaves in _leaves(found):
                rows.setdefault((own is not None, device), []).append(leaves)
    # Devices with a plane of their own have the host's only for how they were told.
    is_apart = any(apart for apart, _ in rows)
    tables = [np.concatenate(rows[key]) for key in sorted(rows) if key[0] == is_apart]
    return [_operations(table) for table in tables], window


def _leaves(events: list[tuple]) -> list[tuple[int, np.ndarray]]:
    """Events of one thread that hold no other, by device: rows `(start, end, stage, call)`."""
    if not events:
        return []
    table = np.array(events, np.float64)
    table = table[np.lexsort((-table[:, 1], table[:, 0]))]
    following = np.append(table[1:, 0], np.inf)
    table = table[following >= table[:, 1]]
    return [(int(d), table[table[:, 4] == d, :4]) for d in np.unique(table[:, 4])]


def _operations(table: np.ndarray) -> Operations:
    table = table[np.argsort(table[:, 0], kind="stable")]
    start, end, stage, call = table.T
    return Operations(start, end, stage.astype(np.int64), call.astype(np.int64))


def share(operations: Operations, num_stages: int, window: tuple[float, float]) -> np.ndarray:
    """Time of each stage, and at the end that of waiting: together that of the window (ns)."""
    start, end = (np.clip(x, *window) for x in (operations.start, operations.end))
    points = np.unique(np.concatenate([start, end, window]))
    first, last = np.searchsorted(points, start), np.searchsorted(points, end)
    change = np.bincount(first, minlength=len(points)) - np.bincount(last, minlength=len(points))
    running, widths = np.cumsum(change)[:-1], np.diff(points)
    passed = np.cumsum(np.append(0.0, np.where(running > 0, widths / np.maximum(running, 1), 0.0)))
    busy = np.bincount(operations.stage, passed[last] - passed[first], num_stages + 1)
    pauses = np.flatnonzero(running == 0)
    owner = _owners(operations, start, end, points[pauses], points[pauses + 1], num_stages)
    return busy + np.bincount(owner, widths[pauses], num_stages + 1)


def _owners(
    operations: Operations,
    start: np.ndarray,
    end: np.ndarray,
    pause_start: np.ndarray,
    pause_end: np.ndarray,
    waiting: int,
) -> np.ndarray:
    """The stage of each pause: that of the operation before, or waiting between two calls."""
    by_end = np.argsort(end, kind="stable")
    before = np.searchsorted(end[by_end], pause_start, side="right") - 1
    after = np.searchsorted(start, pause_end, side="left")
    inside = (before >= 0) & (after < len(start))
    earlier, later = by_end[np.maximum(before, 0)], np.minimum(after, len(start) - 1)
    call = operations.call
    inside &= (call[earlier] == call[later]) & (call[earlier] >= 0)
    return np.where(inside, operations.stage[earlier], waiting)
