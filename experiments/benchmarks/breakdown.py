"""Where the time of one update goes, and the fraction of the machine's limit that it reaches."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import jax
from rich.console import RenderableType

import jaxdrl
from benchmarks import rates, serving, stages
from benchmarks.cases import CASES, TINY, Case
from benchmarks.figures import spread
from benchmarks.rates import Product
from benchmarks.report import Flags, Output, make_table, with_spread
from benchmarks.stages import Stage
from benchmarks.tasks import layers, make_env, ppo_config
from benchmarks.worker import num_bytes, repeat


@dataclass(frozen=True)
class Breakdown:
    """Time of each stage of one update by itself, and its limit on this machine."""

    case: Literal["cartpole-256", "cartpole-2048", "breakout-64", "pendulum-256"] = "cartpole-256"
    """What is trained."""
    devices: int = 1
    """Devices, simulated on a CPU; with several, a stage is that of one device with its share."""
    repetitions: int = 7
    """Measurements of each stage, in turn with the whole update; the median counts."""
    seconds: float = 0.5
    """Length of one measurement."""
    copy_bytes: int = 2**28
    """Size of the array whose copy is timed; more than the caches hold."""
    square: int = 2048
    """Size of the large matrix product that is timed."""
    output: Flags = field(default_factory=Output)


def measure(config: Breakdown, report: Callable[[str], Any]) -> dict[str, Any]:
    """Everything; `report` is told what is being done."""
    if config.devices > 1:  # else JAX may have started
        jax.config.update("jax_num_cpu_devices", config.devices)
    whole_case = TINY if config.output.smoke else CASES[config.case]
    case = replace(whole_case, num_envs=whole_case.num_envs // config.devices)
    agent = jaxdrl.ppo(make_env(case), ppo_config(case))
    state = jax.jit(agent.init)(jax.random.key(0))
    report("one update, to have its data")
    pieces = stages.take_apart(case, agent, state)
    found = stages.make_stages(case, pieces)
    report("rates of the machine")
    settings: dict[str, Any] = {
        "repetitions": config.repetitions,
        "seconds": config.seconds / 10,
    }
    machine = {
        "peak_flops_per_second": rates.peak_product_rate(config.square, **settings),
        "copy_bytes_per_second": rates.copy_rate(config.copy_bytes, **settings),
    }
    # Those of the whole machine; a device has its share of them.
    of_device = {name: rate / config.devices for name, rate in machine.items()}
    rows = stages.gradient_rows(pieces.ppo, case)
    products = time_products(case, rows, settings | {"devices": config.devices})
    report("stages")
    whole = whole_update(config, whole_case)
    calls: dict[str, tuple] = {"whole": (whole,)}
    for name, stage in found.items():
        calls[name] = (jax.jit(partial(stages.run, stage)), stage.carry, stage.xs)
    times = rates.time_in_turn(calls, repetitions=config.repetitions, seconds=config.seconds)
    costs = {name: cost(case, name, stage, products) for name, stage in found.items()}
    return {
        "case": vars(whole_case),
        "devices": config.devices,
        **serving.facts(0.0),
        **machine,
        "products": products,
        **summarise(times, costs, products, of_device),
    }


def whole_update(config: Breakdown, case: Case) -> Callable[[], Any]:
    """One update after another, on all devices."""
    mesh = jaxdrl.make_mesh(config.devices) if config.devices > 1 else None
    agent = jaxdrl.ppo(make_env(case), ppo_config(case), mesh=mesh)
    return repeat(jaxdrl.jit_step(agent), jax.jit(agent.init)(jax.random.key(0)), 1)


def time_products(case: Case, gradient_rows: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Operations and least seconds of an update's matrix products, at the rate of their shapes.

    Those of a gradient are timed for a whole minibatch at once and for `gradient_rows` at a time,
    and the faster of the two counts.
    """
    sizes = layers(case, make_env(case))
    rollout = rates.forward_products(sizes, case.num_envs)
    last_value = rollout[1 : len(case.hidden_sizes) * 2 : 2] + rollout[-1:]
    groups = [("policy", "forward", [(product, case.num_steps)]) for product in rollout]
    groups += [("last value", "forward", [(product, 1)]) for product in last_value]
    choices = dict.fromkeys((case.minibatch_size, gradient_rows))
    ways = [rates.gradient_products(sizes, rows, sizes[0][0]) for rows in choices]
    samples = case.gradient_steps * case.minibatch_size
    for kind in ways[0]:
        for same in zip(*(way[kind] for way in ways), strict=True):
            timed = [(p, samples // rows) for p, rows in zip(same, choices, strict=True)]
            groups.append(("gradients", kind, timed))
    return add_up(groups, settings)


def add_up(
    groups: list[tuple[str, str, list[tuple[Product, int]]]], settings: dict[str, Any]
) -> dict[str, Any]:
    """Totals by stage of `(stage, kind, [(product, how often), ...])`, the fastest of each list."""
    seconds: dict[tuple[str, Product], float] = {}
    found: dict[str, Any] = {}
    for stage, kind, ways in groups:
        for product, _ in ways:
            if (kind, product) not in seconds:
                seconds[kind, product] = rates.time_product(product, kind, **settings)
        total = found.setdefault(stage, {"flops": 0, "seconds": 0.0})
        product, times = ways[0]
        total["flops"] += times * rates.product_flops(product)
        total["seconds"] += min(times * seconds[kind, product] for product, times in ways)
    found["shapes"] = [
        {"kind": kind, "shape": product, "seconds": least}
        for (kind, product), least in seconds.items()
    ]
    return found


def cost(case: Case, name: str, stage: Stage, products: dict[str, Any]) -> dict[str, Any]:
    """Operations of a stage in one update, with their source, and the bytes that it has to move.

    The bytes are a lower bound: what it is given is read once and what it gives is written once,
    but for the shuffle, where every epoch reads and writes all samples and their rows.
    """
    given = (stage.carry, stage.xs)
    moved = num_bytes(given) + num_bytes(jax.eval_shape(partial(stages.run, stage), *given))
    if name == "shuffle and gather":
        moved = case.num_epochs * (2 * num_bytes(stage.carry[0]) + 8 * case.env_steps)
        return {"flops": 0, "bytes": moved, "source": "none"}
    if name == "advantages":
        return {"flops": 10 * case.env_steps, "bytes": moved, "source": "formula"}
    if name in products:
        return {"flops": products[name]["flops"], "bytes": moved, "source": "formula"}
    first = jax.tree.map(lambda x: x[0], stage.xs)
    flops = stage.times * rates.counted_flops(stage.once, stage.carry, first)
    return {"flops": flops, "bytes": moved, "source": "compiler"}


def limit(
    name: str, cost: dict[str, Any], products: dict[str, Any], machine: dict[str, float]
) -> float:
    """Seconds that a stage takes at least: by its arithmetic or by its bytes, whichever is more."""
    arithmetic = cost["flops"] / machine["peak_flops_per_second"]
    if name in products:
        arithmetic = products[name]["seconds"]
    return max(arithmetic, cost["bytes"] / machine["copy_bytes_per_second"])


def summarise(
    times: dict[str, list[float]],
    costs: dict[str, dict[str, Any]],
    products: dict[str, Any],
    machine: dict[str, float],
) -> dict[str, Any]:
    """Shares, limits and the headline."""
    whole = spread(times["whole"])
    found = {}
    for name, cost in costs.items():
        seconds = spread(times[name])
        least = limit(name, cost, products, machine)
        found[name] = {
            **cost,
            "seconds": seconds,
            "share": seconds["median"] / whole["median"],
            "limit_seconds": least,
            "reached": least / seconds["median"],
        }
    product_seconds = sum(group["seconds"] for name, group in products.items() if name != "shapes")
    return {
        "whole": whole,
        "stages": found,
        "remainder_seconds": whole["median"] - sum(s["seconds"]["median"] for s in found.values()),
        "product_seconds": product_seconds,
        "fraction_of_product_limit": product_seconds / whole["median"],
        "times": times,
    }


def tables(result: dict[str, Any]) -> list[RenderableType]:
    """Stages, and the headline in words."""
    case, whole = result["case"], result["whole"]
    rows = []
    for name, stage in result["stages"].items():
        least = f"{1e3 * stage['limit_seconds']:.2f}"
        milliseconds = {key: 1e3 * value for key, value in stage["seconds"].items()}
        work = (f"{stage['flops'] / 1e9:.3f}", stage["source"], f"{stage['bytes'] / 1e6:.1f}")
        reached = f"{stage['reached']:.0%}"
        share = f"{stage['share']:.0%}"
        rows.append((name, with_spread(milliseconds, ".2f"), share, *work, least, reached))
    remainder = result["remainder_seconds"]
    share = f"{remainder / whole['median']:.0%}"
    rows.append(("remainder", f"{1e3 * remainder:.2f}", share, "", "", "", "", ""))
    total = {key: 1e3 * value for key, value in whole.items()}
    rows.append(("whole update", with_spread(total, ".2f"), "100%", "", "", "", "", ""))
    columns = ("stage", "ms", "share", "GFLOP", "by", "MB", "limit ms", "reached")
    title = (
        f"{case['env']}, {case['num_envs']} environments x {case['num_steps']} steps, "
        f"{result['devices']} device(s)"
    )
    return [
        make_table(title, columns, rows),
        f"Of the matrix-product limit the whole update reaches "
        f"{result['fraction_of_product_limit']:.1%}: its products take "
        f"{1e3 * result['product_seconds']:.2f} ms at the best rate measured for their shapes.",
        f"This machine: {result['peak_flops_per_second'] / 1e9:.0f} GFLOP/s in a large product, "
        f"{result['copy_bytes_per_second'] / 1e9:.1f} GB/s read and written in a copy. A limit is "
        "the larger of a stage's operations, at the rate of its own products where it has some and "
        "of the large one elsewhere, and of the bytes that it has to move. Functions such as tanh "
        "count as nothing; in the caches bytes cost less.",
        "The remainder is metrics, statistics, advantages made standard, values of last and "
        "truncated observations, and what a stage gains or loses by running alone; it can be "
        "negative.",
    ]
