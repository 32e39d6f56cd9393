"""An experiment: a config literal that `jaxdrl.run` turns into a run directory.

Importing this module imports neither jax nor gymnax, so that `--help` and a mistyped flag answer
at once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

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
from jaxdrl.config.acting import ActingConfig
from jaxdrl.config.algorithms import ALGORITHMS, DEFAULT, StoredConfig, require_config
from jaxdrl.config.search_space import Sweep
from jaxdrl.config.settings import settings_of, with_settings
from jaxdrl.config.tracker_names import require_known


@dataclass(frozen=True)
class Experiment:
    """One training run: the task, its length, the devices, and where the results are written.

    Raises:
      ConfigError: in the constructor, naming the field, its value and what works.
    """

    env: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")]
    """Name of the environment, such as CartPole-v1."""
    env_params: dict[str, float | str] = field(default_factory=dict)
    """Parameters of the environment that differ from its defaults: NAME VALUE [NAME VALUE ...]."""
    randomize: tuple[str, ...] = ()
    """Parameters of the environment drawn anew for each training episode: NAME=LOW:HIGH ..."""
    seed: Seed = 0
    """Seed of everything that is random in the run."""
    total_env_steps: Count = 500_000
    """Environment steps, summed over all environments and rounded up to whole updates."""
    devices: Annotated[Count | None, tyro.conf.arg(aliases=["--learner-devices"])] = None
    """Number of devices, simulated on a CPU; None: the most available ones that divide num_shards.
    Those of actors come on top."""
    run_dir: Path | None = None
    """Directory for the results; None: a new one under runs/."""
    anneal_learning_rate: bool = False
    """Anneal the learning rate over the length of the run, unless anneal_env_steps is given."""
    evaluate_every: Count | None = None
    """Updates between evaluations; None: evaluate at the end only."""
    num_eval_episodes: EpisodeCount = 256
    """Episodes in an evaluation."""
    greedy_evaluation: bool = True
    """Evaluate greedily, by the most probable action, instead of sampling actions."""
    log_every: Count = 1
    """Updates between two lines of metrics.jsonl."""
    track: tuple[str, ...] = ()
    """Trackers that receive the metrics as well: tensorboard, wandb, mlflow."""
    checkpoint_every: Count | None = None
    """Updates between checkpoints; None: checkpoint by time only."""
    checkpoint_minutes: Positive | None = 5.0
    """Minutes between checkpoints; None: checkpoint by updates only. The end of a run always has
    one."""
    keep_checkpoints: Count = 3
    """How many of the latest checkpoints are kept; the best one by evaluation is kept as well."""
    export_every: Count | None = None
    """Checkpoints between two exports of the policy to policy.zip in the run directory; None: none.
    The last checkpoint of a run is always exported."""
    from_run: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Warm start: the directory of a run whose parameters and statistics this run begins with."""
    max_skipped_updates: Count = 5
    """Consecutive updates without a single finite gradient step after which the run stops."""
    debug_nans: bool = False
    """Stop at the first NaN or infinity and find the operation that produced it; slower."""
    stuck_after: Positive | None = None
    """Seconds without progress of any process after which a run in several processes ends, and
    names the one that is stuck; None: wait for it."""
    profile: bool = False
    """Trace a few updates into profile/ of the run directory, and report where the time goes."""
    acting: ActingConfig = field(default_factory=ActingConfig)
    """How acting and learning overlap."""
    # The command line has a flag for each field of the value that it starts from.
    algorithm: Any = field(default_factory=ALGORITHMS[DEFAULT])
    """Settings of the algorithm, such as PPOConfig."""
    sweep: Annotated[Sweep | None, tyro.conf.Suppress] = None
    """Members that differ in hyperparameters and seeds; None: a single agent."""

    def __post_init__(self) -> None:
        is_name = isinstance(self.env, str) and bool(self.env)
        works = "must be a name, such as 'CartPole-v1'; "
        works += "an environment of your own goes to jaxdrl.run(experiment, env=...)"
        require(is_name, "env", shown(self.env), works)
        require_config(self.algorithm)
        settings_of(self)  # no two have the same name
        check_fields(self, given=("algorithm",))
        require_known(self.track)
        # What a file has of an algorithm of a user's own has been checked by the run that wrote it.
        if not isinstance(self.algorithm, StoredConfig):
            self._check_algorithm()
        if self.devices is not None:
            require_divisor("devices", self.devices, self.algorithm.execution.num_shards)

    def _check_algorithm(self) -> None:
        """Refuses what the settings of the algorithm do not have."""
        if self.anneal_learning_rate:
            works = "is for algorithms that have anneal_env_steps; must be False for this one"
            has_schedule = hasattr(self.algorithm, "anneal_env_steps")
            require(has_schedule, "anneal_learning_rate", True, works)
        if self.sweep is not None:
            self.sweep.check_algorithm(self.algorithm)

    @property
    def num_updates(self) -> int:
        """Updates that `total_env_steps` need, rounded up."""
        return -(-self.total_env_steps // self.algorithm.env_steps_per_update)


def resolve(experiment: Experiment) -> Experiment:
    """The experiment with everything filled in that follows from its other fields."""
    if not experiment.anneal_learning_rate or anneals_over(experiment) is not None:
        return experiment
    return with_settings(experiment, anneal_env_steps=float(experiment.total_env_steps))


def anneals_over(experiment: Experiment) -> float | None:
    """The environment steps over which the learning rate is annealed, None where it is constant."""
    return getattr(experiment.algorithm, "anneal_env_steps", None)


def follows_length(experiment: Experiment) -> bool:
    """Whether the learning rate is annealed over the length of the run, not over one of its own."""
    over = anneals_over(experiment)
    return experiment.anneal_learning_rate and over in (None, experiment.total_env_steps)


def unresolve(experiment: Experiment) -> Experiment:
    """The experiment without what `resolve` fills in, which follows whatever is changed then."""
    if not follows_length(experiment):
        return experiment
    return with_settings(experiment, anneal_env_steps=None)


def idle_from(experiment: Experiment) -> float | None:
    """The environment step past which whole updates have a learning rate of 0, None without any."""
    config: Any = experiment.algorithm
    over, sweep = anneals_over(experiment), experiment.sweep
    varied = sweep.ranges if sweep is not None else {}
    if over is None or {"anneal_env_steps", "final_learning_rate"} & set(varied):
        return None
    starts_last = (experiment.num_updates - 1) * config.env_steps_per_update
    is_idle = config.final_learning_rate == 0 and over <= starts_last
    return over if is_idle else None


def default_run_dir(experiment: Experiment) -> Path:
    """`runs/ENV-seedS-TIME`; `run_dir.make_new` takes the next where another run has it."""
    stem = f"{experiment.env.replace('/', '-')}-seed{experiment.seed}"
    return Path("runs") / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
