"""The directory of a run: its files, and what is read back from them.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jaxdrl.config import stored as stored_config
from jaxdrl.config.experiment import Experiment
from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import parse_line, read_lines, read_object, require_sealed

FORMAT_VERSION = 2
"""Version of the format of the files in a run directory."""

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
LINEAGE_FILE = "lineage.jsonl"
LOG_FILES = (METRICS_FILE, LINEAGE_FILE)
RESULT_FILE = "result.json"
PROCESSES_FILE = "processes.json"
CHECKPOINTS = "checkpoints"

NUMBER = (int, float)

IN_EVERY_LINE = ("update", "env_steps", "num_episodes", "steps_per_second")
"""Numbers that every line of the metrics has."""

PUT_BACK_LINE = "put back what was there, or remove this line: the others remain valid"
"""What to do about a damaged line of the metrics."""

PUT_BACK = 'put back what was there, which is also "config" in manifest.json of each checkpoint'
"""What to do about a damaged `config.json`."""


def require_free(run_dir: Path) -> None:
    """Raises `ConfigError` if `run_dir` already holds a run."""
    for name in (CONFIG_FILE, METRICS_FILE, RESULT_FILE):
        try:
            is_there = (run_dir / name).exists()
        except OSError as error:
            raise ConfigError(
                f"run_dir = {str(run_dir)!r}: cannot be read ({error.strerror}); "
                "name a directory that can"
            ) from error
        if is_there:
            raise ConfigError(
                f"run_dir = {str(run_dir)!r}: already holds a run ({name}), which is not "
                "overwritten; name another directory, or remove this one"
            )


def make_new(run_dir: Path) -> Path:
    """Creates `run_dir`, or the first of `run_dir-2`, `run_dir-3` ... that does not exist yet.

    Raises:
      ConfigError: if none can be created.
    """
    path, suffix = run_dir, 2
    try:
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                path.mkdir()
                return path
            except FileExistsError:  # another run has it, perhaps from this very moment
                path = run_dir.with_name(f"{run_dir.name}-{suffix}")
                suffix += 1
    except OSError as error:
        raise _cannot_be_written(run_dir, error) from error


@contextlib.contextmanager
def refused_unless_written(run_dir: Path) -> Iterator[None]:
    """Raises `ConfigError` if the block cannot write, such as on a full disk."""
    try:
        yield
    except OSError as error:
        raise _cannot_be_written(run_dir, error) from error


def make_run_dir(run_dir: Path) -> None:
    """Creates `run_dir`; raises `ConfigError` if it cannot be written."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        tempfile.NamedTemporaryFile(dir=run_dir).close()  # has a name, as its files will
    except OSError as error:
        raise _cannot_be_written(run_dir, error) from error


def _cannot_be_written(run_dir: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"run_dir = {str(run_dir)!r}: cannot be written ({error.strerror}); "
        "name a directory that can"
    )


def require_writable(field: str, path: Path) -> None:
    """Raises `ConfigError` unless a file can be written at `path`; creates nothing."""
    above = next(parent for parent in path.absolute().parents if parent.exists())
    why = None
    if path.is_dir():
        why = "is a directory"
    elif not above.is_dir():
        why = f"{above} is not a directory"
    elif not os.access(above, os.W_OK):
        why = f"{above} cannot be written"
    if why is not None:
        raise ConfigError(f"{field} = {str(path)!r}: {why}; name a file that can be written")


class Origin(NamedTuple):
    """What distinguishes a run from all others, whatever process works on it.

    Attributes:
      run_id: drawn at the start of the run.
      part_of: the `run_id` of the sweep that it is a part of.
      has_checkpoints: whether one was ever written, so that their loss is noticed.
    """

    run_id: str
    part_of: str | None = None
    has_checkpoints: bool = False


def new_origin(part_of: str | None) -> Origin:
    """The origin of a new run."""
    return Origin(secrets.token_hex(8), part_of)


@dataclass(frozen=True)
class StoredRun:
    """What `config.json` says of a run.

    Attributes:
      experiment: the experiment.
      env_params: every parameter of the environment, by name.
      overrides: names of the objects that were given in Python.
      spaces: the environment's spaces, in words.
      devices: number and kind of the devices, and the memory that the run needs on each.
      origin: which run it is.
      content: all of `config.json`.
    """

    experiment: Experiment
    env_params: dict[str, Any]
    overrides: list[str]
    spaces: str
    devices: dict[str, Any]
    origin: Origin
    content: dict[str, Any]


def read_run(run_dir: Path, own_config: type | None = None) -> StoredRun:
    """Reads `config.json`.

    Args:
      run_dir: directory of the run.
      own_config: type of the settings of an algorithm of one's own, as `stored.from_json` has it.

    Raises:
      ConfigError: if there is none, naming the nearest run; if it has another format; or naming the
        field that is unknown, missing or of another type.
    """
    path = run_dir / CONFIG_FILE
    _require_there(run_dir)
    content = read_object(path, PUT_BACK)
    if "format_version" not in content:
        raise _no_run(run_dir, f"its {CONFIG_FILE} is from another program")
    require_format(str(path), content["format_version"], FORMAT_VERSION)
    require_sealed(path, content, PUT_BACK)
    experiment = _take(content, path, "experiment", dict)
    return StoredRun(
        experiment=stored_config.from_json(experiment, f"{path}: ", own_config),
        env_params=_take(content, path, "env_params", dict),
        overrides=_take(content, path, "overrides", list),
        spaces=_take(content, path, "spaces", str),
        devices=content.get("devices", {}),
        origin=Origin(
            run_id=_take(content, path, "run_id", str),
            part_of=content.get("part_of"),
            has_checkpoints=_take(content, path, "has_checkpoints", bool),
        ),
        content=content,
    )


def require_format(name: str, version: Any, known: int) -> None:
    """Refuses what was written in another format than the `known` one.

    Raises:
      ConfigError: naming both.
    """
    if version == known and type(version) is int:
        return
    works = f"this version of jaxdrl reads only {known}"
    if type(version) is int and version > 0:
        works += f"; use the {'newer' if version > known else 'older'} jaxdrl that wrote it"
    raise ConfigError(f"{name}: format_version = {version!r}, and {works}")


def read_experiment(path: Path) -> Experiment:
    """The experiment in a `config.json` or `best.json`, without its directory and devices.

    Raises:
      ConfigError: if the file has none, or naming a field that is unknown or of another type.
    """
    works = 'must have an "experiment", as config.json of a run and best.json of a sweep do'
    content = read_object(path, f"--config names a file that {works}")
    if not isinstance(content.get("experiment"), dict):
        raise ConfigError(f"config = {str(path)!r}: {works}")
    free = {"run_dir": None, "devices": None}
    return stored_config.from_json(content["experiment"] | free, f"{path}: ")


def _require_there(run_dir: Path) -> None:
    """Refuses what is no directory, or has no `config.json`."""
    path = run_dir / CONFIG_FILE
    try:
        if not run_dir.is_dir():
            is_link = run_dir.is_symlink() and not run_dir.exists()
            there = "it is a link to nothing" if is_link else "it is not a directory"
            why = there if os.path.lexists(run_dir) else "there is no such directory"
            raise _no_run(run_dir, why)
        if not path.exists() and not path.is_symlink():
            raise _no_run(run_dir, f"it has no {CONFIG_FILE}")
    except OSError as error:
        why = f"cannot be read ({error.strerror}); name a directory that can"
        raise ConfigError(f"run_dir = {str(run_dir)!r}: {why}") from error


def _no_run(run_dir: Path, why: str) -> ConfigError:
    """The error for a directory that is not a run, naming a run in it or the nearest beside it."""
    inside = sorted(path.parent for path in run_dir.glob(f"*/{CONFIG_FILE}"))
    beside = {path.parent.name: path.parent for path in run_dir.parent.glob(f"*/{CONFIG_FILE}")}
    beside.pop(run_dir.name, None)
    close = difflib.get_close_matches(run_dir.name, beside, n=1)
    works = "name the directory of a run, as `jaxdrl train` makes them under runs/"
    if inside:
        works = f"it holds runs: name one, such as {inside[-1]}"
    elif close:
        works = f"the nearest: {beside[close[0]]}"
    return ConfigError(f"run_dir = {str(run_dir)!r}: is not a run ({why}); {works}")


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` without an incomplete last one; none without such a file.

    Raises:
      ConfigError: naming any other that is damaged.
    """
    return read_lines(run_dir / METRICS_FILE, read_line)


def read_line(line: bytes, name: str) -> dict[str, Any]:
    """The content of a line of the metrics; raises `ConfigError` with its `name` if damaged."""
    return parse_line(line, name, PUT_BACK_LINE, what_is_wrong)


def what_is_wrong(record: dict[str, Any]) -> str | None:
    """What is wrong with a line of the metrics, None for a valid one."""
    for field in IN_EVERY_LINE:
        value = record.get(field)
        if isinstance(value, bool) or not isinstance(value, NUMBER) or value < 0:
            return f"has no number {field}"
    if record["steps_per_second"] == 0:
        return "has no number steps_per_second above 0"
    for name, value in record.items():
        is_number = value is None or isinstance(value, NUMBER)
        if not is_number and not (_is_of_members(name) and is_numbers(value)):
            return f"has no number {name}"
    return None


def _is_of_members(name: str) -> bool:
    return name.startswith(("members/", "evaluation_member_"))


def is_numbers(value: Any) -> bool:
    """Whether `value` is an array of numbers, null where one is not finite."""
    return isinstance(value, list) and all(
        item is None or isinstance(item, NUMBER) or is_numbers(item) for item in value
    )


def _take(content: dict[str, Any], path: Path, name: str, kind: type) -> Any:
    if not isinstance(content.get(name), kind):
        raise ConfigError(f"{path}: {name} is missing, or not a {kind.__name__}; {PUT_BACK}")
    return content[name]
