"""`jaxdrl doctor`: describes this machine, finds faults in its set-up, and measures its speed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxdrl.algorithms.build import build
from jaxdrl.algorithms.settings import make_config
from jaxdrl.algorithms.training import jit_step
from jaxdrl.checks import Positive, checked
from jaxdrl.cli import measure_on_host
from jaxdrl.cli.measure_on_host import Speeds
from jaxdrl.config.algorithms import AlgorithmConfig
from jaxdrl.config.execution import ExecutionConfig
from jaxdrl.core.keys import make_key
from jaxdrl.distributed import cluster_faults
from jaxdrl.distributed.mesh import make_mesh
from jaxdrl.envs import Environment, make
from jaxdrl.io.console import labelled, make_console, say
from jaxdrl.io.numerals import duration
from jaxdrl.runs import backend, machine
from jaxdrl.runs.memory import is_out_of_memory

NUM_SHARDS = ExecutionConfig().num_shards
SIZES = tuple(64 * 4**i for i in range(6))
"""Numbers of environments that are tried to find the one that saturates the machine."""
ENOUGH = 1.1
"""The smallest gain in speed for which four times as many environments are worth it."""


@dataclass(frozen=True)
class Diagnosis:
    """The result of `jaxdrl.cli.doctor.diagnose`.

    Attributes:
      machine: processor, cores, memory and devices.
      processes: those of a run that is started as this command was, in words.
      versions: versions of Python and the packages.
      cache: directory of compiled programs, None if they are not kept.
      complaints: faults in the set-up, each with a remedy.
      env: the environment that was measured.
      by_devices: training steps per second by number of devices.
      by_envs: training steps per second by number of environments, on `num_devices`.
      num_devices: the fastest number of devices.
      num_envs: the number of environments that saturates them, 0 if not even the smallest fits.
      on_host: for an environment of the host, the speeds of acting and learning by number of
        environments, on one device; None for all others.
    """

    machine: dict[str, Any]
    processes: str
    versions: dict[str, str]
    cache: str | None
    complaints: list[str]
    env: str
    by_devices: dict[int, float]
    by_envs: dict[int, float]
    num_devices: int
    num_envs: int
    on_host: dict[int, Speeds] | None = None


@checked
def diagnose(env: str = "CartPole-v1", *, seconds: Positive = 1.0, say: Any = None) -> Diagnosis:
    """Describes this machine, and measures with which settings it trains `env` fastest.

    Training runs for `seconds` after it has compiled: on each number of devices that divides the
    shards, and then on the fastest number with more and more environments until more are no faster.

    Args:
      env: name of the environment.
      seconds: duration of each measurement, above 0.
      say: called with a line about each measurement.

    Raises:
      ConfigError: for an unknown environment or an invalid number.
    """
    report = say or (lambda line: None)
    mesh, words = backend.start(None, NUM_SHARDS)
    report(words)
    report(f"loading {env}")
    made = make(env)
    facts = machine.describe()
    config = replace(make_config(made), num_envs=512)
    processes, faults = cluster_faults.describe(os.environ, on_cpu=facts["platform"] == "cpu")
    busy = machine.busy_complaints(machine.busy_cores())
    for line in (*faults, *busy):  # before minutes of measurements that may be useless
        report(line)
    on_host = None
    if made.host is not None:
        on_host = measure_sizes_on_host(made, config, seconds, report)
        by_envs = {num_envs: speeds.at_once for num_envs, speeds in on_host.items()}
        by_devices, best = {1: max(by_envs.values())}, 1
    else:
        num_devices = int(mesh.devices.size)
        by_devices, by_envs, best = measure_in_jax(made, config, num_devices, seconds, report)
    cache = backend.keep_programs()
    return Diagnosis(
        machine=facts,
        processes=processes,
        versions=machine.versions(),
        cache=None if cache is None else str(cache),
        complaints=[*machine.complaints(facts), *faults, *busy],
        env=env,
        by_devices=by_devices,
        by_envs=by_envs,
        num_devices=best,
        num_envs=saturation(by_envs),
        on_host=on_host,
    )


def measure_in_jax(
    made: Environment,
    config: Any,
    num_devices: int,
    seconds: float,
    report: Callable[[str], Any],
) -> tuple[dict[int, float], dict[int, float], int]:
    """Steps per second by devices and by environments, and the fastest number of devices."""
    numbers = divisors(num_devices)
    steps = Steps(report, len(numbers) + len(SIZES))
    report(
        f"measuring how {made.name} trains: {config.num_envs} environments on "
        f"{', '.join(map(str, numbers))} device(s), then {SIZES[0]} to {SIZES[-1]:,} on the "
        "fastest number; each is compiled separately, which takes most of the time"
    )
    by_devices = {}
    for num in numbers:
        by_devices[num] = steps.take(f"{num} device(s)", measure, made, config, num, seconds)
    best = max(by_devices, key=lambda num: by_devices[num])
    by_envs: dict[int, float] = {}
    for num_envs in SIZES:
        if not pays(list(by_envs.values())):
            break
        changed = replace(config, num_envs=num_envs)
        words = f"{num_envs:,} environments"
        by_envs[num_envs] = steps.take(words, measure, made, changed, best, seconds)
    return by_devices, by_envs, best


def measure_sizes_on_host(
    made: Environment, config: Any, seconds: float, report: Callable[[str], Any]
) -> dict[int, Speeds]:
    """The speeds of acting and learning by the number of environments, until more do not pay."""
    multiple = getattr(config, "num_envs_multiple", NUM_SHARDS)
    sizes = [num for num in measure_on_host.SIZES if num % multiple == 0] or [config.num_envs]
    report(
        f"measuring how {made.name} trains: {sizes[0]} to {sizes[-1]:,} environments, which one "
        "thread of the host steps"
    )
    found: dict[int, Speeds] = {}
    for num_envs in sizes:
        if not pays([speeds.at_once for speeds in found.values()]):
            break
        changed = replace(config, num_envs=num_envs)
        found[num_envs] = measure_on_host.measure(made, changed, seconds)
        report(f"{num_envs:,} environments: {found[num_envs]}")
    return found


class Steps:
    """Reports the result of each measurement, and how long the rest may take."""

    def __init__(self, say: Callable[[str], Any], most: int) -> None:
        self.say, self.most, self.done, self.started = say, most, 0, time.perf_counter()

    def take(self, what: str, measured: Callable[..., float], *args: Any) -> float:
        """Reports and returns `measured(*args)`, steps per second."""
        speed = measured(*args)
        self.done += 1
        a_step = (time.perf_counter() - self.started) / self.done
        found = f"{speed:,.0f} steps/s" if speed else "out of memory"
        self.say(f"{what}: {found} (at most {duration(a_step * (self.most - self.done))} more)")
        return speed


def divisors(at_most: int) -> list[int]:
    """Numbers of devices that divide the shards."""
    return [d for d in range(1, min(at_most, NUM_SHARDS) + 1) if NUM_SHARDS % d == 0]


def pays(speeds: list[float]) -> bool:
    """Whether one of the last two speeds, which are noisy, is enough faster than all before.

    If memory ran out once, it would run out for every larger number, too.
    """
    if 0.0 in speeds:
        return False
    return len(speeds) < 3 or max(speeds[-2:]) > ENOUGH * max(speeds[:-2])


def saturation(by_envs: dict[int, float]) -> int:
    """The smallest number of environments than which no other is `ENOUGH` times as fast.

    It is 0 if memory ran out with the smallest number already.
    """
    best = max(by_envs.values())
    if not best:
        return 0
    return min(num_envs for num_envs, speed in by_envs.items() if speed * ENOUGH >= best)


def measure(env: Environment, config: AlgorithmConfig, num_devices: int, seconds: float) -> float:
    """Training steps per second on `num_devices`, without compiling; 0 if memory runs out."""
    agent = build(env, config, mesh=make_mesh(num_devices))
    try:
        state = jax.jit(agent.init)(make_key(0))
        step = jit_step(agent).lower(state).compile()
        state, _ = jax.block_until_ready(step(state))
        rates: list[float] = []
        started = time.perf_counter()
        while len(rates) < 3 or time.perf_counter() - started < seconds:
            before = time.perf_counter()
            state, _ = jax.block_until_ready(step(state))
            rates.append(config.env_steps_per_update / (time.perf_counter() - before))
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return 0.0
    return float(np.median(rates))


def print_diagnosis(console: Console, found: Diagnosis) -> None:
    """Prints a table of the machine, what to change on it, and the flags that train fastest."""
    facts = found.machine
    table = Table(show_header=False, box=None, pad_edge=False)
    gib = 1024**3
    free, device = facts["free_host_memory"], facts["device_memory"]
    rows = {
        "processor": f"{facts['processor']}, {facts['cores']} cores",
        "memory": "unknown" if free is None else f"{free / gib:.1f} GiB free",
        "devices": f"{facts['num_devices']} x {facts['device_kind']} ({facts['platform']})"
        + (f", {device / gib:.1f} GiB each" if device else ""),
        "processes": found.processes,
        "versions": ", ".join(f"{name} {number}" for name, number in found.versions.items()),
        "compiled programs": found.cache or "not kept",
    }
    for name, words in rows.items():
        table.add_row(Text(name, "bold"), words)
    console.print(table)
    for complaint in found.complaints:
        say(console, labelled("to do:", complaint))
    if not found.complaints:
        console.print("no faults found in the set-up")
    for line in advice(found):
        say(console, line)


def advice(found: Diagnosis) -> list[str]:
    """Conclusions from the measurements; the last line is the command that trains fastest."""
    if not found.num_envs:
        return [f"{found.env}: not even {SIZES[0]} environments fit into memory"]
    what = "the machine"
    one, best = found.by_devices[1], found.by_devices[found.num_devices]
    if found.on_host is not None:
        words, what = str(found.on_host[found.num_envs]), "one actor"
    elif found.num_devices == 1:
        words = "one device is fastest"
    elif one:
        words = f"{found.num_devices} devices are fastest: {best / one:.2f}x the speed of one"
    else:
        words = f"{found.num_devices} devices are fastest; one has too little memory"
    return [
        f"{found.env}: {words}; {found.num_envs} environments saturate {what}",
        "the fastest setting need not learn best: more environments mean larger batches and fewer "
        "updates in the same number of steps",
        f"jaxdrl train {found.env} --devices {found.num_devices} --num-envs {found.num_envs}",
    ]


def main(env: str, seconds: float) -> None:
    """Diagnoses the machine, and prints each measurement as it is made."""
    console = make_console()

    print_diagnosis(console, diagnose(env, seconds=seconds, say=partial(say, console)))
