"""Who took over from whom in a population, and what hyperparameters each member had since."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxdrl.json_files import finite
from jaxdrl.metrics import append
from jaxdrl.safe_files import write_text
from jaxdrl.sweeping import PREFIX

LINEAGE_FILE = "lineage.jsonl"


class Lineage:
    """Writes a line of `lineage.jsonl` for each exchange of a run; a hook of the host loop.

    A line has `update`, `parent` (for each member the one whose parameters it goes on with) and
    `hyperparams` (by name those of each member from there on).

    Args:
      run_dir: of the run.
      names: of the hyperparameters.
      every: updates between exchanges.
      done: updates that are done; lines of later ones, which will come again, are dropped.
      warn: takes what is to be said. Lines that cannot be written are tried again with the next.
    """

    def __init__(
        self,
        run_dir: Path,
        names: Iterable[str],
        every: int,
        done: int,
        warn: Callable[[str], Any] = print,
    ) -> None:
        self.path, self.names, self.every = run_dir / LINEAGE_FILE, sorted(names), every
        self.warn, self.unwritten = warn, b""
        kept = [line for line in read(run_dir) if line["update"] <= done]
        if self.path.exists():
            write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def __call__(self, update: int, metrics: dict[str, Any]) -> None:
        """Takes the metrics of an update."""
        if update % self.every:
            return
        parent = metrics[f"{PREFIX}parent"].tolist()
        values = {name: metrics[f"{PREFIX}{name}"].tolist() for name in self.names}
        line = finite({"update": update, "parent": parent, "hyperparams": values})
        lines = self.unwritten + (json.dumps(line) + "\n").encode()
        self.unwritten = append(self.path, lines, self.warn)


def read(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of `lineage.jsonl`; a torn last one is left out."""
    path = run_dir / LINEAGE_FILE
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def replay(first: dict[str, np.ndarray], lines: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Hyperparameters `[1 + lines, P]` from the start on, by what the lines say was taken over.

    Raises:
      ValueError: if a member that took nothing over changed, or one that did has what was not
        its parent's in a hyperparameter that does not vary.
    """
    history = {name: [np.asarray(value, np.float32)] for name, value in first.items()}
    for line in lines:
        parent = np.asarray(line["parent"])
        own = parent == np.arange(len(parent))
        for name, values in history.items():
            inherited = values[-1][parent]
            now = np.asarray(line["hyperparams"].get(name, inherited), np.float32)
            if not np.array_equal(now[own], inherited[own]):
                raise ValueError(
                    f"update {line['update']}: {name} changed where nothing was copied"
                )
            values.append(now)
    return {name: np.stack(values) for name, values in history.items()}
