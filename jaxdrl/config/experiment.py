"""An experiment: a config literal that `jaxdrl.run` turns into a run directory.

Importing this module imports neither jax nor gymnax, so that `--help` and a mistyped flag answer
at once.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from jaxdrl.annotations import shown
from jaxdrl.checks import (
    Count,
    EpisodeCount,
    Positive,
    Seed,
    check_fields,
    require,
    require_divisor,
)
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.search_space import Sweep
from jaxdrl.config.tracker_names import require_known


@dataclass(frozen=True)
class Experiment:
    """One training run: what is trained, for how long, on what, and where the results go.

    Raises:
      ConfigError: in the constructor, naming the field, its value and what works.
    """

    env: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")]
    """Name of the environment, such as CartPole-v1."""
    env_params: dict[str, float | str] = field(default_factory=dict)
    """Parameters of the environment other than its defaults: NAME VALUE [NAME VALUE ...]."""
    randomize: tuple[str, ...] = ()
    """Parameters of the environment drawn anew for each episode of training: NAME=LOW:HIGH ..."""
    seed: Seed = 0
    """Seed of everything random in the run."""
    total_env_steps: Count = 500_000
    """Environment steps over all environments; rounded up to whole updates."""
    devices: Count | None = None
    """Devices, simulated on a CPU; None: as many as there are and as divide ppo.num_shards."""
    run_dir: Path | None = None
    """Directory of the results; None takes a new one under runs/."""
    anneal_learning_rate: bool = False
    """Fill ppo.anneal_env_steps, where it is None, with the length of the run."""
    evaluate_every: Count | None = None
    """Updates between evaluations; None evaluates at the end only."""
    num_eval_episodes: EpisodeCount = 256
    """Episodes of an evaluation."""
    greedy_evaluation: bool = True
    """Evaluate by the most probable action instead of a sample."""
    log_every: Count = 1
    """Updates between the lines of metrics.jsonl."""
    track: tuple[str, ...] = ()
    """Where the lines go as well, as they come: tensorboard, wandb, mlflow."""
    checkpoint_every: Count | None = None
    """Updates between checkpoints; None: by time alone."""
    checkpoint_minutes: Positive | None = 5.0
    """Minutes between checkpoints; None: by updates alone. There is always one at the end."""
    keep_checkpoints: Count = 3
    """Checkpoints kept, the last ones; the best by evaluation is kept as well."""
    from_run: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Directory of a run whose parameters and statistics this one starts with."""
    max_bad_updates: Count = 5
    """Updates in a row without one finite gradient step after which the run stops."""
    debug_nans: bool = False
    """Stop at the first bad number and find the operation that made it; slower."""
    profile: bool = False
    """Trace a few updates into profile/ of the run directory, and say where their time goes."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """Settings of the algorithm."""
    sweep: Annotated[Sweep | None, tyro.conf.Suppress] = None
    """Members that differ in hyperparameters and seeds; None: one agent."""

    def __post_init__(self) -> None:
        is_name = isinstance(self.env, str) and bool(self.env)
        works = "must be a name, such as 'CartPole-v1'; "
        works += "an environment of your own goes to jaxdrl.run(experiment, env=...)"
        require(is_name, "env", shown(self.env), works)
        check_fields(self)
        require_known(self.track)
        if self.devices is not None:
            require_divisor("devices", self.devices, self.ppo.num_shards)

    @property
    def num_updates(self) -> int:
        """Updates that `total_env_steps` need, rounded up."""
        return -(-self.total_env_steps // self.ppo.env_steps_per_update)


def resolve(experiment: Experiment) -> Experiment:
    """The experiment with everything filled in that follows from its other fields."""
    ppo = experiment.ppo
    if experiment.anneal_learning_rate and ppo.anneal_env_steps is None:
        ppo = dataclasses.replace(ppo, anneal_env_steps=float(experiment.total_env_steps))
    return dataclasses.replace(experiment, ppo=ppo)


def follows_length(experiment: Experiment) -> bool:
    """Whether the learning rate is annealed over the length of the run, not over one of its own."""
    over = experiment.ppo.anneal_env_steps
    return experiment.anneal_learning_rate and over in (None, experiment.total_env_steps)


def unresolve(experiment: Experiment) -> Experiment:
    """The experiment without what `resolve` fills in, which follows whatever is changed then."""
    if not follows_length(experiment):
        return experiment
    return dataclasses.replace(
        experiment, ppo=dataclasses.replace(experiment.ppo, anneal_env_steps=None)
    )


def idle_from(experiment: Experiment) -> float | None:
    """The environment step past which whole updates have a learning rate of 0, None without any."""
    ppo, sweep = experiment.ppo, experiment.sweep
    own = sweep.ranges if sweep is not None else {}
    if ppo.anneal_env_steps is None or {"anneal_env_steps", "final_learning_rate"} & set(own):
        return None
    starts_last = (experiment.num_updates - 1) * ppo.env_steps_per_update
    is_idle = ppo.final_learning_rate == 0 and ppo.anneal_env_steps <= starts_last
    return ppo.anneal_env_steps if is_idle else None


def default_run_dir(experiment: Experiment) -> Path:
    """`runs/ENV-seedS-TIME`; `run_dir.make_new` takes the next where another run has it."""
    stem = f"{experiment.env.replace('/', '-')}-seed{experiment.seed}"
    return Path("runs") / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
