"""A process with a whole run of jaxdrl, or with one of its actors: `python -m benchmarks.runner`.

A run is that of `jaxdrl.run`, with its files, as its user has it. It rests in `on_update` while
others are measured.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import jax

import jaxdrl
from benchmarks import serving
from benchmarks.cases import Job, from_json
from benchmarks.tasks import make_env, ppo_config
from jaxdrl.actors.host_rollout import host_collector
from jaxdrl.algorithms.acting import acting_part

WARM_UP = 4
"""Updates at the beginning of each measurement that do not count: while the run rested, actors have
collected what they could."""

LENGTH = 10**12
"""Environment steps of a run, which ends with its process."""


class Turns:
    """An `on_update` that measures so many updates whenever it is asked to, and else waits."""

    def __init__(self, channel: TextIO, job: Job) -> None:
        self.channel, self.job = channel, job
        self.begun = time.perf_counter()
        self.left = 1  # updates until the next answer
        self.started: serving.Clocks | None = None
        self.sums: dict[str, float] = {}

    def __call__(self, update: int, metrics: dict[str, Any]) -> None:
        """Raises: SystemExit: where nothing more is wanted."""
        self.left -= 1
        if self.started is not None:
            self._add(metrics)
        if self.left == self.job.updates:
            self.started = serving.Clocks.now()
        if self.left > 0:
            return
        serving.say(self.channel, self._answer())
        if not serving.wait_for_run():
            sys.exit()
        self.left, self.started, self.sums = WARM_UP + self.job.updates, None, {}

    def _add(self, metrics: dict[str, Any]) -> None:
        """Adds the seconds and shares of an update."""
        for name, value in metrics.items():
            if name.startswith("seconds_") or name.endswith("_idle_share"):
                self.sums[name] = self.sums.get(name, 0.0) + float(value) / self.job.updates

    def _answer(self) -> dict[str, Any]:
        if self.started is None:
            return serving.facts(time.perf_counter() - self.begun)
        measured = {"env_steps": self.job.updates * self.job.env_steps, "means": self.sums}
        return self.started.passed() | measured


def experiment_of(job: Job) -> jaxdrl.Experiment:
    """The run of a job."""
    experiment = jaxdrl.Experiment(
        env=job.case.env,
        devices=job.learner_devices,
        total_env_steps=LENGTH,
        run_dir=Path(job.directory),
        checkpoint_minutes=None,
        num_eval_episodes=1,
        algorithm=ppo_config(job.case),
    )
    return jaxdrl.with_settings(
        experiment, staleness=job.staleness, actor_devices=job.actor_devices
    )


def actor(job: Job) -> tuple[Callable[[], Any], dict[str, Any]]:
    """`(run, what to say when ready)`: acts, and learns nothing."""
    env = make_env(job.case)
    agent = jaxdrl.ppo(env, ppo_config(job.case))
    state = jax.jit(agent.init)(jax.random.key(0))
    assert agent.acting is not None
    collector = host_collector(env, agent.acting, jax.devices()[0], job.case.num_envs)
    policy = acting_part(state.learner)
    started = time.perf_counter()
    collector.begin(state.actor)

    def run(updates: int = job.updates) -> None:
        for _ in range(updates):
            collector.collect(policy, lambda: None)

    run(2)
    return run, serving.facts(time.perf_counter() - started)


def main() -> None:
    """Does the job of the command line."""
    channel, job = serving.open_channel(), from_json(sys.argv[1])
    if job.trainer == "run":
        jaxdrl.run(experiment_of(job), quiet=True, on_update=Turns(channel, job))
    else:
        run, ready = actor(job)
        serving.serve(channel, run, job.updates * job.env_steps, ready)


if __name__ == "__main__":
    main()
