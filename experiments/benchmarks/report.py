"""The machine, the versions, and what every mode writes."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from benchmarks.serving import versions
from jaxdrl.distributed.microbatches import num_cores
from jaxdrl.runs.machine import processor


@dataclass(frozen=True)
class Output:
    """Where results go besides the terminal."""

    smoke: bool = False
    """Tiny sizes and one or two repetitions: shows that it works, measures nothing."""
    json: Path | None = None
    """File for all raw figures, with machine and versions."""
    plot: Path | None = None
    """File for a picture (PNG); needs matplotlib."""


Flags = Annotated[Output, tyro.conf.arg(name="")]
"""`Output` as flags of a mode: `--json`, not `--output.json`."""


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory, and system; no device is touched."""
    pages = os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in os.sysconf_names else 0
    return {
        "cpu": processor(),
        "cores": num_cores(),
        "memory_bytes": pages * os.sysconf("SC_PAGE_SIZE") if pages else None,
        "system": platform.system(),
    }


def document(mode: str, config: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """The whole content of the JSON file; paths of this machine are no part of it."""
    return {
        "mode": mode,
        "config": {name: v for name, v in config.items() if name not in ("output", "peer_dir")},
        "machine": machine(),
        "versions": {"python": platform.python_version(), **versions()},
        "result": result,
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes the JSON file; paths become text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, default=str) + "\n")


def make_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table whose first column is text and whose others are figures."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    return table


def with_spread(values: dict[str, float], form: str = ",.0f") -> str:
    """Median with the least and the greatest in brackets."""
    low, high = format(values["min"], form), format(values["max"], form)
    return f"{format(values['median'], form)} ({low} to {high})"


def size(num: float | None) -> str:
    """Bytes in words, such as 3.2 MiB."""
    if num is None:
        return "-"
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while abs(num) >= 1024 and len(units) > 1:
        num, units = num / 1024, units[1:]
    return f"{num:.1f} {units[0]}"
