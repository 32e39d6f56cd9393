"""Sweeps in parts, each of which is a run in a directory of its own within that of the sweep.

A sweep whose members do not fit into memory at once is trained in waves. A search over settings
that shape the program is trained in trials, each of which may have waves.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxdrl.config.experiment import Experiment
from jaxdrl.config.search_space import Sweep
from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import SEAL, read_sealed
from jaxdrl.runs.run_dir import (
    CHECKPOINTS,
    CONFIG_FILE,
    LOG_FILES,
    PUT_BACK,
    RESULT_FILE,
    StoredRun,
    read_run,
)

WAVES, TRIALS = "waves", "trials"

TrainPart = Callable[[Experiment], dict[str, Any]]
"""Trains a run to its end, however far it is, and returns its `result.json`."""


def folder_of(sweep: Sweep | None) -> str | None:
    """The folder with the parts of a sweep; None for a run without parts."""
    if sweep is not None and sweep.is_search:
        return TRIALS
    return WAVES if sweep is not None and sweep.num_waves else None


def parts_of(run_dir: Path) -> list[Path]:
    """The parts of a run that have begun, in their order; none for an ordinary run.

    Raises:
      ConfigError: if the directory is not a run, or naming a part that is damaged.
    """
    stored = read_run(run_dir)
    folder = folder_of(stored.experiment.sweep)
    if folder is None:
        return []
    numbered = [path for path in (run_dir / folder).glob("*") if path.name.isdecimal()]
    begun = sorted(filter(has_begun, numbered), key=lambda path: int(path.name))
    for part in begun:
        config = part / CONFIG_FILE
        if part.is_dir() and not os.path.lexists(config):
            raise ConfigError(f"{config}: is missing, although its part has begun; {PUT_BACK}")
        _require_place(part, read_run(part), stored)
    return begun


def doubt_about_parts(run_dir: Path) -> str | None:
    """Which waves of a sweep are missing, None where none is: they begin in order."""
    begun = {part.name for part in parts_of(run_dir) if part.parent.name == WAVES}
    last = max(map(int, begun), default=0)
    gone = [str(number) for number in range(last) if str(number) not in begun]
    if not gone:
        return None
    works = f"put back what was there, or `jaxdrl resume {run_dir}` trains them again"
    return f"{run_dir / WAVES}: {', '.join(gone)} of 0 to {last} are missing; {works}"


def has_begun(part: Path) -> bool:
    """Whether a part has left any file, valid or not; one that never trained has only a lock."""
    if not part.is_dir():
        return os.path.lexists(part)
    left = (CONFIG_FILE, *LOG_FILES, RESULT_FILE, CHECKPOINTS, WAVES)
    return any(os.path.lexists(part / name) for name in left)


def whole_of(run_dir: Path) -> Path:
    """The directory of the outermost sweep that a run is a part of, or of the run itself."""
    above = _above(run_dir)
    return run_dir if above is None else whole_of(above)


def _above(run_dir: Path) -> Path | None:
    """The directory of the sweep that a run is a part of, None where it is not a part."""
    above = run_dir.absolute().parent.parent
    is_part = run_dir.absolute().parent.name in (WAVES, TRIALS) and (above / CONFIG_FILE).exists()
    return run_dir.parent.parent if is_part and run_dir.name.isdecimal() else None


def id_of_whole(run_dir: Path) -> str | None:
    """The `run_id` of the sweep that a run is a part of, None where it is not a part."""
    above = _above(run_dir)
    return None if above is None else read_run(above).origin.run_id


def require_part(run_dir: Path, stored: StoredRun) -> None:
    """Refuses a part that was moved into another sweep, or to another number.

    Raises:
      ConfigError: saying so.
    """
    above = _above(run_dir)
    if above is not None:
        _require_place(run_dir, stored, read_run(above))


def _require_place(run_dir: Path, stored: StoredRun, whole: StoredRun) -> None:
    sweep = stored.experiment.sweep
    if stored.origin.part_of != whole.origin.run_id:
        raise ConfigError(
            f"run_dir = {str(run_dir)!r}: is not a part of the sweep above it, which did not start "
            "it; move it elsewhere"
        )
    is_wave = run_dir.parent.name == WAVES
    number = sweep and (sweep.wave if is_wave else sweep.trial)
    if str(number) != run_dir.name:
        raise ConfigError(
            f"run_dir = {str(run_dir)!r}: is {'wave' if is_wave else 'trial'} {number} of its "
            "sweep, under another number; rename it back"
        )


def merge(
    results: list[dict[str, Any]], firsts: list[int], num_members: int, best: int
) -> dict[str, Any]:
    """One `result.json` from those of all parts; its digests are digests of theirs.

    Args:
      results: those of the parts.
      firsts: for each part, the number of its first member among all members.
      num_members: of the whole sweep; a member that is in no part has no return.
      best: index of the best part.
    """
    evaluations = [result["evaluation"] for result in results]
    returns, ends = [math.nan] * num_members, [[math.nan, math.nan]] * num_members
    for first, found in zip(firsts, evaluations, strict=True):
        last = first + len(found["member_returns"])
        returns[first:last] = _numbers(found["member_returns"])
        ends[first:last] = map(_numbers, found["member_ci95"])
    seconds = {
        name: sum(result[name] for result in results)
        for name in ("compile_seconds", "train_seconds")
    }
    digests = {
        name: hashlib.sha256("".join(result[name] for result in results).encode()).hexdigest()
        for name in ("params_sha256", "state_sha256")
    }
    steps = sum(len(r["evaluation"]["member_returns"]) * r["env_steps"] for r in results)
    member = evaluations[best]["best_member"]
    evaluation = evaluations[best] | {
        "best_member": None if member is None else firsts[best] + member,
        "member_returns": returns,
        "member_ci95": ends,
    }
    speed = {"steps_per_second": steps / seconds["train_seconds"]}
    return results[best] | seconds | digests | speed | {"evaluation": evaluation}


def _numbers(values: list[float | None]) -> list[float]:
    """Numbers from JSON, where null stands for one that is not finite."""
    return [math.nan if value is None else value for value in values]


def best_part(parts: list[Path]) -> Path:
    """The part with the best evaluation; the last part where none is finished."""
    finished = [path for path in parts if os.path.lexists(path / RESULT_FILE)]
    if not finished:
        return parts[-1]
    return max(finished, key=lambda path: mean_return(read_result(path)))


def mean_return(result: dict[str, Any]) -> float:
    """Mean return of the best member in a `result.json`; -inf where it is not finite."""
    found = result["evaluation"]["mean_return"]
    return found if found is not None and math.isfinite(found) else -math.inf


def read_result(run_dir: Path) -> dict[str, Any]:
    """The content of the `result.json` of a sweep.

    Raises:
      ConfigError: if it is damaged.
    """
    content = _read_own_result(run_dir)
    evaluation = content.get("evaluation")
    if not isinstance(evaluation, dict) or "member_ci95" not in evaluation:
        path = run_dir / RESULT_FILE
        raise ConfigError(f"{path}: is not the result of a sweep; {_anew(run_dir)}")
    return {name: value for name, value in content.items() if name not in ("run_id", SEAL)}


def _read_own_result(run_dir: Path) -> dict[str, Any]:
    path = run_dir / RESULT_FILE
    content = read_sealed(path, _anew(run_dir))
    if content.get("run_id") != read_run(run_dir).origin.run_id:
        raise ConfigError(f"{path}: is the result of another run; {_anew(run_dir)}")
    return content


def _anew(run_dir: Path) -> str:
    return f"remove it, and `jaxdrl resume {whole_of(run_dir)}` writes it again"


def doubt_about_result(run_dir: Path, *, is_done: bool) -> str | None:
    """What is wrong with the `result.json` of a run, which must have one if it `is_done`."""
    path = run_dir / RESULT_FILE
    if not os.path.lexists(path):
        works = f"`jaxdrl resume {whole_of(run_dir)}` writes it"
        return f"{path}: is missing, although all updates are done; {works}" if is_done else None
    try:
        _read_own_result(run_dir)
    except ConfigError as error:
        return str(error)
    return None
