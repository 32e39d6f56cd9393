"""An update of a network with memory beside one without of as many multiplications."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
from rich.console import RenderableType

import jaxdrl
from benchmarks import serving
from benchmarks.cases import CASES, TINY, Case
from benchmarks.figures import ratios
from benchmarks.rates import time_in_turn
from benchmarks.report import Flags, Output, make_table, with_spread
from benchmarks.tasks import make_env, ppo_config
from benchmarks.worker import repeat


@dataclass(frozen=True)
class Recurrent:
    """Time of an update with a GRU, by the length of its sequences, over that of an MLP."""

    devices: int = 2
    """Devices, simulated where there is a CPU only."""
    size: int = 64
    """Units of the GRU and of the layer before it."""
    sequence_lengths: tuple[int, ...] = (128, 32, 8)
    """Steps of the sequences."""
    repetitions: int = 5
    """Rounds."""
    seconds: float = 0.7
    """Length of one measurement."""
    output: Flags = field(default_factory=Output)


def configs(config: Recurrent, case: Case) -> dict[str, jaxdrl.PPOConfig]:
    """The MLP, whose products are those of a layer and a GRU, and the GRUs.

    A GRU multiplies its input and its carry with three square matrices each: as six layers do.
    """
    plain = ppo_config(case)
    memory = jaxdrl.with_settings(
        plain, memory="gru", memory_size=config.size, hidden_sizes=(config.size,)
    )
    lengths = [length for length in config.sequence_lengths if case.num_steps % length == 0]
    return {
        "MLP": jaxdrl.with_settings(plain, hidden_sizes=(config.size,) * 7),
        **{f"GRU, {n} steps": replace(memory, sequence_length=n) for n in lengths},
    }


def measure(config: Recurrent, report: Callable[[str], Any]) -> dict[str, Any]:
    """Everything; `report` is told what is being done."""
    jax.config.update("jax_num_cpu_devices", config.devices)
    case = TINY if config.output.smoke else CASES["cartpole-256"]
    env, mesh, calls = make_env(case), jaxdrl.make_mesh(config.devices), {}
    for name, ppo in configs(config, case).items():
        report(f"{name}: compiling")
        agent = jaxdrl.ppo(env, ppo, mesh=mesh)
        state = jax.jit(agent.init)(jax.random.key(0))
        calls[name] = (repeat(jaxdrl.jit_step(agent).lower(state).compile(), state, 1),)
    report(f"{config.repetitions} rounds")
    times = time_in_turn(calls, repetitions=config.repetitions, seconds=config.seconds)
    over = {name: ratios(times[name], times["MLP"]) for name in times if name != "MLP"}
    return {**serving.facts(0.0), "case": vars(case), "times": times, "ratios": over}


def tables(result: dict[str, Any]) -> list[RenderableType]:
    """Times of an update, as multiples of the MLP's."""
    rows = [(name, with_spread(ratio, ".2f")) for name, ratio in result["ratios"].items()]
    case = result["case"]
    title = f"{case['env']}, {case['num_envs']} environments x {case['num_steps']} steps"
    columns = ("network", "time of an update over that of the MLP")
    return [make_table(title, columns, rows)]
