"""Searches over settings that shape the program: Optuna proposes trials, each a run of its own.

Float settings vary within one program, while others, such as the width of a network, need a program
for each value. A trial is a sweep over the floats with one choice of the others, and its score is
the lower end of the interval of its best setting. Proposals depend only on the seed and on earlier
trials, so that a search that was killed and resumed makes the same proposals.

Source: Akiba et al. 2019, "Optuna: A Next-generation Hyperparameter Optimization Framework", with
the tree-structured Parzen estimator of Bergstra et al. 2011.
"""

from __future__ import annotations

import errno
import importlib.util
import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from jaxdrl.checks import require
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.settings import value_of, with_settings
from jaxdrl.errors import ConfigError
from jaxdrl.io.console import labelled
from jaxdrl.runs.nested import (
    TRIALS,
    TrainPart,
    has_begun,
    mean_return,
    merge,
    read_result,
    require_part,
)
from jaxdrl.runs.run_dir import read_run
from jaxdrl.runs.stopping import NonFiniteError, OutOfMemoryError
from jaxdrl.sweeps.ranking import sort

if TYPE_CHECKING:
    import optuna

STUDY_FILE = "optuna.db"
STUDY = "jaxdrl"

MAX_COMBINATIONS = 10_000
"""Of choices; all of them are tried on the config before anything is trained."""

Shape = dict[str, str]
"""A choice for each setting that shapes the program, as on the command line."""


def check(experiment: Experiment) -> None:
    """Refuses a search that cannot work.

    Raises:
      ConfigError: if Optuna is missing, or naming a choice that no combination works with.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("sweep.shapes: optuna is not installed; pip install 'jaxdrl[optuna]'")
    combinations(experiment)


def combinations(experiment: Experiment) -> list[Shape]:
    """The combinations of choices that the config accepts.

    Raises:
      ConfigError: naming a choice that is in none of them, or if there are too many to try.
    """
    assert experiment.sweep is not None
    choices = experiment.sweep.choices(experiment.algorithm)
    count = math.prod(len(values) for values in choices.values())
    works = f"must have at most {MAX_COMBINATIONS:,} combinations"
    require(count <= MAX_COMBINATIONS, "sweep.shapes", f"{count:,} combinations", works)
    found: list[Shape] = []
    why: dict[tuple[str, str], ConfigError] = {}
    for texts in itertools.product(*choices.values()):
        shape = dict(zip(choices, texts, strict=True))
        try:
            trial_of(experiment, 0, shape)
            found.append(shape)
        except ConfigError as error:
            why |= {choice: error for choice in shape.items() if choice not in why}
    in_one = {choice for shape in found for choice in shape.items()}
    for name, values in choices.items():
        for text in values:
            if (name, text) not in in_one:
                raise ConfigError(
                    f"sweep.shapes.{name} = {text!r}: works with none of the other choices; "
                    f"{why[name, text]}"
                )
    return found


def trial_of(experiment: Experiment, number: int, shape: Shape) -> Experiment:
    """The experiment of a trial of a search."""
    assert experiment.sweep is not None
    choices = experiment.sweep.choices(experiment.algorithm)
    values: dict[str, Any] = {name: choices[name][text] for name, text in shape.items()}
    run_dir = None if experiment.run_dir is None else experiment.run_dir / TRIALS / str(number)
    sweep = replace(experiment.sweep, trial=number)
    return with_settings(experiment, sweep=sweep, run_dir=run_dir, **values)


def train(experiment: Experiment, train_part: TrainPart, console: Console) -> dict[str, Any]:
    """Trains the trials of a search in order, and returns one `result.json` of all of them."""
    sweep, run_dir = experiment.sweep, experiment.run_dir
    assert sweep is not None and run_dir is not None
    working, study = combinations(experiment), open_study(run_dir)
    require_true(experiment, study)
    num_trials = min(sweep.trials, len(working))
    for number in range(len(study.trials), num_trials):
        part = _next(experiment, study, number, working)
        words = ", ".join(f"{name} {text}" for name, text in shape_of(experiment, part).items())
        console.print(f"trial {number + 1} of {num_trials}: {words}")
        score, why = _score(part, train_part, console)
        _record(study, experiment, part, score, why)
    return _merge(experiment, study)


def open_study(run_dir: Path) -> optuna.Study:
    """The database of the finished trials of a search.

    Raises:
      ConfigError: if it is damaged.
    """
    import optuna
    from sqlalchemy.pool import NullPool

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = run_dir / STUDY_FILE
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: is not a file; {_anew(run_dir)}")
    # A pool would keep connections open, and nothing would close them after the search.
    unpooled = {"poolclass": NullPool}
    try:
        study = optuna.create_study(
            storage=optuna.storages.RDBStorage(f"sqlite:///{path.absolute()}", unpooled),
            study_name=STUDY,
            direction="maximize",
            load_if_exists=True,
        )
        study.get_trials()  # this reads all of it
        return study
    except Exception as error:  # from SQLAlchemy, which has a class for each kind of damage
        raise ConfigError(
            f"{path}: cannot be read ({str(error).partition(chr(10))[0]}); {_anew(run_dir)}"
        ) from error


def _anew(run_dir: Path) -> str:
    return f"remove it, and `jaxdrl resume {run_dir}` writes it again"


def require_true(experiment: Experiment, study: optuna.Study) -> None:
    """Refuses a study that contradicts the files of its trials.

    Raises:
      ConfigError: naming the trial.
    """
    run_dir = experiment.run_dir
    assert run_dir is not None
    for trial in study.trials:
        part = run_dir / TRIALS / str(trial.number)
        if trial.value is None:
            continue  # it was pruned, and may have left no files
        begun = read_run(part, type(experiment.algorithm)).experiment
        score = read_result(part)["settings"][0]["ci95_low"]
        if score != trial.value or shape_of(experiment, begun) != trial.params:
            raise ConfigError(
                f"{run_dir / STUDY_FILE}: trial {trial.number} scored {trial.value} with "
                f"{trial.params}, which is not what {part} has; {_anew(run_dir)}"
            )


def _next(
    experiment: Experiment, study: optuna.Study, number: int, working: list[Shape]
) -> Experiment:
    """The next trial: one that has already begun, or a new proposal."""
    assert experiment.sweep is not None and experiment.run_dir is not None
    run_dir = experiment.run_dir / TRIALS / str(number)
    if has_begun(run_dir):
        stored = read_run(run_dir, type(experiment.algorithm))
        require_part(run_dir, stored)
        return trial_of(experiment, number, shape_of(experiment, stored.experiment))
    tried = [trial.params for trial in study.trials]
    left = [shape for shape in working if shape not in tried]
    return trial_of(experiment, number, propose(experiment, study, left))


def propose(experiment: Experiment, study: optuna.Study, left: list[Shape]) -> Shape:
    """Proposes a combination from `left` by the trials so far; the same for the same trials.

    Where Optuna proposes one that was tried already, it is one that differs from it the least.
    """
    import optuna

    assert experiment.sweep is not None
    number, num_first = len(study.trials), max(1, experiment.sweep.trials // 3)
    rng = np.random.default_rng([experiment.seed, number])
    sampler = optuna.samplers.TPESampler(
        seed=int(rng.integers(2**31)), n_startup_trials=min(10, num_first)
    )
    # Asks a copy, so that the database holds only finished trials.
    copy = optuna.create_study(direction="maximize", sampler=sampler)
    copy.add_trials(study.trials)
    proposed = copy.ask(_distributions(experiment)).params
    distances = [sum(shape[name] != proposed[name] for name in shape) for shape in left]
    nearest = np.flatnonzero(np.equal(distances, min(distances)))
    return left[rng.choice(nearest)]


def shape_of(experiment: Experiment, trial: Experiment) -> Shape:
    """The choices of a trial of a search."""
    assert experiment.sweep is not None
    return {
        name: next(
            text for text, value in values.items() if value == value_of(trial.algorithm, name)
        )
        for name, values in experiment.sweep.choices(experiment.algorithm).items()
    }


def _distributions(experiment: Experiment) -> dict[str, Any]:
    import optuna

    assert experiment.sweep is not None
    choices = experiment.sweep.choices(experiment.algorithm)
    return {
        name: optuna.distributions.CategoricalDistribution(tuple(values))
        for name, values in choices.items()
    }


def _score(part: Experiment, train_part: TrainPart, console: Console) -> tuple[float | None, str]:
    """Trains a trial: `(score, why there is none)`."""
    assert part.run_dir is not None
    is_resumed = has_begun(part.run_dir)
    try:
        score = train_part(part)["settings"][0]["ci95_low"]
        return score, "its score is not finite"
    except (NonFiniteError, OutOfMemoryError, ConfigError) as error:
        if is_resumed and isinstance(error, ConfigError):
            raise  # about its files
        console.print(labelled("pruned:", str(error)), soft_wrap=True)
        return None, str(error)


def _record(
    study: optuna.Study, experiment: Experiment, part: Experiment, score: float | None, why: str
) -> None:
    """Adds a trial to the study in one transaction."""
    import optuna

    states = optuna.trial.TrialState
    trial = optuna.trial.create_trial(
        state=states.PRUNED if score is None else states.COMPLETE,
        params=shape_of(experiment, part),
        distributions=_distributions(experiment),
        value=score,
        user_attrs={"why": why} if score is None else {},
    )
    try:
        study.add_trial(trial)
    except optuna.exceptions.StorageInternalError as error:  # a full disk is one
        assert experiment.run_dir is not None
        words = str(error.__cause__ or error).splitlines()[0]
        path = str(experiment.run_dir / STUDY_FILE)
        raise OSError(errno.EIO, f"the trial could not be noted ({words})", path) from error


def _merge(experiment: Experiment, study: optuna.Study) -> dict[str, Any]:
    """One result from those of all trials, with their settings."""
    sweep, run_dir = experiment.sweep, experiment.run_dir
    assert sweep is not None and run_dir is not None
    done = [trial for trial in study.trials if trial.value is not None]
    if not done:
        why = study.trials[-1].user_attrs["why"]
        raise ConfigError(f"sweep.shapes: no trial could be trained; the last: {why}")
    results = [read_result(run_dir / TRIALS / str(trial.number)) for trial in done]
    best = max(range(len(done)), key=lambda i: (done[i].value, mean_return(results[i])))
    firsts = [trial.number * sweep.num_members for trial in done]
    rows = [
        {"trial": trial.number, **row, "shape": trial.params}
        | {"members": [first + number for number in row["members"]]}
        | {"setting": trial.number * sweep.members + row["setting"]}
        for trial, first, result in zip(done, firsts, results, strict=True)
        for row in result["settings"]
    ]
    trials = [
        {"trial": trial.number, "shape": trial.params, "score": trial.value, **trial.user_attrs}
        for trial in study.trials
    ]
    whole = merge(results, firsts, len(study.trials) * sweep.num_members, best)
    return whole | {"trials": trials, "settings": sort(rows)}
