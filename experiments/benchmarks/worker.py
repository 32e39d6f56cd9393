"""A process that trains by jaxdrl or by the textbook: `python -m benchmarks.worker JOB`."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax

import jaxdrl
from benchmarks import serving
from benchmarks.cases import Case, Job, from_json
from benchmarks.hlo import count_collectives
from benchmarks.tasks import config_of, layers, make_env, make_task, ppo_config
from benchmarks.textbook import make
from jaxdrl.algorithms.build import build


def num_bytes(tree: Any) -> int:
    """Bytes of the arrays of a tree, which may be abstract."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def needed_bytes(case: Case, agent: jaxdrl.Algorithm, state: Any) -> dict[str, int]:
    """Bytes of the state, of one rollout, and of one minibatch's activations.

    The activations are its observations and the outputs of every layer, in float32.
    """
    sizes = layers(case, make_env(case))
    units = sizes[0][0] + sum(outputs for _, outputs in sizes)
    return {
        "state": num_bytes(state),
        "rollout": num_bytes(jax.eval_shape(agent.rollout, state.learner, state.actor)[1]),
        "activations": 4 * units * case.minibatch_size,
    }


def compiled_bytes(compiled: Any) -> int | None:
    """Bytes that a call takes by the compiler's count, its arguments and results included."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    sizes = (analysis.argument_size_in_bytes, analysis.output_size_in_bytes)
    return sum(sizes) + analysis.temp_size_in_bytes - analysis.alias_size_in_bytes


def population_trainer(job: Job) -> tuple[Callable[[], Any], dict[str, Any]]:
    """The same for many members, each with the work of the case."""
    along = math.gcd(job.devices, job.members)
    mesh = jaxdrl.make_mesh(job.devices, population=along) if job.devices > 1 else None
    env, config = make_env(job.case), ppo_config(job.case)

    def of_member(hyperparams: Any) -> jaxdrl.Algorithm:
        return jaxdrl.ppo(env, replace(config, **hyperparams), mesh=mesh)

    agent = jaxdrl.population(of_member, mesh=mesh)
    rates = {"learning_rate": jax.numpy.full(job.members, config.learning_rate)}
    state = jax.jit(agent.init)(jax.random.key(0), rates)
    started = time.perf_counter()
    step = jaxdrl.jit_step(agent).lower(state).compile()
    return repeat(step, state, job.updates), serving.facts(time.perf_counter() - started)


def jaxdrl_trainer(job: Job) -> tuple[Callable[[], Any], dict[str, Any]]:
    """`(run, what to say when ready)`."""
    if job.members:
        return population_trainer(job)
    mesh = jaxdrl.make_mesh(job.devices) if job.devices > 1 else None
    config = jaxdrl.with_settings(
        config_of(job.case, job.num_shards), reproducible=job.reproducible
    )
    agent = build(make_env(job.case), config, mesh=mesh)
    state = jax.jit(agent.init)(jax.random.key(0))
    started = time.perf_counter()
    if job.trainer == "looped":
        step = jax.jit(partial(looped, agent, job.updates), donate_argnums=0).lower(state).compile()
        return repeat(step, state, 1), serving.facts(time.perf_counter() - started)
    step = jaxdrl.jit_step(agent).lower(state).compile()
    ready = serving.facts(time.perf_counter() - started)
    if job.case.algorithm != "ppo":  # whose buffer has to be filled before it learns
        return repeat(step, state, job.updates, warm_up=job.updates), ready
    collectives = count_collectives(step.as_text())
    ready["collectives"] = vars(collectives)
    ready["needed_bytes"] = needed_bytes(job.case, agent, state)
    ready["compiled_bytes"] = compiled_bytes(step)
    return repeat(step, state, job.updates), ready


def looped(agent: jaxdrl.Algorithm, updates: int, state: Any) -> tuple[Any, Any]:
    """Updates in one program, as the peers do them; what they give is that of the last."""

    def update(carry: tuple, _: None) -> tuple[tuple, None]:
        return agent.train_step(carry[0]), None

    shapes = jax.eval_shape(agent.train_step, state)[1]
    metrics = jax.tree.map(lambda x: jax.numpy.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(update, (state, metrics), length=updates)[0]


def textbook_trainer(job: Job) -> tuple[Callable[[], Any], dict[str, Any]]:
    """`(run, what to say when ready)`."""
    init, update = make(make_task(job.case), job.case)
    state = jax.jit(init)(jax.random.key(0))
    started = time.perf_counter()
    step = jax.jit(update, donate_argnums=0).lower(state).compile()
    return repeat(step, state, job.updates), serving.facts(time.perf_counter() - started)


def repeat(
    step: Callable[[Any], tuple[Any, Any]], state: Any, updates: int, warm_up: int = 1
) -> Callable[[], Any]:
    """A run of so many updates, after some to warm up, that goes on from the last.

    Never more than two are on their way, as in jaxdrl's own loop: with more than about 32 of them,
    simulated devices have waited for each other for ever (jaxlib 0.10.2).
    """
    last = [step(state)]
    jax.block_until_ready(last)

    def run(updates: int = updates) -> Any:
        for _ in range(updates):
            state, metrics = last.pop()
            last.append(step(state))
            jax.block_until_ready(metrics)
        return last

    run(warm_up - 1)
    return run


def main() -> None:
    """Does the job of the command line."""
    channel, job = serving.open_channel(), from_json(sys.argv[1])
    jax.config.update("jax_num_cpu_devices", job.devices)
    trainer = textbook_trainer if job.trainer == "textbook" else jaxdrl_trainer
    run, ready = trainer(job)
    serving.serve(channel, run, job.updates * job.env_steps, ready)


if __name__ == "__main__":
    main()
