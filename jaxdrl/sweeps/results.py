"""What a sweep writes and prints about its settings once it is done."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxdrl.config.experiment import Experiment
from jaxdrl.distributed.spread import fetch
from jaxdrl.runs.session import Session
from jaxdrl.sweeps import ranking


def rank_members(
    session: Session, experiment: Experiment, state: Any, result: dict[str, Any]
) -> dict[str, Any]:
    """`write_sweep` for a run that is done; nothing for one agent, or a wave of a sweep."""
    if experiment.sweep is None or experiment.sweep.wave is not None:
        return {}
    hyperparams = {name: fetch(x) for name, x in state.hyperparams.items()}
    if not session.hosts.is_first:
        return {}
    return write_sweep(session, experiment, hyperparams, result["evaluation"])


def write_sweep(
    session: Session,
    experiment: Experiment,
    hyperparams: dict[str, np.ndarray],
    evaluation: dict[str, Any],
) -> dict[str, Any]:
    """Writes and prints what a sweep found, and returns it for `result.json`."""
    rows = ranking.rank(experiment, hyperparams, evaluation)
    show_sweep(session, experiment, rows)
    return {"settings": rows}


def show_sweep(session: Session, experiment: Experiment, rows: list[dict[str, Any]]) -> None:
    """Writes and prints ranked settings."""
    assert experiment.run_dir is not None
    try:
        paths = ranking.write(experiment.run_dir, experiment, rows, session.warn)
    except OSError as error:
        why = f"{error.filename or 'a file'}: {error.strerror or error}"
        session.warn(f"not all files of the sweep could be written ({why})")
        paths = []
    ranking.print_table(session.console, rows)
    session.console.print("\n".join(map(str, paths)), soft_wrap=True)
