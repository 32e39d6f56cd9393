"""What time limits, the guard against bad numbers, and the host's side of a run cost."""

import contextlib
import io
import tempfile
import types
from collections.abc import Callable
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from rich.console import RenderableType

import jaxdrl
from benchmarks import serving
from benchmarks.cases import CASES, TINY, Case
from benchmarks.figures import ratios
from benchmarks.rates import time_in_turn
from benchmarks.report import Flags, Output, make_table
from benchmarks.tasks import make_env, ppo_config
from benchmarks.worker import repeat
from jaxdrl.algorithms import optimizers, rollout
from jaxdrl.envs import vector
from jaxdrl.runs.run_dir import read_metrics


@dataclass(frozen=True)
class Overheads:
    """Time of an update as it is, beside one that leaves a safeguard out."""

    devices: int = 2
    """Devices, simulated where there is a CPU only."""
    members: int | None = None
    """Members of a population that share the environments, by `vmap` on one device, where a
    `lax.cond` takes both branches; None: one trainer on all devices."""
    repetitions: int = 15
    """Rounds."""
    seconds: float = 0.7
    """Length of one measurement."""
    env_steps: int = 3_000_000
    """Environment steps of a run of `jaxdrl.run`, beside as many without it."""
    track: tuple[str, ...] = ()
    """Trackers that runs are measured with, beside runs without; with `WANDB_MODE=offline` in the
    environment nothing leaves the machine."""
    output: Flags = field(default_factory=Output)


def no_bootstrap() -> AbstractContextManager:
    """Traces a rollout that takes a time limit for a death: V of a final observation stays 0."""
    ignoring = types.SimpleNamespace(
        step=vector.step, reset=vector.reset, update_rows=lambda mask, compute, rows, **_: rows
    )
    return mock.patch.object(rollout, "vector", ignoring)


def no_guard() -> AbstractContextManager:
    """Traces gradient steps that are all taken, whatever their gradient is and they give."""

    def take(step: Callable, finite: jax.Array, learnt: tuple) -> tuple:
        return step(*learnt), jnp.ones_like(finite)

    return mock.patch.object(optimizers, "_try", take)


LEFT_OUT: dict[str, Callable[[], AbstractContextManager]] = {
    "nothing": contextlib.nullcontext,
    "bootstrap at time limits": no_bootstrap,
    "guard against bad numbers": no_guard,
}


def measure(config: Overheads, report: Callable[[str], Any]) -> dict[str, Any]:
    """Everything; `report` is told what is being done."""
    jax.config.update("jax_num_cpu_devices", config.devices)
    # Its episodes end by their time limit alone, all of them at different steps.
    cases = {"pendulum-256": CASES["pendulum-256"], "cartpole-256": CASES["cartpole-256"]}
    if config.output.smoke:
        cases = {"tiny": TINY}
    found = {}
    for name, case in cases.items():
        report(f"{name}: compiling")
        steps = {without: compile_without(config, case, without) for without in LEFT_OUT}
        report(f"{name}: {config.repetitions} rounds")
        calls = {without: (step,) for without, step in steps.items()}
        times = time_in_turn(calls, repetitions=config.repetitions, seconds=config.seconds)
        found[name] = {"times": times, "ratios": compare(times)}
    result = {**serving.facts(0.0), "steps": found}
    if config.members is None:
        report("whole runs")
        case = TINY if config.output.smoke else CASES["cartpole-256"]
        result["run"] = measure_runs(config, case)
        if config.track:
            report("runs with trackers")
            result["tracked"] = measure_trackers(config, case)
    return result


def compile_without(config: Overheads, case: Case, left_out: str) -> Callable[[], Any]:
    """One update after another of a trainer that leaves something out."""
    if config.members is None:
        mesh = jaxdrl.make_mesh(config.devices)
        agent = jaxdrl.ppo(make_env(case), ppo_config(case), mesh=mesh)
    else:
        case = replace(case, num_envs=case.num_envs // config.members)
        agent = vmapped(jaxdrl.ppo(make_env(case), ppo_config(case)), config.members)
    state = jax.jit(agent.init)(jax.random.key(0))
    with LEFT_OUT[left_out]():
        step = jaxdrl.jit_step(agent).lower(state).compile()
    return repeat(step, state, 1)


def vmapped(agent: jaxdrl.Algorithm, num_members: int) -> jaxdrl.Algorithm:
    """`num_members` of the same trainer with keys of their own, side by side."""

    def init(key: jax.Array) -> Any:
        return jax.vmap(agent.init)(jax.random.split(key, num_members))

    return agent._replace(init=init, train_step=jax.vmap(agent.train_step))


def compare(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Time as it is over the time with something left out, round by round."""
    return {
        name: ratios(times["nothing"], others)
        for name, others in times.items()
        if name != "nothing"
    }


def measure_runs(config: Overheads, case: Case) -> dict[str, Any]:
    """`jaxdrl.run` with metrics, progress and files, beside the bare step, in turn."""
    updates = max(1, config.env_steps // case.env_steps)
    bare = compile_without(config, case, "nothing")
    times: dict[str, list[float]] = {"run": [], "bare": []}
    for _ in range(max(1, config.repetitions // 3)):
        times["run"].append(time_run(config, case, updates)[0])
        taken = time_in_turn({"bare": (bare,)}, repetitions=1, seconds=updates * 0.07)
        times["bare"].extend(taken["bare"])
    return {"times": times, "ratio": ratios(times["run"], times["bare"])}


def measure_trackers(config: Overheads, case: Case) -> dict[str, Any]:
    """`jaxdrl.run` with trackers beside one without, in turn; the second half of each run.

    In the first, trackers load their libraries.
    """
    updates = max(2, config.env_steps // case.env_steps)
    times: dict[str, list[float]] = {"tracked": [], "untracked": []}
    for _ in range(max(1, config.repetitions // 3)):
        times["tracked"].append(time_run(config, case, updates, config.track)[1])
        times["untracked"].append(time_run(config, case, updates)[1])
    return {"times": times, "ratio": ratios(times["tracked"], times["untracked"])}


def time_run(
    config: Overheads, case: Case, updates: int, track: tuple[str, ...] = ()
) -> tuple[float, float]:
    """Seconds an update by the run's own account, over the whole run and over its second half.

    Compiling and evaluating are left out.
    """
    with tempfile.TemporaryDirectory() as directory, redirect_stdout(io.StringIO()):
        experiment = jaxdrl.Experiment(
            env=case.env,
            devices=config.devices,
            total_env_steps=updates * case.env_steps,
            run_dir=Path(directory) / "run",
            num_eval_episodes=1,
            track=track,
            algorithm=ppo_config(case),
        )
        run = jaxdrl.run(experiment, env=make_env(case))
        speeds = [line["steps_per_second"] for line in read_metrics(run.run_dir)]
    half = [case.env_steps / speed for speed in speeds[updates // 2 :]]
    return run.result["train_seconds"] / updates, sum(half) / len(half)


def tables(result: dict[str, Any]) -> list[RenderableType]:
    """Costs in percent."""
    rows = [
        (case, name, percent(ratio))
        for case, found in result["steps"].items()
        for name, ratio in found["ratios"].items()
    ]
    if "run" in result:
        rows.append(("one case", "metrics, progress and files", percent(result["run"]["ratio"])))
    if "tracked" in result:
        rows.append(("one case", "trackers", percent(result["tracked"]["ratio"])))
    columns = ("case", "what", "cost")
    return [
        make_table("What an update costs more than without", columns, rows),
        "Medians of the rounds, with their least and greatest.",
    ]


def percent(ratio: dict[str, float]) -> str:
    """A ratio as what it is above one."""
    low, high = 100 * (ratio["min"] - 1), 100 * (ratio["max"] - 1)
    return f"{100 * (ratio['median'] - 1):+.1f}% ({low:+.1f}% to {high:+.1f}%)"
