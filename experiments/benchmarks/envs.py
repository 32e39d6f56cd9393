"""How speed and memory grow with the number of environments, and stay flat in the run's length."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from rich.console import RenderableType

from benchmarks.cases import TINY, Case, Job
from benchmarks.figures import speeds, spread
from benchmarks.report import Flags, Output, make_table, size, with_spread
from benchmarks.workers import WorkerError, ask, describe, is_out_of_memory, open_worker, take_turns

BLOCK = 10
"""Updates between two looks at speed and memory."""


@dataclass(frozen=True)
class Envs:
    """Speed and peak memory by number of environments, and both early and late in a long run."""

    env: str = "CartPole-v1"
    """What is trained."""
    min_envs: int = 64
    """The smallest number of environments; it is doubled up to the largest."""
    max_envs: int = 65_536
    """The largest."""
    num_steps: int = 32
    """Steps of each in one update."""
    env_steps: int = 500_000
    """Environment steps of one run, at least one update."""
    repetitions: int = 3
    """Runs of each size."""
    long_updates: int = 1000
    """Updates of the long run, a multiple of 10, with the fewest environments."""
    output: Flags = field(default_factory=Output)


def sizes(config: Envs) -> list[int]:
    """Numbers of environments."""
    found = [config.min_envs]
    while 2 * found[-1] <= config.max_envs:
        found.append(2 * found[-1])
    return found


def measure(config: Envs, report: Callable[[str], Any]) -> dict[str, Any]:
    """Everything; `report` is told what is being done."""
    case = TINY if config.output.smoke else Case(config.env, config.min_envs, config.num_steps)
    smallest = replace(config, min_envs=case.num_envs)
    found: list[dict[str, Any]] = []
    stopped = None
    for num_envs in sizes(smallest):
        report(f"{num_envs} environments")
        try:
            found.append(measure_size(config, replace(case, num_envs=num_envs)))
        except WorkerError as error:
            if not is_out_of_memory(error):
                raise
            stopped = f"{num_envs} environments: out of memory"
            break
    report(f"{config.long_updates} updates")
    return {
        "case": vars(case),
        "sizes": found,
        "stopped": stopped,
        "long": measure_length(config, case),
    }


def measure_size(config: Envs, case: Case) -> dict[str, Any]:
    """Speed and memory with `case.num_envs`, in a process of its own."""
    updates = max(1, config.env_steps // case.env_steps)
    with open_worker(f"{case.num_envs} environments", Job("jaxdrl", case, updates)) as worker:
        runs = take_turns([worker], config.repetitions)[worker.name]
    needed = worker.ready["needed_bytes"]
    peak, by = peak_bytes(worker.ready, runs[-1])
    return {
        "num_envs": case.num_envs,
        "speed": spread(speeds(runs)),
        "runs": runs,
        "needed_bytes": needed,
        "peak_bytes": peak,
        "peak_by": by,
        "peak_over_needed": peak / sum(needed.values()),
        **describe(worker.ready),
    }


def peak_bytes(ready: dict[str, Any], run: dict[str, Any]) -> tuple[int, str]:
    """The most bytes that training takes, and by whose count.

    The process's own peak is the last resort: it has the compiler and all libraries in it.
    """
    if run["peak_device_bytes"] is not None:
        return run["peak_device_bytes"], "device"
    if ready["compiled_bytes"] is not None:
        return ready["compiled_bytes"], "compiler"
    return run["peak_process_bytes"], "process"


def measure_length(config: Envs, case: Case) -> dict[str, Any]:
    """Speed and memory after the first updates and after all of a long run, in blocks of 10."""
    blocks = max(2, config.long_updates // BLOCK)
    with open_worker("the long run", Job("jaxdrl", case, BLOCK)) as worker:
        runs = [ask(worker) for _ in range(blocks)]
    few = max(1, blocks // 10)
    return {
        "updates": blocks * BLOCK,
        "early": at(runs[:few], runs[0]),
        "late": at(runs[-few:], runs[-1]),
    }


def at(runs: list[dict[str, Any]], memory: dict[str, Any]) -> dict[str, Any]:
    """Median speed of some runs, and the memory after one."""
    names = ("live_bytes", "peak_process_bytes", "peak_device_bytes")
    return {"speed": median(speeds(runs)), **{name: memory[name] for name in names}}


def tables(result: dict[str, Any]) -> list[RenderableType]:
    """Sizes, the formula, and the long run."""
    rows = []
    for figures in result["sizes"]:
        needed = sum(figures["needed_bytes"].values())
        peak = (size(figures["peak_bytes"]), size(needed), f"{figures['peak_over_needed']:.2f}")
        process = size(figures["runs"][-1]["peak_process_bytes"])
        rows.append((str(figures["num_envs"]), with_spread(figures["speed"]), *peak, process))
    columns = ("environments", "steps/s", "peak", "formula", "peak / formula", "process")
    case = result["case"]
    found: list[RenderableType] = [
        make_table(f"{case['env']}, {case['num_steps']} steps an update", columns, rows)
    ]
    if result["stopped"]:
        found.append(result["stopped"])
    by = result["sizes"][-1]["peak_by"] if result["sizes"] else "nobody"
    found.append(
        f"The peak is by the {by}'s count. The formula: the state, the rollout of one update, and "
        "one minibatch's observations and outputs of every layer in float32. The process has "
        "Python, libraries and the compiler in it."
    )
    blocks = [(name, result["long"][name]) for name in ("early", "late")]
    rows_of_length = [
        (name, f"{at['speed']:,.0f}", size(at["live_bytes"]), size(at["peak_process_bytes"]))
        for name, at in blocks
    ]
    title = (
        f"{result['long']['updates']} updates: the first {BLOCK} and the last, speeds of a tenth"
    )
    found.append(make_table(title, ("when", "steps/s", "arrays", "process peak"), rows_of_length))
    return found
