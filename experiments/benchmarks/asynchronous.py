"""Acting and learning at once beside one after the other, and beside sbx, in turn."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import RenderableType

from benchmarks.cases import HOST_CASES, TINY_HOST, Case, Job
from benchmarks.figures import ratios, spread
from benchmarks.peers import default_dir
from benchmarks.report import Flags, Output, make_table, with_spread
from benchmarks.throughput import measure_jobs

CaseName = Literal["envpool-cartpole", "gymnasium-cartpole", "gymnasium-halfcheetah"]

OURS, IN_TURN = "asynchronous", "synchronous"


@dataclass(frozen=True)
class Asynchronous:
    """Steps per second of runs whose data is one update old, beside those that wait for it."""

    cases: tuple[CaseName, ...] = (
        "envpool-cartpole",
        "gymnasium-cartpole",
        "gymnasium-halfcheetah",
    )
    """What to train: environments of the host and number of copies."""
    peers: tuple[Literal["sbx"], ...] = ("sbx",)
    """Whom to compare with, on Gymnasium's environments."""
    acting: tuple[int, ...] = (64, 512)
    """Numbers of copies of EnvPool's CartPole in which an actor acts alone."""
    learner_devices: int | None = None
    """Devices of the asynchronous learner, simulated on a CPU; None for the default of a run."""
    actor_devices: int | None = None
    """Devices of actors besides; 0 for those of the learner, None for the default of a run."""
    repetitions: int = 5
    """Rounds."""
    updates: int = 40
    """Updates in one measurement."""
    peer_dir: Path = field(default_factory=default_dir)
    """Where the peers' virtual environments are made; kept for the next time."""
    output: Flags = field(default_factory=Output)


def jobs(config: Asynchronous, case: Case, directory: Path) -> dict[str, Job]:
    """Who trains the case, by the name in the table."""
    run = Job("run", case, config.updates, staleness=1, directory=str(directory / OURS))
    found = {
        OURS: replace(
            run, learner_devices=config.learner_devices, actor_devices=config.actor_devices
        ),
        IN_TURN: replace(run, staleness=0, directory=str(directory / IN_TURN)),
    }
    for peer in config.peers:
        found[peer] = Job(peer, case, config.updates)
    return found


def measure(config: Asynchronous, report: Callable[[str], Any]) -> dict[str, Any]:
    """Everything; `report` is told what is being done."""
    cases = {"tiny": TINY_HOST}
    if not config.output.smoke:
        cases = {name: HOST_CASES[name] for name in config.cases}
    trained = {}
    for name, case in cases.items():
        with tempfile.TemporaryDirectory() as directory:
            trainers = measure_jobs(
                jobs(config, case, Path(directory)),
                config.repetitions,
                config.peer_dir,
                lambda words, name=name: report(f"{name}: {words}"),  # type: ignore[misc]
            )
        over = {
            other: ratios(trainers[OURS]["speeds"], trainers[other]["speeds"])
            for other in trainers
            if other != OURS
        }
        for found in trainers.values():
            found["cpu"] = microseconds(found["runs"], "cpu_seconds")
        trained[name] = {"case": vars(case), "trainers": trainers, "ratios": over}
    return {"training": trained, "acting": measure_acting(config, report)}


def measure_acting(config: Asynchronous, report: Callable[[str], Any]) -> dict[str, Any]:
    """Time of one environment step of an actor by itself, by number of copies."""
    case = TINY_HOST if config.output.smoke else HOST_CASES["envpool-cartpole"]
    found = {}
    for num_envs in config.acting:
        same = replace(case, num_envs=num_envs)
        trainers = measure_jobs(
            {"actor": Job("actor", same, config.updates)},
            config.repetitions,
            config.peer_dir,
            lambda words, n=num_envs: report(f"{n} copies: {words}"),  # type: ignore[misc]
        )
        runs = trainers["actor"]["runs"]
        found[str(num_envs)] = {
            "case": vars(same),
            "cpu": microseconds(runs, "cpu_seconds"),
            "wall": microseconds(runs, "seconds"),
            "runs": runs,
        }
    return found


def microseconds(runs: list[dict[str, Any]], name: str) -> dict[str, float]:
    """Microseconds of one environment step: median, least and greatest."""
    return spread([1e6 * run[name] / run["env_steps"] for run in runs])


def tables(result: dict[str, Any]) -> list[RenderableType]:
    """A table a case, and one of acting."""
    found: list[RenderableType] = [
        training_table(name, measured) for name, measured in result["training"].items()
    ]
    rows = [
        (
            f"{num_envs} copies",
            with_spread(figures["cpu"], ".2f"),
            with_spread(figures["wall"], ".2f"),
        )
        for num_envs, figures in result["acting"].items()
    ]
    columns = ("an actor alone", "CPU µs a step", "µs a step")
    if rows:
        env = next(iter(result["acting"].values()))["case"]["env"]
        found.append(make_table(f"Acting in {env}", columns, rows))
    found.append(
        "Medians of the rounds with their least and greatest. CPU time is that of all threads of a "
        "process, and other work on the machine disturbs it least. Idle is the share of the time "
        "in which actors wait for a policy, and in which the learner waits for data. sbx trains "
        "Gymnasium's environment of the same name also beside EnvPool; what it does differently is "
        "in benchmarks/peer_sbx.py."
    )
    return found


def training_table(name: str, measured: dict[str, Any]) -> RenderableType:
    """The trainers of a case."""
    rows = []
    for trainer, figures in measured["trainers"].items():
        ratio = measured["ratios"].get(trainer)
        rows.append(
            (
                trainer,
                with_spread(figures["speed"]),
                with_spread(ratio, ".2f") if ratio else "",
                with_spread(figures["cpu"], ".1f"),
                idle(figures["runs"], "actor"),
                idle(figures["runs"], "learner"),
            )
        )
    case = measured["case"]
    title = f"{name}: {case['env']}, {case['num_envs']} environments x {case['num_steps']} steps"
    columns = ("trainer", "steps/s", f"{OURS} / it", "CPU µs a step", "actor idle", "learner idle")
    return make_table(title, columns, rows)


def idle(runs: list[dict[str, Any]], who: str) -> str:
    """The median share of idle time, where it is known."""
    shares = [run["means"][f"{who}_idle_share"] for run in runs if "means" in run]
    return f"{spread(shares)['median']:.0%}" if shares else ""
