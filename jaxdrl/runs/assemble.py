"""From a config, new or read back from a run directory, to an environment and an algorithm."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxdrl.algorithms.build import build
from jaxdrl.algorithms.contract import check_algorithm
from jaxdrl.algorithms.opponents import refilled
from jaxdrl.config.acting import ActingConfig
from jaxdrl.config.experiment import Experiment
from jaxdrl.core.keys import abstract_key, make_key
from jaxdrl.core.types import Algorithm, LearnerState, TrainState
from jaxdrl.distributed.layout import place
from jaxdrl.distributed.mesh import spans_processes
from jaxdrl.distributed.spread import fetch_tree
from jaxdrl.envs import Environment, make
from jaxdrl.envs.domain_randomization import parse_ranges, randomize
from jaxdrl.envs.host.protocol import before_each_step
from jaxdrl.errors import ConfigError
from jaxdrl.evaluation.episodes import Evaluation, evaluate
from jaxdrl.io.advice import python_call
from jaxdrl.populations import sweep_algorithm
from jaxdrl.populations.state import learners
from jaxdrl.runs import env_params, finite_states
from jaxdrl.runs.acting import with_actors
from jaxdrl.runs.locking import Claim
from jaxdrl.runs.memory import MemoryBudget
from jaxdrl.runs.overrides import Overrides
from jaxdrl.runs.run_dir import Origin, StoredRun, read_run

NEW = Origin("")
"""Of what is not a run yet."""

TRAIN_STREAM = 0
"""Folded into the key of the seed for the numbers of training."""

EVALUATION_STREAM = 1
"""Folded into the key of the seed, so that evaluations share no numbers with training."""


@dataclass(frozen=True)
class Start:
    """What a run starts from, if not from a freshly initialised state.

    Attributes:
      manifest: of the checkpoint that it resumes from, None for a run that starts.
      state: the state in that checkpoint, in host memory.
      warm_start: parameters and statistics of another run, by name.
    """

    manifest: dict[str, Any] | None = None
    state: TrainState | None = None
    warm_start: dict[str, Any] | None = None

    @property
    def update(self) -> int:
        """Updates that are already done."""
        return 0 if self.manifest is None else self.manifest["update"]

    @property
    def train_seconds(self) -> float:
        """Seconds of training that they took."""
        return 0.0 if self.manifest is None else self.manifest["progress"]["train_seconds"]


@dataclass(frozen=True)
class Setup:
    """Everything that a run is made of: an agent in its environment, and how it is trained.

    `assemble` makes the agent, which is enough to play it; `jaxdrl.runs.plan` adds what a run
    trains with, and what it makes is final.

    Attributes:
      experiment: with every field filled in.
      env: the environment that the agent is evaluated in.
      algorithm: of the agent.
      mesh: the devices.
      overrides: what was given in Python in place of what `experiment` describes.
      origin: which run it is.
      start: what it begins with.
      memory: what it needs on each device.
      claim: by which this process is the only writer of the run directory.
      actor_devices: on which actors compute actions; empty where there are no actors.
    """

    experiment: Experiment
    env: Environment
    algorithm: Algorithm
    mesh: Mesh | None
    overrides: Overrides
    origin: Origin = NEW
    start: Start = Start()
    memory: MemoryBudget | None = None
    claim: Claim | None = None
    actor_devices: tuple[jax.Device, ...] = ()

    @property
    def run_dir(self) -> Path:
        """The directory of the run, which a planned one has."""
        assert self.experiment.run_dir is not None
        return self.experiment.run_dir

    def on_one_device(self) -> Algorithm:
        """The same algorithm without a mesh."""
        return _make_agent(self.env, self.experiment, self.overrides, None)

    @cached_property
    def without_actors(self) -> Algorithm:
        """The same algorithm without a mesh, whose rollout acts in one program."""
        plain = replace(self.experiment, acting=ActingConfig())
        return _make_agent(self.env, plain, self.overrides, None)

    def evaluate(
        self, state: TrainState, key: jax.Array, alive: Callable[[], None] | None = None
    ) -> Evaluation:
        """Plays the episodes of an evaluation of the run.

        Args:
          state: of the run.
          key: consumed.
          alive: is called before each step of environments of the host, and may raise.
        """
        experiment, learner = self.experiment, state.learner
        num_episodes, greedy = experiment.num_eval_episodes, experiment.greedy_evaluation
        play = evaluate if experiment.sweep is None else sweep_algorithm.evaluate_members
        if experiment.sweep is not None:
            learner = learners(state)  # type: ignore[arg-type]
        if self.mesh is not None and spans_processes(self.mesh):
            learner = fetch_tree(learner)  # each process plays the same episodes by itself
        env = self.env
        if env.host is not None and alive is not None:
            env = before_each_step(env, alive)
        arguments = env, self.algorithm.policy, learner, key
        return play(*arguments, num_episodes=num_episodes, greedy=greedy)


def read_stored(run_dir: Path, overrides: Overrides, verb: str) -> StoredRun:
    """Reads `config.json`; refuses if an object that the run was given is missing now."""
    stored = read_run(run_dir, overrides.config_type)
    missing = [name for name in stored.overrides if name not in overrides.names]
    if missing:
        raise ConfigError(
            f"run_dir = {str(run_dir)!r}: was made with {' and '.join(stored.overrides)} of your "
            "own, which no file holds; pass the same again, in Python: "
            f"{python_call(verb, run_dir, stored.overrides)}"
        )
    return stored


def assemble(
    experiment: Experiment, overrides: Overrides, mesh: Mesh | None, stored: StoredRun | None = None
) -> Setup:
    """Makes environment and algorithm; for a stored run, with the parameters that it had.

    They are the same objects as in an earlier call where everything that decides them is the same,
    so that nothing is compiled again for them.

    Raises:
      ConfigError: if they cannot be made, or an environment that is given has other parameters.
    """
    params = None if stored is None else stored.env_params
    if overrides.env is not None and params is not None:
        env_params.require_same(overrides.env.default_params, params)

    def make_both() -> tuple[Environment, Algorithm]:
        env = overrides.env
        if env is None:
            env = make(experiment.env, **experiment.env_params)
            if env.host is not None and params is not None:
                env_params.require_same(env.default_params, params)
            elif params is not None:
                known = env_params.restored(env.default_params, params)
                env = env._replace(default_params=known)
        return env, _make_agent(env, experiment, overrides, mesh)

    names = experiment.env, experiment.env_params, experiment.randomize, params
    text = json.dumps(
        [*names, sweep_algorithm.agent_settings(experiment), experiment.acting],
        sort_keys=True,
        default=repr,
    )
    objects = tuple(map(id, vars(overrides).values()))
    env, agent = _made(_Recipe((text, experiment.algorithm, objects, mesh), make_both))
    if experiment.sweep is not None:
        agent = sweep_algorithm.of_experiment(agent, experiment, mesh)
    return Setup(experiment, env, agent, mesh, overrides, stored.origin if stored else NEW)


@dataclass(frozen=True)
class _Recipe:
    """How to make an environment and an agent; equal if the result would be the same.

    Attributes:
      key: everything that decides them, with the ids of objects that cannot be compared.
      make: makes them; it keeps these objects, and so their ids, alive.
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
        algorithm = build(env, experiment.algorithm, mesh=mesh, **parts)
        return with_actors(algorithm, experiment, env)
    return sweep_algorithm.make_population(env, experiment, mesh, **parts)


def _to_train_in(env: Environment, experiment: Experiment) -> Environment:
    """`env`, with the parameters that are drawn for each episode of training."""
    ranges = parse_ranges(experiment.randomize)
    return randomize(env, ranges) if ranges else env


def init_state(setup: Setup) -> TrainState:
    """The state that a run starts or resumes from, on its devices."""
    start = setup.start
    if start.state is not None:
        return put(setup, start.state)
    key = jax.random.fold_in(make_key(setup.experiment.seed), TRAIN_STREAM)
    state = jax.jit(setup.algorithm.init)(key)
    if start.warm_start is None:
        return state
    learner = refilled(replace(state.learner, **start.warm_start))
    return put(setup, replace(state, learner=learner))


def evaluation_key(experiment: Experiment, update: int) -> jax.Array:
    """The key of the evaluation after `update`."""
    key = jax.random.fold_in(make_key(experiment.seed), EVALUATION_STREAM)
    return jax.random.fold_in(key, update)


def put(setup: Setup, state: Any) -> Any:
    """A copy of a state on the devices of the run."""
    return place(state, setup.mesh, setup.algorithm.state_specs)


def load_state(
    setup: Setup, path: Path, stored: StoredRun, member: int | None = None
) -> TrainState:
    """The state in a verified checkpoint, in host memory; refused if it is not finite."""
    abstract = jax.eval_shape(setup.algorithm.init, abstract_key())
    return finite_states.load(path, abstract, _origin(setup, stored), member)


def load_learner(
    setup: Setup, path: Path, stored: StoredRun, member: int | None = None
) -> LearnerState:
    """`load_state` of the learner alone; for a population that of a member, as it would be alone.

    Nothing else is read, and so no replay buffer.
    """
    abstract, names = jax.eval_shape(setup.algorithm.init, abstract_key()), ["learner"]
    names += [] if member is None else ["hyperparams"]
    fields = {name: getattr(abstract, name) for name in names}
    complete = tuple(f"{name}/" for name in names)
    found = finite_states.load(path, fields, _origin(setup, stored), member, complete)
    if member is None:
        return found["learner"]
    every = replace(found["learner"], hyperparams=found["hyperparams"])
    return jax.tree.map(lambda x: x[member], every)


def _origin(setup: Setup, stored: StoredRun) -> str:
    env = setup.env
    return f"{env.name} ({spaces_of(env)}); the run was made on {stored.spaces}"


def spaces_of(env: Environment) -> str:
    """The spaces of an environment in words."""
    return f"observations {env.observation_space}, actions {env.action_space}"
