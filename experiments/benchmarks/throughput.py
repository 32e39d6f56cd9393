"""Training steps per second of jaxdrl and of other trainers, on the same work and in turn."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import RenderableType

from benchmarks.cases import CASES, TINY, Case, Job
from benchmarks.figures import ratios, speeds, spread
from benchmarks.peers import PINS, default_dir, install, is_installed, python_of
from benchmarks.report import Flags, Output, make_table, with_spread
from benchmarks.workers import Worker, describe, open_worker, take_turns

CaseName = Literal["cartpole-256", "cartpole-2048", "breakout-64", "pendulum-256"]
Peer = Literal["textbook", "rejax", "brax"]


@dataclass(frozen=True)
class Throughput:
    """How fast jaxdrl trains beside others, on the same work, in turn (A B C A B C ...)."""

    cases: tuple[CaseName, ...] = ("cartpole-256", "cartpole-2048", "breakout-64", "pendulum-256")
    """What to train: environment and number of copies; steps, epochs and network are the same."""
    peers: tuple[Peer, ...] = ("textbook", "rejax", "brax")
    """Whom to compare with; brax takes part in pendulum alone."""
    devices: tuple[int, ...] = (1, 2)
    """Numbers of devices that jaxdrl tries, simulated on a CPU; the best counts."""
    repetitions: int = 5
    """Rounds."""
    env_steps: int = 500_000
    """Environment steps of one run, at least one update."""
    peer_dir: Path = field(default_factory=default_dir)
    """Where the peers' virtual environments are made; kept for the next time."""
    output: Flags = field(default_factory=Output)


def chosen_cases(config: Throughput) -> dict[str, Case]:
    """The cases by name."""
    return {"tiny": TINY} if config.output.smoke else {name: CASES[name] for name in config.cases}


def jobs(config: Throughput, case: Case) -> dict[str, Job]:
    """Who trains the case, by the name in the table."""
    updates = max(1, round(config.env_steps / case.env_steps))
    found = {}
    for devices in config.devices:
        name = "jaxdrl" if devices == 1 else f"jaxdrl, {devices} devices"
        found[name] = Job("jaxdrl", case, updates, devices)
    for peer in config.peers:
        if peer != "brax" or case.env == "Pendulum-v1":
            found[peer] = Job(peer, case, updates)
    return found


def measure(config: Throughput, report: Callable[[str], Any]) -> dict[str, Any]:
    """Everything by case; `report` is told what is being done."""
    results = {}
    for name, case in chosen_cases(config).items():
        trainers = measure_jobs(
            jobs(config, case),
            config.repetitions,
            config.peer_dir,
            partial(_tell, report, name),
        )
        results[name] = {"case": vars(case), "trainers": trainers, **compare(trainers)}
    return results


def _tell(report: Callable[[str], Any], name: str, words: str) -> None:
    report(f"{name}: {words}")


def measure_jobs(
    jobs: dict[str, Job], repetitions: int, peer_dir: Path, report: Callable[[str], Any]
) -> dict[str, dict[str, Any]]:
    """Speeds and compile times of trainers that take turns, by name."""
    with ExitStack() as stack:
        workers: list[Worker] = []
        for trainer, job in jobs.items():
            python = None
            if job.trainer in PINS:
                if not is_installed(peer_dir, job.trainer):
                    report(f"installing {job.trainer} in {peer_dir}")
                install(peer_dir, job.trainer)
                python = python_of(peer_dir, job.trainer)
            report(f"compiling {trainer}")
            workers.append(stack.enter_context(open_worker(trainer, job, python)))
        report(f"{repetitions} rounds")
        runs = take_turns(workers, repetitions)
    return {worker.name: summarise(worker, runs[worker.name]) for worker in workers}


def summarise(worker: Worker, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Speeds of one trainer, and what it is."""
    return {
        "speed": spread(speeds(runs)),
        "speeds": speeds(runs),
        "compile_seconds": worker.ready["compile_seconds"],
        "runs": runs,
        **describe(worker.ready),
    }


def compare(trainers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The fastest of ours, and its speed over that of each peer, round by round."""
    ours = [name for name in trainers if name.startswith("jaxdrl")]
    best = max(ours, key=lambda name: trainers[name]["speed"]["median"])
    return {
        "best": best,
        "ratios": {
            name: ratios(trainers[best]["speeds"], trainer["speeds"])
            for name, trainer in trainers.items()
            if name not in ours
        },
    }


def tables(result: dict[str, Any]) -> list[RenderableType]:
    """A table a case."""
    found: list[RenderableType] = []
    for name, measured in result.items():
        case = measured["case"]
        rows = []
        for trainer, figures in measured["trainers"].items():
            ratio = measured["ratios"].get(trainer)
            best = " (best)" if trainer == measured["best"] else ""
            rows.append(
                (
                    trainer + best,
                    with_spread(figures["speed"]),
                    with_spread(ratio, ".2f") if ratio else "",
                    f"{figures['compile_seconds']:.1f}",
                )
            )
        title = (
            f"{name}: {case['env']}, {case['num_envs']} environments x {case['num_steps']} steps"
        )
        columns = ("trainer", "steps/s", f"{measured['best']} / it", "compile s")
        found.append(make_table(title, columns, rows))
    found.append(
        "Medians of the rounds with their least and greatest; a ratio above 1 says that jaxdrl is "
        "faster. What the peers do differently is in benchmarks/peer_*.py and textbook.py."
    )
    return found
