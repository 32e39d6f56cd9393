"""How jaxdrl scales over hosts, predicted: one host is measured, the rest is counted."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rich.console import RenderableType

from benchmarks import hosts_model
from benchmarks.cases import CASES, TINY, Case, Job
from benchmarks.figures import spread
from benchmarks.hosts_model import Network
from benchmarks.hosts_program import count
from benchmarks.report import Flags, Output, make_table, size
from benchmarks.workers import open_worker, take_turns

MODES = {"fast": False, "reproducible": True}


@dataclass(frozen=True)
class Predict:
    """Efficiency on up to 64 hosts, from the time of an update on one and the bytes it sends."""

    case: Literal["cartpole-256", "cartpole-2048", "breakout-64", "pendulum-256"] = "cartpole-256"
    """What is trained: by all hosts together (strong scaling), or by each of them (weak)."""
    hosts: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Numbers of hosts; each divides `num_shards`."""
    gigabits: tuple[float, ...] = (10.0, 100.0, 400.0)
    """Bandwidths of the link of a host in one direction, in Gb/s."""
    latencies: tuple[float, ...] = (5.0, 50.0)
    """Times of a message without content from host to host, in microseconds."""
    num_shards: int = 64
    """Logical shards of the run."""
    step_milliseconds: float | None = None
    """Time of an update of the case on one host, in both modes; None measures this machine."""
    devices: int = 2
    """Devices of this machine, if it is measured."""
    repetitions: int = 5
    """Rounds of the measurement."""
    env_steps: int = 250_000
    """Environment steps of one run of it, at least one update."""
    output: Flags = field(default_factory=Output)


def jobs(config: Predict, case: Case) -> dict[str, Job]:
    """What is measured: an update in each mode, and the part of it that one of `H` hosts has.

    A part that leaves a device without an environment is left out.
    """
    updates = max(1, round(config.env_steps / case.env_steps))
    found = {
        mode: Job("jaxdrl", case, updates, config.devices, 0, config.num_shards, reproducible)
        for mode, reproducible in MODES.items()
    }
    for hosts in config.hosts:
        if case.num_envs % (hosts * config.devices) == 0:
            part = replace(case, num_envs=case.num_envs // hosts)
            found[str(hosts)] = Job("jaxdrl", part, updates, config.devices, 0, config.devices)
    return found


def measure_jobs(wanted: dict[str, Job], repetitions: int, report: Callable) -> dict[str, float]:
    """Median seconds of an update of each job, which are asked in turn."""
    with ExitStack() as stack:
        workers = []
        for name, job in wanted.items():
            words = f"{job.case.num_envs} environments"
            report(f"compiling {words}{', reproducible' if job.reproducible else ''}")
            workers.append(stack.enter_context(open_worker(name, job)))
        report(f"{repetitions} rounds")
        runs = take_turns(workers, repetitions)
    seconds = {name: [run["seconds"] for run in found] for name, found in runs.items()}
    return {name: spread(seconds[name])["median"] / job.updates for name, job in wanted.items()}


def measure(config: Predict, report: Callable[[str], Any]) -> dict[str, Any]:
    """Everything; `report` is told what is being done."""
    case = TINY if config.output.smoke else CASES[config.case]
    counted: dict[str, dict[int, Any]] = {mode: {} for mode in MODES}
    for mode, reproducible in MODES.items():
        for hosts in config.hosts:
            report(f"compiling for {hosts} hosts to count what they send, {mode}")
            found = count(case, hosts, num_shards=config.num_shards, reproducible=reproducible)
            counted[mode][hosts] = vars(found)
    if config.step_milliseconds is None:
        seconds = measure_jobs(jobs(config, case), config.repetitions, report)
    else:
        seconds = dict.fromkeys(MODES, config.step_milliseconds / 1e3)
    networks = [Network(g, m) for m in config.latencies for g in config.gigabits]
    return {
        "case": vars(case),
        "alone_seconds": {mode: seconds[mode] for mode in MODES},
        "part_seconds": {name: s for name, s in seconds.items() if name not in MODES},
        "collectives": counted,
        "predicted": {
            mode: hosts_model.predict(seconds[mode], counted[mode], networks) for mode in MODES
        },
    }


def tables(result: dict[str, Any]) -> list[RenderableType]:
    """A table for each mode and latency, and what a division of the work leaves out."""
    found: list[RenderableType] = []
    for mode, rows in result["predicted"].items():
        for latency in dict.fromkeys(row["latency_microseconds"] for row in rows):
            alone = 1e3 * result["alone_seconds"][mode]
            title = (
                f"PREDICTED efficiency, {result['case']['env']}, {mode} mode, {latency:g} µs a "
                f"message; an update takes {alone:.1f} ms on one host"
            )
            chosen = [row for row in rows if row["latency_microseconds"] == latency]
            found.append(table_of(title, chosen))
    if result["part_seconds"]:
        found.append(table_of_parts(result))
    return found


def table_of(title: str, rows: Sequence[dict[str, Any]]) -> RenderableType:
    """A line for each number of hosts: strong and weak scaling on each network."""
    gigabits = list(dict.fromkeys(row["gigabits"] for row in rows))
    columns = ["hosts", "each sends", "messages"]
    columns += [f"{kind}, {g:g} Gb/s" for kind in ("strong", "weak") for g in gigabits]
    lines = []
    for hosts in dict.fromkeys(row["hosts"] for row in rows):
        of_hosts = {row["gigabits"]: row for row in rows if row["hosts"] == hosts}
        first = of_hosts[gigabits[0]]
        line = [str(hosts), size(first["sent_bytes"]), str(first["messages"])]
        line += [f"{of_hosts[g][kind]:.0%}" for kind in ("strong", "weak") for g in gigabits]
        lines.append(line)
    return make_table(title, columns, lines)


def table_of_parts(result: dict[str, Any]) -> RenderableType:
    """The time of a part of the work, beside the part of the time that the prediction takes."""
    alone = result["part_seconds"].get("1")
    lines = [
        (hosts, f"{1e3 * alone / int(hosts):.2f} ms", f"{1e3 * seconds:.2f} ms")
        for hosts, seconds in result["part_seconds"].items()
    ]
    title = "MEASURED on one host: the part of the work that each of so many hosts would have"
    return make_table(title, ("hosts", "divided", "measured"), lines)
