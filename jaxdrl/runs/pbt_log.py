"""The log of exploit and explore: who copied whom, and the hyperparameters of each member since."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import finite, parse_line, read_lines
from jaxdrl.io.log_files import LogFile
from jaxdrl.populations.sweep_algorithm import PREFIX
from jaxdrl.runs.run_dir import LINEAGE_FILE, is_numbers


class Lineage:
    """Writes a line of `lineage.jsonl` for each round of exploit and explore; a hook of the loop.

    A line has `update`, `parent` (for each member, the one whose parameters it continues with) and
    `hyperparams` (by name, those of each member from there on).

    Args:
      run_dir: of the run.
      names: of the hyperparameters.
      every: updates between two rounds.
      warn: takes warnings. Lines that cannot be written are written with a later one.
    """

    def __init__(
        self,
        run_dir: Path,
        names: Iterable[str],
        every: int,
        warn: Callable[[str], Any] = print,
    ) -> None:
        self.file = LogFile(run_dir / LINEAGE_FILE, warn)
        self.names, self.every = sorted(names), every

    def __call__(self, update: int, metrics: dict[str, Any]) -> None:
        """Takes the metrics of an update."""
        if update % self.every:
            return
        parent = metrics[f"{PREFIX}parent"].tolist()
        values = {name: metrics[f"{PREFIX}{name}"].tolist() for name in self.names}
        line = finite({"update": update, "parent": parent, "hyperparams": values})
        self.file.append((json.dumps(line) + "\n").encode())


def read(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of `lineage.jsonl`, without an incomplete last one.

    Raises:
      ConfigError: naming any other that is damaged.
    """
    return read_lines(run_dir / LINEAGE_FILE, _parse)


def _parse(line: bytes, name: str) -> dict[str, Any]:
    return parse_line(line, name, "put back what was there", _what_is_wrong)


def _what_is_wrong(line: dict[str, Any]) -> str | None:
    """What is wrong with a line, None for a valid one."""
    parent, values = line.get("parent"), line.get("hyperparams")
    if type(line.get("update")) is not int or line["update"] < 1:
        return "has no number update"
    if not isinstance(parent, list) or not parent:
        return "has no list parent"
    if any(type(number) is not int or not 0 <= number < len(parent) for number in parent):
        return "has a parent that is not a member"
    if not isinstance(values, dict):
        return "has no hyperparams"
    for name, numbers in values.items():
        is_row = isinstance(numbers, list) and len(numbers) == len(parent)
        if not is_row or not is_numbers(numbers):
            return f"has no number {name} for each member"
    return None


def replay(first: dict[str, np.ndarray], lines: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Hyperparameters `[1 + lines, P]` from the start on, by what the lines say was copied.

    Raises:
      ConfigError: if a member changed without a copy, or if a member that copied has another value
        than its parent for a hyperparameter that does not vary.
    """
    history = {name: [np.asarray(value, np.float32)] for name, value in first.items()}
    for line in lines:
        if any(len(line["parent"]) != len(values[0]) for values in history.values()):
            raise ConfigError(f"{LINEAGE_FILE}: update {line['update']}: has other members")
        parent = np.asarray(line["parent"])
        own = parent == np.arange(len(parent))
        for name, values in history.items():
            inherited = values[-1][parent]
            now = np.asarray(line["hyperparams"].get(name, inherited), np.float32)
            if not np.array_equal(now[own], inherited[own]):
                where = f"{LINEAGE_FILE}: update {line['update']}"
                raise ConfigError(f"{where}: {name} changed where nothing was copied")
            values.append(now)
    return {name: np.stack(values) for name, values in history.items()}
