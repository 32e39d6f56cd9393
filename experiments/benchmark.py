"""Measures jaxdrl: its speed beside others, where time and memory go, and how it scales."""

import importlib
import sys
from dataclasses import asdict, replace
from typing import Any

import tyro
from benchmarks import plot, report
from benchmarks.algorithms import Algorithms
from benchmarks.asynchronous import Asynchronous
from benchmarks.breakdown import Breakdown
from benchmarks.envs import Envs
from benchmarks.overheads import Overheads
from benchmarks.peers import PeerError
from benchmarks.population import Population
from benchmarks.recurrent import Recurrent
from benchmarks.reset import Reset
from benchmarks.scaling import Scaling
from benchmarks.throughput import Throughput
from benchmarks.workers import WorkerError
from rich.console import Console

from jaxdrl import ConfigError

Mode = (
    Throughput
    | Breakdown
    | Scaling
    | Envs
    | Reset
    | Overheads
    | Recurrent
    | Population
    | Asynchronous
    | Algorithms
)

SMOKE: dict[type, dict[str, Any]] = {
    Throughput: {"peers": ("textbook",), "devices": (1,), "repetitions": 2, "env_steps": 256},
    Breakdown: {"repetitions": 1, "seconds": 0.01, "copy_bytes": 2**20, "square": 64},
    Scaling: {"devices": (1, 2), "weak": False, "repetitions": 2, "env_steps": 256},
    Envs: {"repetitions": 1, "env_steps": 256, "max_envs": 16, "long_updates": 20},
    Reset: {"repetitions": 2, "seconds": 0.01, "num_envs": 16, "num_steps": 8, "env_steps": 256},
    Overheads: {"repetitions": 2, "seconds": 0.01, "env_steps": 256, "track": ("tensorboard",)},
    Population: {"members": 2, "peers": (), "devices": (1,), "repetitions": 2, "env_steps": 256},
    Recurrent: {"repetitions": 2, "seconds": 0.01, "size": 8, "sequence_lengths": (8, 4)},
    Asynchronous: {"peers": (), "acting": (8,), "repetitions": 2, "updates": 2},
    Algorithms: {
        "peers": (),
        "algorithms": ("dqn",),
        "devices": (1,),
        "repetitions": 2,
        "scale": 0,
    },
}
"""What `--smoke` changes, by mode; the work itself becomes tiny, as `cases.TINY`."""


def benchmark(config: Mode, console: Console) -> dict[str, Any]:
    """Measures, shows tables, writes files; what the JSON file holds."""
    output = config.output
    if output.plot is not None:
        plot.check()  # before hours of measuring
    if output.smoke:
        config = replace(config, **SMOKE[type(config)])
    mode = type(config).__name__.lower()
    module = importlib.import_module(f"benchmarks.{mode}")
    with console.status("starting") as status:

        def tell(words: str) -> None:
            status.update(words)
            if not console.is_terminal:
                console.print(f"  {words}", highlight=False)

        result = module.measure(config, tell)
    for table in module.tables(result):
        console.print(table, highlight=False)
    content = report.document(mode, asdict(config), result)
    if output.json is not None:
        report.write_json(output.json, content)
    if output.plot is not None:
        plot.draw(content, output.plot)
    return content


def main() -> None:
    """Runs the mode of the command line."""
    config: Mode = tyro.cli(Mode, description=__doc__)  # type: ignore[arg-type]
    try:
        console = Console()
        benchmark(config, console if console.is_terminal else Console(width=140))
    except (ConfigError, PeerError, WorkerError) as error:
        sys.exit(f"benchmark.py: {error}")


if __name__ == "__main__":
    main()
