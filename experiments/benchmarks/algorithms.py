"""Training steps per second of the other algorithms beside rejax and brax, on the same work."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import RenderableType

from benchmarks.cases import ALGORITHM_CASES, Case, Job
from benchmarks.figures import ratios
from benchmarks.peers import default_dir
from benchmarks.report import Flags, Output, make_table, with_spread
from benchmarks.throughput import measure_jobs

Algorithm = Literal["pqn", "dqn", "sac", "td3"]
Peer = Literal["rejax", "brax"]

RUN_STEPS = {"pqn": 500_000, "dqn": 10_000, "sac": 8_000, "td3": 8_000}
"""Environment steps of one run, by algorithm."""

SHARDS = {"pqn": 8, "dqn": 2, "sac": 8, "td3": 8}
"""Logical shards of jaxdrl, which divide environments and minibatches."""


@dataclass(frozen=True)
class Algorithms:
    """How fast PQN, DQN, SAC and TD3 train beside others, on the same work, in turn."""

    algorithms: tuple[Algorithm, ...] = ("pqn", "dqn", "sac", "td3")
    """What to train with: PQN and DQN on CartPole, SAC and TD3 on Pendulum."""
    peers: tuple[Peer, ...] = ("rejax", "brax")
    """Whom to compare with; brax takes part in SAC alone."""
    devices: tuple[int, ...] = (1, 2)
    """Numbers of devices that jaxdrl tries, simulated on a CPU."""
    steps_at_once: int = 16
    """Steps of each environment, with as many times the gradient steps, in the updates of a trainer
    that does them one by one, as a run does; 1: none does."""
    hidden_sizes: tuple[int, ...] | None = None
    """Units of the hidden layers; None: 64-64."""
    repetitions: int = 5
    """Rounds."""
    scale: float = 1.0
    """Factor of the environment steps of one run."""
    peer_dir: Path = field(default_factory=default_dir)
    """Where the peers' virtual environments are made; kept for the next time."""
    output: Flags = field(default_factory=Output)


def chosen_case(config: Algorithms, algorithm: str) -> Case:
    """What an algorithm trains."""
    case = ALGORITHM_CASES[algorithm]
    if config.hidden_sizes is not None:
        case = replace(case, hidden_sizes=config.hidden_sizes)
    if config.output.smoke:
        case = replace(case, hidden_sizes=(8,), batch_size=min(case.batch_size, 16))
        case = replace(case, learning_starts=min(case.learning_starts, 160))
    return case


def jobs(config: Algorithms, algorithm: str) -> dict[str, Job]:
    """Who trains, by the name in the table."""
    case, steps = chosen_case(config, algorithm), config.scale * RUN_STEPS[algorithm]
    # A multiple of two, for TD3 of rejax; and enough to have begun to learn after one run.
    updates = 2 * max(1, round(max(steps, 2 * case.learning_starts) / (2 * case.env_steps)))
    shards = SHARDS[algorithm]
    found = {}
    for devices in config.devices:
        suffix = "" if devices == 1 else f", {devices} devices"
        found[f"jaxdrl{suffix}"] = Job("looped", case, updates, devices, num_shards=shards)
        if not case.buffer_size or config.steps_at_once == 1:
            continue
        name = f"jaxdrl, {config.steps_at_once} steps an update{suffix}"
        found[name] = replace(
            found[f"jaxdrl{suffix}"], trainer="jaxdrl", **in_updates(config, case, updates)
        )
    for peer in config.peers:
        if peer == "rejax" or algorithm == "sac":
            found[peer] = Job(peer, case, updates)
    return found


def in_updates(config: Algorithms, case: Case, updates: int) -> dict[str, Any]:
    """The same work in longer updates."""
    num = config.steps_at_once
    longer = replace(case, num_steps=num, num_gradient_steps=num * case.num_gradient_steps)
    return {"case": longer, "updates": -(-updates // num)}


def measure(config: Algorithms, report: Callable[[str], Any]) -> dict[str, Any]:
    """Everything by algorithm; `report` is told what is being done."""
    results: dict[str, Any] = {}
    for algorithm in config.algorithms:
        trainers = measure_jobs(
            jobs(config, algorithm),
            config.repetitions,
            config.peer_dir,
            lambda words, name=algorithm: report(f"{name}: {words}"),  # type: ignore[misc]
        )
        results[algorithm] = {
            "case": vars(chosen_case(config, algorithm)),
            "trainers": trainers,
            "ratios": {name: compare(trainers, name) for name in trainers if is_ours(name)},
        }
    return results


def is_ours(trainer: str) -> bool:
    """Whether a trainer of the table is jaxdrl."""
    return trainer.startswith("jaxdrl")


def compare(trainers: dict[str, dict[str, Any]], ours: str) -> dict[str, Any]:
    """The speed of one of ours over that of each peer, round by round."""
    return {
        name: ratios(trainers[ours]["speeds"], trainer["speeds"])
        for name, trainer in trainers.items()
        if not is_ours(name)
    }


def tables(result: dict[str, Any]) -> list[RenderableType]:
    """A table an algorithm."""
    found: list[RenderableType] = [table(*item) for item in result.items()]
    found.append(
        "Medians of the rounds with their least and greatest; a ratio above 1 says that jaxdrl is "
        "faster. All updates of a run are one program, for jaxdrl as for its peers; with several "
        "steps in an update they are one call each, as in `jaxdrl train`. What the peers do "
        "differently is in benchmarks/peer_rejax.py and peer_brax.py."
    )
    return found


def markdown_rows(result: dict[str, Any]) -> list[str]:
    """A table for the documentation, with the faster of ours that has the peers' updates."""
    columns = ("work", "jaxdrl, steps/s", "vs rejax 0.1.3", "vs brax 0.14.2")
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    for algorithm, measured in result.items():
        case, trainers = measured["case"], measured["trainers"]
        ours = [name for name in measured["ratios"] if "an update" not in name]
        best = max(ours, key=lambda name: trainers[name]["speed"]["median"])
        steps = case["num_gradient_steps"] or case["num_epochs"] * case["num_minibatches"]
        work = (
            f"{algorithm.upper()}, {case['env']}: {case['num_envs']} x {case['num_steps']} steps, "
            f"then {steps} gradient steps; {'-'.join(map(str, case['hidden_sizes']))}"
        )
        cells = [
            with_spread(measured["ratios"][best][peer], ".2f") if peer in trainers else "–"
            for peer in ("rejax", "brax")
        ]
        speed = f"{trainers[best]['speed']['median'] / 1e3:.1f}k"
        lines.append(f"| {' | '.join((work, speed, *cells))} |")
    return lines


def table(algorithm: str, measured: dict[str, Any]) -> RenderableType:
    """The trainers of an algorithm."""
    trainers, case = measured["trainers"], measured["case"]
    peers = [name for name in trainers if not is_ours(name)]
    rows = []
    for name, figures in trainers.items():
        over = measured["ratios"].get(name, {})
        rows.append(
            (
                name,
                with_spread(figures["speed"]),
                *(with_spread(over[peer], ".2f") if over else "" for peer in peers),
                f"{figures['compile_seconds']:.1f}",
            )
        )
    title = f"{algorithm}: {case['env']}, {case['num_envs']} environments x {case['num_steps']}"
    return make_table(title, ("trainer", "steps/s", *(f"/ {p}" for p in peers), "compile s"), rows)
