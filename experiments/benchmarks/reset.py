"""What resets cost: all environments at every step, those alone that are due, or none."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import RenderableType

import jaxdrl
from benchmarks import rates, serving
from benchmarks.cases import TINY, Case, Job
from benchmarks.costly import costly
from benchmarks.figures import ratios, spread
from benchmarks.report import Flags, Output, make_table, with_spread
from benchmarks.suite_resets import WAYS
from benchmarks.throughput import compare, summarise
from benchmarks.workers import open_worker, take_turns
from jaxdrl.envs import vector

SUITE_COLUMNS = ("task", "jaxdrl", "the suite's own reset", "jaxdrl / own")
KINDS = ("all", "due", "none")


@dataclass(frozen=True)
class Reset:
    """Speed of stepping environments by what is reset, and what that gives to training."""

    envs: tuple[str, ...] = ("CartPole-v1", "Breakout-MinAtar", "Costly")
    """Environments; the reset of Costly takes as long as some 100 steps."""
    suites: tuple[str, ...] = ()
    """Tasks of suites, such as brax/ant, beside what each suite does by itself."""
    num_envs: int = 256
    """Copies of the environment."""
    num_steps: int = 100
    """Steps of each in one call."""
    repetitions: int = 5
    """Rounds."""
    seconds: float = 1.0
    """Length of one measurement."""
    train_envs: int = 256
    """Copies of Costly in training."""
    env_steps: int = 100_000
    """Environment steps of one training run, at least one update."""
    output: Flags = field(default_factory=Output)


def step_all(env: jaxdrl.Environment, carry: tuple, _: None) -> tuple[tuple, Any]:
    """Steps every environment, resets every one, and selects."""
    env_state, keys, step_keys, reset_keys, action = draw(env, carry)
    obs, stepped, reward, terminated, truncated, _ = step_alone(env, step_keys, env_state, action)
    done = terminated | truncated
    fresh_obs, fresh = vector.reset(env, reset_keys)

    def select(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(done.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    obs, env_state = jax.tree.map(select, (fresh_obs, fresh), (obs, stepped))
    return (env_state, keys), (obs, reward, done)


def step_due(env: jaxdrl.Environment, carry: tuple, _: None) -> tuple[tuple, Any]:
    """Steps every environment, and resets those that ended: jaxdrl's own."""
    env_state, keys, step_keys, reset_keys, action = draw(env, carry)
    stepped = vector.step(env, step_keys, reset_keys, env_state, action)
    done = stepped.terminated | stepped.truncated
    return (stepped.env_state, keys), (stepped.obs, stepped.reward, done)


def step_none(env: jaxdrl.Environment, carry: tuple, _: None) -> tuple[tuple, Any]:
    """Steps every environment, past the ends of its episodes."""
    env_state, keys, step_keys, _reset_keys, action = draw(env, carry)
    obs, env_state, reward, terminated, truncated, _ = step_alone(env, step_keys, env_state, action)
    return (env_state, keys), (obs, reward, terminated | truncated)


def draw(env: jaxdrl.Environment, carry: tuple) -> tuple:
    """`(env_state, keys, step keys, reset keys, random actions)`."""
    env_state, keys = carry
    keys = jax.vmap(lambda key: jax.random.split(key, 4))(keys)
    action = jax.vmap(env.action_space.sample)(keys[:, 1])
    return env_state, keys[:, 0], keys[:, 2], keys[:, 3], action


def step_alone(env: jaxdrl.Environment, keys: jax.Array, env_state: Any, action: Any) -> tuple:
    """`env.step` of every environment."""
    mapped = jax.vmap(env.step, in_axes=(0, 0, 0, None))
    return mapped(keys, env_state, action, env.default_params)


STEPS = dict(zip(KINDS, (step_all, step_due, step_none), strict=True))


def measure(config: Reset, report: Callable[[str], Any]) -> dict[str, Any]:
    """Everything; `report` is told what is being done."""
    found = {}
    for name in ("Costly",) if config.output.smoke else config.envs:
        report(f"{name}: stepping")
        env = costly() if name == "Costly" else jaxdrl.make(name)
        found[name] = measure_stepping(config, env)
    beside = {}
    for name in config.suites:
        report(f"{name}: beside its suite's own reset")
        beside[name] = measure_suite(config, name)
    case = TINY if config.output.smoke else Case("Costly", config.train_envs, 128)
    report("training Costly")
    return {
        **serving.facts(0.0),
        "stepping": found,
        "suites": beside,
        "reset_cost": measure_costs(config),
        "training": measure_training(config, case),
    }


def measure_stepping(config: Reset, env: jaxdrl.Environment) -> dict[str, Any]:
    """Speeds of one environment by kind of reset, and ratios round by round."""
    reset_key, run_key = jax.random.split(jax.random.key(0))
    _, env_state = jax.jit(partial(vector.reset, env))(jax.random.split(reset_key, config.num_envs))
    carry = (env_state, jax.random.split(run_key, config.num_envs))
    calls = {}
    for kind, step in STEPS.items():
        scan = partial(jax.lax.scan, partial(step, env), length=config.num_steps)
        calls[kind] = (jax.jit(scan), carry)
    times = rates.time_in_turn(calls, repetitions=config.repetitions, seconds=config.seconds)
    steps = config.num_envs * config.num_steps
    found = {kind: [steps / seconds for seconds in times[kind]] for kind in KINDS}
    return {
        "speeds": found,
        "speed": {kind: spread(found[kind]) for kind in KINDS},
        "due_over_all": ratios(found["due"], found["all"]),
        "due_over_none": ratios(found["due"], found["none"]),
    }


def measure_suite(config: Reset, name: str) -> dict[str, Any]:
    """Speeds of a task as jaxdrl resets it and as its suite does, in turn."""
    own_key, reset_key, run_key = jax.random.split(jax.random.key(0), 3)
    env, num = jaxdrl.make(name), config.num_envs
    _, env_state = jax.jit(partial(vector.reset, env))(jax.random.split(reset_key, num))
    steps: dict[str, tuple] = {
        "jaxdrl": (partial(step_due, env), (env_state, jax.random.split(run_key, num)))
    }
    for way in WAYS[name.split("/")[0]]:
        steps[way.__name__] = way(name, num, own_key)
    calls = {
        way: (jax.jit(partial(jax.lax.scan, step, length=config.num_steps)), carry)
        for way, (step, carry) in steps.items()
    }
    times = rates.time_in_turn(calls, repetitions=config.repetitions, seconds=config.seconds)
    total = num * config.num_steps
    speeds = {way: [total / seconds for seconds in found] for way, found in times.items()}
    best = max(list(speeds)[1:], key=lambda way: spread(speeds[way])["median"])
    return {
        "speed": {way: spread(found) for way, found in speeds.items()},
        "own": best,
        "jaxdrl_over_own": ratios(speeds["jaxdrl"], speeds[best]),
    }


def measure_costs(config: Reset) -> dict[str, float]:
    """Seconds of a step and of a reset of every copy of Costly, and their ratio."""
    env = costly()
    keys = jax.random.split(jax.random.key(1), config.num_envs)
    reset = jax.jit(partial(vector.reset, env))
    _, env_state = reset(keys)
    action = jnp.zeros(config.num_envs, jnp.int32)
    step = jax.jit(partial(step_alone, env))
    calls = {"step": (step, keys, env_state, action), "reset": (reset, keys)}
    seconds = rates.time_in_turn(calls, repetitions=config.repetitions, seconds=config.seconds / 10)
    least = {name: min(times) for name, times in seconds.items()}
    return {**least, "ratio": least["reset"] / least["step"]}


def measure_training(config: Reset, case: Case) -> dict[str, Any]:
    """Whole training of Costly by jaxdrl and by the textbook, which resets all at every step."""
    updates = max(1, round(config.env_steps / case.env_steps))
    with ExitStack() as stack:
        workers = [
            stack.enter_context(open_worker(trainer, Job(trainer, case, updates)))
            for trainer in ("jaxdrl", "textbook")
        ]
        runs = take_turns(workers, config.repetitions)
    trainers = {worker.name: summarise(worker, runs[worker.name]) for worker in workers}
    return {"case": vars(case), "trainers": trainers, **compare(trainers)}


def tables(result: dict[str, Any]) -> list[RenderableType]:
    """Stepping, and training in words."""
    rows = []
    for name, figures in result["stepping"].items():
        speeds = [with_spread(figures["speed"][kind]) for kind in KINDS]
        gains = [with_spread(figures[key], ".2f") for key in ("due_over_all", "due_over_none")]
        rows.append((name, *speeds, *gains))
    columns = ("environment", "all reset", "due reset", "none reset", "due / all", "due / none")
    suites = []
    for name, figures in result["suites"].items():
        speeds = [with_spread(figures["speed"][way]) for way in ("jaxdrl", figures["own"])]
        suites.append((name, *speeds, with_spread(figures["jaxdrl_over_own"], ".2f")))
    trained, cost = result["training"], result["reset_cost"]
    speeds = [with_spread(trained["trainers"][name]["speed"]) for name in ("jaxdrl", "textbook")]
    return [
        make_table("environment steps/s, random actions", columns, rows),
        *([make_table("suites, environment steps/s", SUITE_COLUMNS, suites)] if suites else []),
        f"Training Costly: {speeds[0]} steps/s by jaxdrl, {speeds[1]} by the textbook, which "
        f"resets all at every step: {with_spread(trained['ratios']['textbook'], '.2f')} times "
        "as fast.",
        f"A reset of all copies of Costly takes {cost['ratio']:.0f} times as long as a step.",
    ]
