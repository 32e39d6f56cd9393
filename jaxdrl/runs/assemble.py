"""From a config to an environment, devices and an algorithm; and back from a run directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxdrl.algorithms.build import build
from jaxdrl.algorithms.contract import check_algorithm
from jaxdrl.checks import require, require_count, require_divisor
from jaxdrl.config.experiment import Experiment, anneals_over, idle_from, resolve, unresolve
from jaxdrl.core.keys import abstract_key, make_key
from jaxdrl.core.types import Algorithm, TrainState
from jaxdrl.distributed.sharding import place
from jaxdrl.envs import Environment, make
from jaxdrl.envs.domain_randomization import parse_ranges, randomize
from jaxdrl.errors import ConfigError
from jaxdrl.evaluation.episodes import Evaluation, evaluate
from jaxdrl.io.advice import python_call
from jaxdrl.populations import sweep_algorithm
from jaxdrl.populations.state import learners
from jaxdrl.runs import checkpoint_manager, env_params, finite_states
from jaxdrl.runs.checkpoint_binding import require_of_run
from jaxdrl.runs.nested import whole_of
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.run_dir import CHECKPOINTS, RESULT_FILE, Origin, StoredRun, read_run

NEW = Origin("")
"""Of what is no run yet."""

TRAIN_STREAM = 0
"""Folded into the key of the seed; evaluations have a stream of their own."""


@dataclass(frozen=True)
class Setup:
    """Everything that a run is made of but its state; `env` is what it is evaluated in."""

    experiment: Experiment
    env: Environment
    algorithm: Algorithm
    mesh: Mesh | None
    overrides: Overrides
    origin: Origin = NEW

    def on_one_device(self) -> Algorithm:
        """The same algorithm without a mesh."""
        return _make_agent(self.env, self.experiment, self.overrides, None)

    def evaluate(self, state: TrainState, key: jax.Array) -> Evaluation:
        """Plays the episodes of an evaluation of a run."""
        experiment, learner = self.experiment, state.learner
        num_episodes, greedy = experiment.num_eval_episodes, experiment.greedy_evaluation
        play = evaluate if experiment.sweep is None else sweep_algorithm.evaluate_members
        if experiment.sweep is not None:
            learner = learners(state)  # type: ignore[arg-type]
        arguments = self.env, self.algorithm.policy, learner, key
        return play(*arguments, num_episodes=num_episodes, deterministic=greedy)


def read_stored(run_dir: Path, overrides: Overrides, verb: str) -> StoredRun:
    """Reads `config.json`, and refuses where an object that the run was given is missing now."""
    stored = read_run(run_dir, overrides.config_type)
    missing = [name for name in stored.overrides if name not in overrides.names]
    if missing:
        raise ConfigError(
            f"run_dir = {str(run_dir)!r}: was made with {' and '.join(stored.overrides)} of your "
            "own, which no file holds; give the same again, in Python: "
            f"{python_call(verb, run_dir, stored.overrides)}"
        )
    return stored


def assemble(
    experiment: Experiment, overrides: Overrides, mesh: Mesh | None, stored: StoredRun | None = None
) -> Setup:
    """Makes environment and algorithm; those of a stored run with the parameters it had.

    The same ones as a short while before where all that decides them is the same, so that nothing
    that was compiled for them is compiled again.

    Raises:
      ConfigError: if they are not to be had, or an environment that is given has other parameters.
    """
    params = None if stored is None else stored.env_params
    if overrides.env is not None and params is not None:
        env_params.require_same(overrides.env.default_params, params)

    def make_both() -> tuple[Environment, Algorithm]:
        env = overrides.env
        if env is None:
            env = make(experiment.env, **experiment.env_params)
            if params is not None:
                known = env_params.restored(env.default_params, params)
                env = env._replace(default_params=known)
        return env, _make_agent(env, experiment, overrides, mesh)

    names = experiment.env, experiment.env_params, experiment.randomize, params
    text = json.dumps(
        [*names, sweep_algorithm.agent_settings(experiment)], sort_keys=True, default=repr
    )
    objects = tuple(map(id, vars(overrides).values()))
    env, agent = _made(_Recipe((text, experiment.algorithm, objects, mesh), make_both))
    if experiment.sweep is not None:
        agent = sweep_algorithm.of_experiment(agent, experiment)
    return Setup(experiment, env, agent, mesh, overrides, stored.origin if stored else NEW)


@dataclass(frozen=True)
class _Recipe:
    """How to make an environment and an agent; equal where the same would come of it.

    Attributes:
      key: everything that decides them, with the ids of objects that are not compared.
      make: does it, and keeps these objects, and so their ids, as long as it is kept itself.
    """

    key: tuple[Any, ...]
    make: Callable[[], tuple[Environment, Algorithm]] = field(compare=False)


@lru_cache(maxsize=8)
def _made(recipe: _Recipe) -> tuple[Environment, Algorithm]:
    return recipe.make()


def _make_agent(
    env: Environment, experiment: Experiment, overrides: Overrides, mesh: Mesh | None
) -> Algorithm:
    env = _to_train_in(env, experiment)
    parts: dict[str, Any] = {
        name: getattr(overrides, name) for name in ("network", "optimizer", "make_algorithm")
    }
    if overrides.make_algorithm is not None:
        check_algorithm(build(env, experiment.algorithm, mesh=mesh, **parts))
    if experiment.sweep is None:
        return build(env, experiment.algorithm, mesh=mesh, **parts)
    return sweep_algorithm.make_population(env, experiment, mesh, **parts)


def _to_train_in(env: Environment, experiment: Experiment) -> Environment:
    """`env`, with the parameters that are to be drawn for each episode."""
    ranges = parse_ranges(experiment.randomize)
    return randomize(env, ranges) if ranges else env


def abstract_state(setup: Setup) -> TrainState:
    """Shapes and dtypes of the state."""
    return jax.eval_shape(setup.algorithm.init, abstract_key())


def init_state(setup: Setup, learnt: dict[str, Any] | None = None) -> TrainState:
    """The state that a run starts with, or that with what another run learnt."""
    key = jax.random.fold_in(make_key(setup.experiment.seed), TRAIN_STREAM)
    state = jax.jit(setup.algorithm.init)(key)
    if learnt is None:
        return state
    return put(setup, replace(state, learner=replace(state.learner, **learnt)))


def put(setup: Setup, state: Any) -> Any:
    """A copy of a state on the devices of the run."""
    return place(state, setup.mesh, setup.algorithm.state_specs)


def load_state(
    setup: Setup, path: Path, stored: StoredRun, member: int | None = None
) -> TrainState:
    """The state in a verified checkpoint, in the host's memory; refused where it is not finite."""
    abstract = abstract_state(setup)
    env = setup.env
    what = f"{env.name} ({spaces_of(env)}); the run was made on {stored.spaces}"
    return finite_states.load(path, abstract, what, member)


def spaces_of(env: Environment) -> str:
    """The spaces of an environment in words."""
    return f"observations {env.observation_space}, actions {env.action_space}"


def load_learnt(setup: Setup, run_dir: Path, warn: Callable[[str], Any]) -> dict[str, Any]:
    """Parameters and statistics in the last checkpoint of another run.

    Raises:
      ConfigError: if it is no run, or a sweep, or was trained on other spaces, another network or
        another normalisation.
    """
    stored = read_run(run_dir, setup.overrides.config_type)
    works = f"name a run of one agent, such as that of `jaxdrl train --config {whole_of(run_dir)}"
    works = f"is a sweep, each member of which has parameters of its own; {works}/best.json`"
    require(stored.experiment.sweep is None, "from", str(run_dir), works)
    check = partial(require_of_run, stored.content)
    path, _ = checkpoint_manager.choose(run_dir / CHECKPOINTS, None, warn, check)
    learner = abstract_state(setup).learner
    names = ("params", "obs_statistics", "return_statistics")
    abstract = {"learner": {name: getattr(learner, name) for name in names}}
    what = f"{setup.env.name} with this config; --from wants the same spaces and network"
    return finite_states.load(path, abstract, what)["learner"]


def extend(
    experiment: Experiment,
    devices: int | None,
    total_env_steps: int | None,
    done: int,
    keep_schedule: bool = False,
) -> Experiment:
    """The experiment with what `resume` changes after `done` updates.

    A learning rate that is annealed over the length of the run is so over the new one, unless
    `keep_schedule`.

    Raises:
      ConfigError: if the run is at its end already, or for a value that does not fit.
    """
    if devices is not None:
        require_count("devices", devices)
        require_divisor("devices", devices, experiment.algorithm.execution.num_shards)
        experiment = replace(experiment, devices=devices)
    if total_env_steps is not None:
        open_ended = experiment if keep_schedule else unresolve(experiment)
        experiment = resolve(replace(open_ended, total_env_steps=total_env_steps))
    is_finished = (experiment.run_dir / RESULT_FILE).exists()  # type: ignore[operator]
    steps = done * experiment.algorithm.env_steps_per_update
    if done > experiment.num_updates or (done == experiment.num_updates and is_finished):
        field = f"total_env_steps = {experiment.total_env_steps}"
        works = f"--total-env-steps M with M above {steps} goes further"
        raise ConfigError(f"run_dir = {str(experiment.run_dir)!r}: {field} is done; {works}")
    return experiment


def schedule_words(before: Experiment, after: Experiment, overrides: Overrides) -> str | None:
    """What `resume` does to the learning rate, where that is not just to go on with it."""
    was, over = anneals_over(before), anneals_over(after)
    if overrides.optimizer is not None or over is None:
        return None  # it has its own
    if was is not None and over != was:
        return (
            f"learning rate: annealed over {over:,.0f} steps, the new length, and no longer over "
            f"{was:,.0f}; --keep-schedule (keep_schedule=True) keeps that"
        )
    return idle_words(after, overrides)


def idle_words(experiment: Experiment, overrides: Overrides) -> str | None:
    """That a part of the run will teach nothing, where its learning rate is 0 before its end."""
    idle = idle_from(experiment)
    if overrides.optimizer is not None or idle is None:
        return None
    return (
        f"learning rate: 0 from step {idle:,.0f} (anneal_env_steps) to the end at "
        f"{experiment.total_env_steps:,}, so that nothing is learnt there"
    )
