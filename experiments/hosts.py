"""How training scales over hosts: measured with two processes here, and predicted for more."""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import tyro
from benchmarks import hosts_measured, hosts_predicted, plot, report
from benchmarks.hosts_measured import Measure
from benchmarks.hosts_predicted import Predict
from benchmarks.workers import WorkerError
from rich.console import Console

from jaxdrl import ConfigError

Mode = Measure | Predict

SMOKE: dict[type, dict[str, Any]] = {
    Measure: {"updates": 4, "repetitions": 1},
    Predict: {"hosts": (1, 2), "num_shards": 2, "repetitions": 2, "env_steps": 256},
}
"""What `--smoke` changes, by mode; the work itself becomes a tiny one."""


def measure(config: Mode, tell: Callable[[str], Any]) -> dict[str, Any]:
    """Everything; `tell` is told what is being done."""
    if isinstance(config, Predict):
        jax.config.update("jax_num_cpu_devices", max(config.hosts))  # one stands for each
        return hosts_predicted.measure(config, tell)
    with tempfile.TemporaryDirectory() as directory:
        return hosts_measured.measure(config, Path(directory), tell)


def scale(config: Mode, console: Console) -> dict[str, Any]:
    """Measures or predicts, shows tables, writes files; what the JSON file holds."""
    output = config.output
    if output.plot is not None:
        plot.check()  # before minutes of measuring
    if output.smoke:
        config = replace(config, **SMOKE[type(config)])
    mode = f"hosts_{type(config).__name__.lower()}"
    with console.status("starting") as status:

        def tell(words: str) -> None:
            status.update(words)
            if not console.is_terminal:
                console.print(f"  {words}", highlight=False)

        result = measure(config, tell)
    module = hosts_predicted if isinstance(config, Predict) else hosts_measured
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
        scale(config, console if console.is_terminal else Console(width=140))
    except (ConfigError, WorkerError) as error:
        sys.exit(f"hosts.py: {error}")


if __name__ == "__main__":
    main()
