"""Many agents in one program, beside one with all their environments, and beside rejax."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import RenderableType

from benchmarks.cases import TINY, Case, Job
from benchmarks.figures import ratios
from benchmarks.peers import default_dir
from benchmarks.report import Flags, Output, make_table, with_spread
from benchmarks.throughput import measure_jobs


@dataclass(frozen=True)
class Population:
    """Steps per second of many members together, in turn with one agent of as many environments."""

    members: int = 64
    """Agents in one program."""
    num_envs: int = 16
    """Environments of each."""
    num_steps: int = 128
    """Steps of each in one update."""
    peers: tuple[Literal["rejax"], ...] = ("rejax",)
    """Whom to compare with."""
    devices: tuple[int, ...] = (1, 2)
    """Numbers of devices that jaxdrl tries, simulated on a CPU; the best counts."""
    repetitions: int = 5
    """Rounds."""
    env_steps: int = 500_000
    """Environment steps of one run over all members, at least one update."""
    peer_dir: Path = field(default_factory=default_dir)
    """Where the peers' virtual environments are made; kept for the next time."""
    output: Flags = field(default_factory=Output)


def jobs(config: Population, case: Case) -> dict[str, Job]:
    """Who trains, by the name in the table; `case` is the work of a member."""
    updates = max(1, round(config.env_steps / (config.members * case.env_steps)))
    alone = replace(case, num_envs=config.members * case.num_envs)
    found = {}
    for devices in config.devices:
        suffix = "" if devices == 1 else f", {devices} devices"
        found[f"members{suffix}"] = Job("jaxdrl", case, updates, devices, config.members)
        found[f"one agent{suffix}"] = Job("jaxdrl", alone, updates, devices)
    for peer in config.peers:
        found[peer] = Job(peer, case, updates, members=config.members)
    return found


def measure(config: Population, report: Callable[[str], Any]) -> dict[str, Any]:
    """Everything; `report` is told what is being done."""
    case = Case("CartPole-v1", config.num_envs, config.num_steps)
    if config.output.smoke:
        case = replace(TINY, env="CartPole-v1")
    trainers = measure_jobs(jobs(config, case), config.repetitions, config.peer_dir, report)

    def best(kind: str) -> str:
        names = [name for name in trainers if name.startswith(kind)]
        return max(names, key=lambda name: trainers[name]["speed"]["median"])

    ours = best("members")
    others = [best("one agent"), *config.peers]
    over = {name: ratios(trainers[ours]["speeds"], trainers[name]["speeds"]) for name in others}
    shape = {"members": config.members, "case": vars(case)}
    return {**shape, "trainers": trainers, "best": ours, "ratios": over}


def tables(result: dict[str, Any]) -> list[RenderableType]:
    """Speeds over all members, and ours over the others'."""
    rows = []
    for name, figures in result["trainers"].items():
        ratio = result["ratios"].get(name)
        words = with_spread(ratio, ".2f") if ratio else ""
        rows.append(
            (name, with_spread(figures["speed"]), words, f"{figures['compile_seconds']:.1f}")
        )
    case = result["case"]
    title = (
        f"{result['members']} members of {case['env']}, "
        f"{case['num_envs']} environments x {case['num_steps']} steps each"
    )
    columns = ("trainer", "steps/s", f"{result['best']} / it", "compile s")
    return [make_table(title, columns, rows)]
