"""Bits, and the seconds until a task is solved."""

import time
from functools import partial
from typing import Any

import jax
from benchmarks.cases import CASES
from benchmarks.tasks import make_env, ppo_config

import jaxdrl
from jaxdrl.algorithms.build import build
from jaxdrl.runs.metrics_log import sha256
from on_gpu.common import Sizes

TARGETS = {"CartPole-v1": 500.0, "Breakout-MinAtar": 40.0}
"""Mean return of greedy episodes at which a task is solved."""

BETWEEN = {"CartPole-v1": 0.02, "Breakout-MinAtar": 0.05}
"""Share of the preset's length between two evaluations."""


def same_bits(sizes: Sizes) -> dict[str, Any]:
    """Whether two runs of the same seed end with the same bits, in both modes."""
    case = sizes.of(CASES["cartpole-2048"])
    found = {}
    for name, reproducible in {"fast": False, "reproducible": True}.items():
        config = jaxdrl.with_settings(ppo_config(case), reproducible=reproducible)
        agent = jaxdrl.ppo(make_env(case), config)
        init, digests = jax.jit(agent.init), []
        for _ in range(2):
            state = jaxdrl.train(agent, init(jax.random.key(1)), num_updates=5)
            digests.append(sha256(state))
        found[name] = {"equal": digests[0] == digests[1], "state_sha256": digests[0]}
    return found


def seconds_to_solve(sizes: Sizes) -> dict[str, Any]:
    """Each task with its preset, trained until a greedy evaluation reaches the target.

    The clock stands still while a policy is evaluated.
    """
    return {env: _solve(env, target, sizes) for env, target in sizes.some(TARGETS.items())}


def _solve(env_name: str, target: float, sizes: Sizes) -> dict[str, Any]:
    experiment = jaxdrl.make_experiment(env_name)
    config = experiment.algorithm
    num_updates = experiment.total_env_steps // config.env_steps_per_update
    chunk = max(1, round(BETWEEN[env_name] * num_updates))
    env = jaxdrl.make(env_name)
    agent = build(env, config)
    started = time.perf_counter()
    state = jax.jit(agent.init)(jax.random.key(0))
    step = jaxdrl.jit_step(agent).lower(state).compile()
    compile_seconds = time.perf_counter() - started
    evaluate = partial(jaxdrl.evaluate, env, agent.policy, num_episodes=256)
    train_seconds, done, score = 0.0, 0, float("-inf")
    while done < (chunk if sizes.is_tiny else num_updates) and score < target:
        started = time.perf_counter()
        for _ in range(chunk):
            state, metrics = step(state)
            jax.block_until_ready(metrics)
        jax.block_until_ready(state)
        train_seconds += time.perf_counter() - started
        done += chunk
        score = evaluate(state.learner, jax.random.key(done)).mean_return
    return {
        "target": target,
        "mean_return": score,
        "is_solved": score >= target,
        "env_steps": done * config.env_steps_per_update,
        "train_seconds": train_seconds,
        "compile_seconds": compile_seconds,
    }
