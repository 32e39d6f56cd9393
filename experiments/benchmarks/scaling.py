"""How jaxdrl scales over devices: measured, and predicted for a host of GPUs."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rich.console import RenderableType

from benchmarks.cases import CASES, TINY, Case, Job
from benchmarks.figures import ratios, speeds, spread
from benchmarks.report import Flags, Output, make_table, size, with_spread
from benchmarks.workers import describe, open_worker, take_turns
from jaxdrl.distributed.microbatches import num_cores


@dataclass(frozen=True)
class Scaling:
    """Speed on several devices, weak (as much work each) and strong (divided), and what is sent."""

    case: Literal["cartpole-256", "cartpole-2048", "breakout-64", "pendulum-256"] = "cartpole-256"
    """What is trained: on all devices together (strong), or on each (weak)."""
    devices: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of devices, simulated where there is a CPU only; the first is compared with."""
    weak: bool = True
    """Whether to measure weak scaling."""
    strong: bool = True
    """Whether to measure strong scaling."""
    repetitions: int = 5
    """Rounds."""
    env_steps: int = 250_000
    """Environment steps of one run, at least one update."""
    host_devices: int = 8
    """Devices of the host that is predicted."""
    link_gigabytes: float = 450.0
    """Bandwidth between its devices, in one direction, in GB/s."""
    latency_microseconds: float = 10.0
    """Time of a collective besides its bytes."""
    step_milliseconds: float | None = None
    """Time of one update of the case on one of its devices; None takes what is measured here."""
    output: Flags = field(default_factory=Output)


def jobs(config: Scaling, case: Case) -> dict[tuple[str, int], Job]:
    """The work by kind of scaling and number of devices."""
    found = {}
    for kind in ("weak", "strong"):
        if not (config.weak if kind == "weak" else config.strong):
            continue
        for devices in config.devices:
            num_envs = case.num_envs * (devices if kind == "weak" else 1)
            work = replace(case, num_envs=num_envs)
            updates = max(1, round(config.env_steps / work.env_steps))
            found[kind, devices] = Job("jaxdrl", work, updates, devices)
    return found


def measure(config: Scaling, report: Callable[[str], Any]) -> dict[str, Any]:
    """Everything; `report` is told what is being done."""
    case = TINY if config.output.smoke else CASES[config.case]
    wanted = jobs(config, case)
    with ExitStack() as stack:
        workers = {}
        for job in dict.fromkeys(wanted.values()):  # what both kinds want is measured once
            name = f"{job.devices} devices, {job.case.num_envs} environments"
            report(f"compiling for {name}")
            workers[job] = stack.enter_context(open_worker(name, job))
        report(f"{config.repetitions} rounds")
        runs = take_turns(list(workers.values()), config.repetitions)
    measured: dict[str, list[dict[str, Any]]] = {}
    for (kind, devices), job in wanted.items():
        worker = workers[job]
        entry = {
            "devices": devices,
            "num_envs": job.case.num_envs,
            "speeds": speeds(runs[worker.name]),
            "update_seconds": [run["seconds"] / job.updates for run in runs[worker.name]],
            "collectives": worker.ready["collectives"],
            **describe(worker.ready),
        }
        measured.setdefault(kind, []).append(entry)
    for kind, figures in measured.items():
        add_efficiency(kind, figures)
    return {"case": vars(case), "measured": measured, "predicted": predict(config, measured)}


def add_efficiency(kind: str, measured: list[dict[str, Any]]) -> None:
    """Adds to each its speed over that of the first, and over that of as many of the first."""
    first = measured[0]
    for figures in measured:
        gain = ratios(figures["speeds"], first["speeds"])
        times = figures["devices"] / first["devices"]
        figures["speed"] = spread(figures["speeds"])
        figures["speed_up"] = gain
        figures["efficiency"] = {name: value / times for name, value in gain.items()}


def collective_seconds(
    collectives: dict[str, Any], devices: int, bytes_per_second: float, latency: float
) -> float:
    """Seconds that the collectives of one update take in a ring of devices.

    An all-reduce of b bytes sends 2 b (D - 1) / D from each device; the others, whose size is that
    of their result, b (D - 1) / D.
    """
    seconds = latency * sum(collectives["count"].values())
    for kind, num_bytes in collectives["bytes"].items():
        passes = 2 if kind == "all-reduce" else 1
        seconds += passes * num_bytes * (devices - 1) / devices / bytes_per_second
    return seconds


def predict(config: Scaling, measured: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Efficiency on the host: the measured time of one device's work, and the collectives' time."""
    devices = config.host_devices
    found = {}
    for kind, figures in measured.items():
        alone = spread(figures[0]["update_seconds"])["median"]
        if config.step_milliseconds is not None:
            alone = config.step_milliseconds / 1e3
        sending = collective_seconds(
            figures[-1]["collectives"],
            devices,
            1e9 * config.link_gigabytes,
            1e-6 * config.latency_microseconds,
        )
        computing = alone if kind == "weak" else alone / devices
        found[kind] = {
            "devices": devices,
            "computing_seconds": computing,
            "collective_seconds": sending,
            "efficiency": computing / (computing + sending),
        }
    return found


def tables(result: dict[str, Any]) -> list[RenderableType]:
    """A table a kind of scaling, the prediction, and what the figures can show."""
    found: list[RenderableType] = []
    for kind, measured in result["measured"].items():
        rows = []
        for figures in measured:
            count = figures["collectives"]["count"]
            sent = ", ".join(f"{number} {name}" for name, number in count.items()) or "none"
            total = sum(figures["collectives"]["bytes"].values())
            exact = "" if figures["collectives"]["is_exact"] else " at least"
            efficiency = f"{figures['efficiency']['median']:.0%}"
            speed = with_spread(figures["speed"])
            envs = str(figures["num_envs"])
            rows.append(
                (str(figures["devices"]), envs, speed, efficiency, sent + exact, size(total))
            )
        columns = ("devices", "environments", "steps/s", "efficiency", "collectives", "bytes")
        title = f"{kind} scaling: {result['case']['env']}; collectives of one update"
        found.append(make_table(title, columns, rows))
        found.append(prediction(kind, result["predicted"][kind]))
    if next(iter(result["measured"].values()))[0]["platform"] == "cpu":
        found.append(
            f"These devices are simulated on {num_cores()} cores. Beyond that number they share "
            "cores, so the figures show what sharding costs (the speed at a fixed amount of work "
            "should not fall), and cannot show how real devices scale. The collectives are those "
            "of the compiled program; a compiler for GPUs may merge them further."
        )
    return found


def prediction(kind: str, predicted: dict[str, Any]) -> str:
    """The prediction in words."""
    return (
        f"Predicted on {predicted['devices']} devices, {kind}: {predicted['efficiency']:.1%} "
        f"({1e3 * predicted['computing_seconds']:.2f} ms computing, "
        f"{1e3 * predicted['collective_seconds']:.3f} ms collectives an update, none hidden). "
        "It takes the computing to divide exactly and a device to be as fast as the one measured "
        "here; a faster one has the same collectives: --step-milliseconds."
    )
