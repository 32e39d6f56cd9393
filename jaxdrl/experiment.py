"""An experiment: a config literal that becomes a run directory.

Importing this module imports neither jax nor gymnax, so that `--help` and a mistyped flag answer
at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxdrl.config import (
    ConfigError,
    PPOConfig,
    require,
    require_count,
    require_divisor,
    require_number,
)

if TYPE_CHECKING:
    import optax
    from flax import linen as nn
    from jax.sharding import Mesh
    from rich.console import Console

    from jaxdrl.envs import Environment
    from jaxdrl.evaluation import Evaluation
    from jaxdrl.metrics import MetricsLog
    from jaxdrl.types import Algorithm, Network, TrainState

TRAIN_STREAM, EVALUATION_STREAM = 0, 1
"""Folded into the key of the seed, so that evaluations never share numbers with training."""

FORMAT_VERSION = 1
"""Version of the files in a run directory."""


@dataclass(frozen=True)
class Experiment:
    """One training run: what is trained, for how long, on what, and where the results go.

    Raises:
      ConfigError: in the constructor, naming the field, its value and what works.
    """

    env: str
    """Name of the environment, such as CartPole-v1."""
    env_params: dict[str, float] = field(default_factory=dict)
    """Parameters of the environment other than its defaults: NAME VALUE [NAME VALUE ...]."""
    seed: int = 0
    """Seed of everything random in the run."""
    total_env_steps: int = 500_000
    """Environment steps over all environments; rounded up to whole updates."""
    devices: int | None = None
    """Devices, simulated on a CPU; None: as many as there are and as divide ppo.num_shards."""
    run_dir: Path | None = None
    """Directory of the results; None takes a new one under runs/."""
    anneal_learning_rate: bool = False
    """Fill ppo.anneal_env_steps, where it is None, with the length of the run."""
    evaluate_every: int | None = None
    """Updates between evaluations; None evaluates at the end only."""
    num_eval_episodes: int = 256
    """Episodes of an evaluation."""
    log_every: int = 1
    """Updates between the lines of metrics.jsonl."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """Settings of the algorithm."""

    def __post_init__(self) -> None:
        for name in ("total_env_steps", "num_eval_episodes", "log_every"):
            require_count(name, getattr(self, name))
        for name in ("devices", "evaluate_every"):
            if getattr(self, name) is not None:
                require_count(name, getattr(self, name))
        for name, value in self.env_params.items():
            require_number(f"env_params.{name}", value, low=-math.inf)
        is_integer = isinstance(self.seed, int) and not isinstance(self.seed, bool)
        works = "must be an integer from 0 to 2**32 - 1"
        require(is_integer and 0 <= self.seed < 2**32, "seed", self.seed, works)
        if self.devices is not None:
            require_divisor("devices", self.devices, self.ppo.num_shards)

    @property
    def num_updates(self) -> int:
        """Updates that `total_env_steps` need, rounded up."""
        return -(-self.total_env_steps // self.ppo.env_steps_per_update)


@dataclass(frozen=True)
class Run:
    """What `jaxdrl.run` gives back, for a notebook.

    Attributes:
      run_dir: where the files are.
      env: the environment.
      algorithm: the trained algorithm.
      state: its last state.
      evaluation: the last evaluation.
      result: content of `result.json`.
    """

    run_dir: Path
    env: Environment
    algorithm: Algorithm
    state: TrainState
    evaluation: Evaluation
    result: dict[str, Any]


def run(
    experiment: Experiment,
    *,
    env: Environment | None = None,
    network: nn.Module | Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
) -> Run:
    """Trains, evaluates, and writes `config.json`, `metrics.jsonl` and `result.json`.

    Args:
      experiment: what to do.
      env: an environment of your own in place of the one that `experiment.env` names.
      network: as in `jaxdrl.ppo`.
      optimizer: as in `jaxdrl.ppo`.

    Raises:
      ConfigError: for input that cannot work, before anything is compiled or written.
    """
    from rich.console import Console

    from jaxdrl import metrics
    from jaxdrl.algorithms.ppo import ppo
    from jaxdrl.envs import make

    console = Console(highlight=False)
    run_dir = Path(experiment.run_dir or default_run_dir(experiment))
    experiment = dataclasses.replace(resolve(experiment), run_dir=run_dir)
    metrics.require_free(run_dir)
    mesh = _make_mesh(experiment, console)  # before gymnax is imported, which starts the backend
    if env is None:
        console.print(f"loading {experiment.env}")
        env = make(experiment.env, **experiment.env_params)
    algorithm = ppo(env, experiment.ppo, network=network, optimizer=optimizer, mesh=mesh)
    metrics.make_run_dir(run_dir)
    metrics.write_json(run_dir / metrics.CONFIG_FILE, _describe(experiment, env, mesh))
    state, step, compile_seconds = _compile(experiment, algorithm, console)
    log = metrics.MetricsLog(
        run_dir / metrics.METRICS_FILE,
        env_steps_per_update=experiment.ppo.env_steps_per_update,
        log_every=experiment.log_every,
    )
    state, evaluation, train_seconds = _train(experiment, env, algorithm, state, step, log, console)
    result = _summarise(experiment, env, mesh, state, evaluation, compile_seconds, train_seconds)
    metrics.write_json(run_dir / metrics.RESULT_FILE, result)
    _report(console, run_dir, result)
    return Run(run_dir, env, algorithm, state, evaluation, result)


def resolve(experiment: Experiment) -> Experiment:
    """The experiment with everything filled in that follows from its other fields."""
    ppo = experiment.ppo
    if experiment.anneal_learning_rate and ppo.anneal_env_steps is None:
        ppo = dataclasses.replace(ppo, anneal_env_steps=float(experiment.total_env_steps))
    return dataclasses.replace(experiment, ppo=ppo)


def default_run_dir(experiment: Experiment) -> Path:
    """`runs/ENV-seedS-TIME`, which no other run has."""
    stem = f"{experiment.env.replace('/', '-')}-seed{experiment.seed}"
    first = path = Path("runs") / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    suffix = 2
    while path.exists():
        path = first.with_name(f"{first.name}-{suffix}")
        suffix += 1
    return path


def _make_mesh(experiment: Experiment, console: Console) -> Mesh:
    """The devices that the experiment asks for, or as many as divide the shards."""
    import jax

    from jaxdrl.sharding import make_mesh

    num_shards = experiment.ppo.num_shards
    if experiment.devices is not None:
        # Only the CPU backend heeds this, and only before the first use of JAX.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", experiment.devices)
    try:
        available = len(jax.devices())
    except RuntimeError as error:
        raise ConfigError(
            f"JAX found no device: {error}. For an NVIDIA GPU: pip install 'jaxdrl[cuda12]'; "
            "for a TPU: pip install 'jaxdrl[tpu]'; JAX_PLATFORMS=cpu takes the CPU"
        ) from error
    num_devices = experiment.devices
    if num_devices is None:
        num_devices = max(d for d in range(1, available + 1) if num_shards % d == 0)
    mesh = make_mesh(num_devices)
    left = experiment.devices is None and num_devices < available
    of_all = f" of {available}, the most that divide ppo.num_shards = {num_shards}" if left else ""
    console.print(f"devices: {num_devices}{of_all} ({mesh.devices.flat[0].device_kind})")
    return mesh


def _compile(
    experiment: Experiment, algorithm: Algorithm, console: Console
) -> tuple[TrainState, Any, float]:
    """`(state, compiled step, seconds)`: nothing is compiled after this but the evaluation."""
    import jax

    from jaxdrl.training import compile

    started = time.perf_counter()
    with console.status("compiling"):
        key = jax.random.fold_in(jax.random.key(experiment.seed), TRAIN_STREAM)
        state = jax.jit(algorithm.init)(key)
        step = compile(algorithm).lower(state).compile()
    seconds = time.perf_counter() - started
    console.print(f"compiled in {seconds:.1f} s")
    return state, step, seconds


def _train(
    experiment: Experiment,
    env: Environment,
    algorithm: Algorithm,
    state: TrainState,
    step: Any,
    log: MetricsLog,
    console: Console,
) -> tuple[TrainState, Evaluation, float]:
    """`(state, last evaluation, seconds)`, evaluating on the way; evaluation time is left out."""
    import jax

    from jaxdrl.evaluation import evaluate
    from jaxdrl.progress import ProgressReport
    from jaxdrl.training import run_updates

    num_updates = experiment.num_updates
    interval = experiment.evaluate_every or num_updates
    seconds = 0.0
    total_env_steps = num_updates * experiment.ppo.env_steps_per_update
    with ProgressReport(console, total_env_steps) as progress:
        for done in range(0, num_updates, interval):
            until = min(done + interval, num_updates)
            log.restart_clock()
            started = time.perf_counter()
            hooks = [log.add, lambda *_: progress.show(log.latest) if log.latest else None]
            state = run_updates(step, state, num_updates=until - done, on_update=hooks)
            seconds += time.perf_counter() - started
            key = jax.random.fold_in(jax.random.key(experiment.seed), EVALUATION_STREAM)
            evaluation = evaluate(
                env,
                algorithm.policy,
                state.learner,
                jax.random.fold_in(key, until),
                num_episodes=experiment.num_eval_episodes,
            )
            log.annotate({f"evaluation_{k}": v for k, v in _figures(evaluation).items()})
            log.flush()
            if until % experiment.log_every and log.latest:
                progress.show(log.latest)
    return state, evaluation, seconds


def _describe(experiment: Experiment, env: Environment, mesh: Mesh) -> dict[str, Any]:
    """Content of `config.json`: everything that decides the run, resolved."""
    import platform
    from importlib.metadata import version

    import numpy as np

    import jaxdrl

    packages = ("jax", "jaxlib", "flax", "optax", "chex", "gymnax", "numpy")
    device = mesh.devices.flat[0]
    params = env.default_params
    env_params = {
        name: np.asarray(value).tolist()
        for name, value in (vars(params) if dataclasses.is_dataclass(params) else {}).items()
    }
    described = dataclasses.asdict(experiment)
    described |= {"env": env.name, "env_params": env_params, "run_dir": str(experiment.run_dir)}
    versions = {"python": platform.python_version(), "jaxdrl": jaxdrl.__version__}
    return {
        "format_version": FORMAT_VERSION,
        "experiment": described,
        "versions": versions | {package: version(package) for package in packages},
        "devices": {
            "num": mesh.devices.size,
            "platform": device.platform,
            "kind": device.device_kind,
        },
    }


def _summarise(
    experiment: Experiment,
    env: Environment,
    mesh: Mesh,
    state: TrainState,
    evaluation: Evaluation,
    compile_seconds: float,
    train_seconds: float,
) -> dict[str, Any]:
    """Content of `result.json`."""
    from jaxdrl.metrics import sha256

    env_steps = experiment.num_updates * experiment.ppo.env_steps_per_update
    return {
        "env": env.name,
        "seed": experiment.seed,
        "devices": int(mesh.devices.size),
        "env_steps": env_steps,
        "updates": experiment.num_updates,
        "compile_seconds": compile_seconds,
        "train_seconds": train_seconds,
        "steps_per_second": env_steps / train_seconds,
        "params_sha256": sha256(state.learner.params),
        "state_sha256": sha256(state),
        "evaluation": _figures(evaluation),
    }


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    names = ("num_episodes", "mean_return", "ci95_low", "ci95_high", "mean_length", "num_cut")
    return {name: getattr(evaluation, name) for name in names}


def _report(console: Console, run_dir: Path, result: dict[str, Any]) -> None:
    figures = result["evaluation"]
    console.print(
        f"trained {result['env_steps']:,} steps in {result['train_seconds']:.1f} s "
        f"({result['steps_per_second']:,.0f} steps/s)\n"
        f"{result['env']}: greedy mean return [bold]{figures['mean_return']:.1f}[/bold] "
        f"(95% interval {figures['ci95_low']:.1f} to {figures['ci95_high']:.1f}) "
        f"over {figures['num_episodes']} episodes\n"
        f"results: {run_dir}",
        soft_wrap=True,
    )
