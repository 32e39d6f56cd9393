"""Speeds: beside the textbook, by number of environments, of other algorithms and networks."""

import importlib.util
from dataclasses import replace
from typing import Any

import jax
from benchmarks import breakdown
from benchmarks.cases import ALGORITHM_CASES, CASES, Case
from benchmarks.figures import ratios
from benchmarks.report import Output

from on_gpu.common import Sizes, in_turn, ours, summary, textbook

CARTPOLE, BREAKOUT, PENDULUM = (
    CASES[name] for name in ("cartpole-2048", "breakout-64", "pendulum-256")
)
BESIDE = {
    "CartPole 2,048": CARTPOLE,
    "CartPole 65,536": replace(CARTPOLE, num_envs=65_536, num_steps=32),
    "Breakout, MLP, 2,048": replace(BREAKOUT, num_envs=2048),
    "Pendulum 2,048": replace(PENDULUM, num_envs=2048),
}
"""The same work for jaxdrl and for the textbook."""

CNN: dict[str, Any] = {"torso": "cnn"}


def beside_textbook(sizes: Sizes) -> dict[str, Any]:
    """Each case by both, in turn, and the ratio of their speeds."""
    found = {}
    for name, whole in sizes.some(BESIDE.items()):
        case = sizes.of(whole)
        trainers = {"jaxdrl": ours(case), "textbook": textbook(case)}
        speeds = in_turn(trainers, sizes)
        found[name] = {
            **{trainer: summary(trainers[trainer], speeds[trainer]) for trainer in trainers},
            "ratio": ratios(speeds["jaxdrl"], speeds["textbook"]),
        }
    return found


def pixels(sizes: Sizes) -> dict[str, Any]:
    """Breakout with a CNN, which the textbook does not have."""
    found = {}
    for num_envs in sizes.some((64, 2048, 16_384)):
        case = sizes.of(replace(BREAKOUT, num_envs=num_envs, num_steps=32))
        name = f"Breakout, CNN, {num_envs:,}"
        found[name] = alone(case, sizes, CNN)
    return found


def by_num_envs(sizes: Sizes) -> dict[str, Any]:
    """CartPole by number of environments."""
    found = {}
    for power in range(8, 19, 2):
        if 2**power <= sizes.most_envs:
            case = replace(CARTPOLE, num_envs=2**power, num_steps=32)
            found[f"CartPole {2**power:,}"] = alone(case, sizes)
    return found or {"CartPole 16": alone(sizes.of(CARTPOLE), sizes)}


def other_work(sizes: Sizes) -> dict[str, Any]:
    """PQN; and Craftax-Symbolic, where it is installed."""
    pqn = replace(ALGORITHM_CASES["pqn"], num_envs=2048)
    found = {"PQN, CartPole 2,048": alone(sizes.of(pqn), sizes)}
    if importlib.util.find_spec("craftax") is None:
        return found | {"Craftax-Symbolic": {"left_out": "pip install 'jaxdrl[craftax]'"}}
    craftax = Case("craftax/Craftax-Symbolic-v1", 1024, 64, hidden_sizes=(512, 512, 512))
    return found | {"Craftax-Symbolic 1,024": alone(sizes.of(craftax), sizes)}


def alone(case: Case, sizes: Sizes, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """The speed of jaxdrl in one case."""
    trainer = ours(case, **(settings or {}))
    return summary(trainer, [trainer.speed(sizes.seconds) for _ in range(sizes.rounds)])


def limit(sizes: Sizes) -> dict[str, Any]:
    """Where the time of an update goes, and what share of it the card needs at the least.

    A stage needs at least the time of its operations at the rate of its matrix products, or that
    of the bytes that it has to read and write at the rate of a copy, whichever is more.
    """
    config = breakdown.Breakdown(
        case="cartpole-2048",
        repetitions=sizes.rounds,
        seconds=sizes.seconds / 5,
        copy_bytes=sizes.copy_bytes,
        square=sizes.square,
        output=Output(smoke=sizes.is_tiny),
    )
    found = breakdown.measure(config, lambda words: None)
    least = sum(stage["limit_seconds"] for stage in found["stages"].values())
    names = ("peak_flops_per_second", "copy_bytes_per_second", "fraction_of_product_limit")
    return {
        **{name: found[name] for name in names},
        "whole_seconds": found["whole"]["median"],
        "fraction_of_limit": least / found["whole"]["median"],
        "stages": {
            name: {key: stage[key] for key in ("share", "reached", "flops", "bytes")}
            for name, stage in found["stages"].items()
        },
    }


def memory(sizes: Sizes) -> dict[str, Any]:
    """What the device has taken at the most in all parts so far, if it says so."""
    stats = jax.local_devices()[0].memory_stats() or {}
    names = ("peak_bytes_in_use", "bytes_limit")
    return {name: stats.get(name) for name in names}
