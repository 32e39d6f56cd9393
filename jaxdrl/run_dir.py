"""The directory of a run: its files, its one writer, and its config read back.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import fcntl
import json
import math
import os
import socket
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxdrl.errors import ConfigError

FORMAT_VERSION = 1
"""Version of the files in a run directory."""

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
RESULT_FILE = "result.json"
CHECKPOINTS = "checkpoints"
LOCK_FILE = ".lock"

IN_EVERY_LINE = ("update", "env_steps", "num_episodes", "steps_per_second")
"""Numbers that no line of the metrics is without."""

PUT_BACK = 'put back what was there, which is also "config" in manifest.json of each checkpoint'
"""What to do about a damaged `config.json`."""


def require_free(run_dir: Path) -> None:
    """Raises `ConfigError` if `run_dir` holds a run already."""
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


def make_run_dir(run_dir: Path) -> None:
    """Creates `run_dir`; raises `ConfigError` if it cannot be written."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        probe = run_dir / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"run_dir = {str(run_dir)!r}: cannot be written ({error.strerror}); "
            "name a directory that can"
        ) from error


def require_writable(field: str, path: Path) -> None:
    """Raises `ConfigError` unless a file can be written at `path`; makes nothing."""
    above = next(parent for parent in path.absolute().parents if parent.exists())
    why = None
    if path.is_dir():
        why = "is a directory"
    elif not above.is_dir():
        why = f"{above} is no directory"
    elif not os.access(above, os.W_OK):
        why = f"{above} cannot be written"
    if why is not None:
        raise ConfigError(f"{field} = {str(path)!r}: {why}; name a file that can be written")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes `content` as indented JSON; a number that is not finite becomes null."""
    write_text(path, json.dumps(finite(content), indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file that is either the old or the new one, whenever the process is killed."""
    unfinished = path.with_name(f".{path.name}.writing")
    with unfinished.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def finite(value: Any) -> Any:
    """`value` as JSON takes it: scalars of NumPy and JAX as numbers, None where not finite."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if hasattr(value, "item"):  # of NumPy or JAX
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def in_words(num_bytes: int) -> str:
    """Bytes in words, such as 3.2 GiB."""
    value, units = float(num_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.1f} {units[0]}"


@contextlib.contextmanager
def claim(run_dir: Path) -> Iterator[None]:
    """Makes this process the only writer of `run_dir` until the end of the block, or of itself.

    Raises:
      ConfigError: while another process is, naming it.
    """
    make_run_dir(run_dir)
    with (run_dir / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            writer = file.read().strip() or "another process"
            raise ConfigError(
                f"run_dir = {str(run_dir)!r}: {writer} is writing to it; stop that, or name "
                "another directory"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def writer_of(run_dir: Path) -> str | None:
    """Which process writes to `run_dir`, as `claim` has it; None where none does."""
    try:
        with (run_dir / LOCK_FILE).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "another process"
    except OSError:
        pass  # no lock file: nobody ever wrote
    return None


@dataclass(frozen=True)
class StoredRun:
    """What `config.json` says of a run.

    Attributes:
      experiment: the experiment.
      env_params: every parameter of the environment, by name.
      given: which of `env`, `network` and `optimizer` were objects given in Python.
      spaces: the environment's spaces, in words.
      devices: number and kind of the devices, and what the run needs on each; empty where the
        run is older than that.
    """

    experiment: Any
    env_params: dict[str, Any]
    given: list[str]
    spaces: str
    devices: dict[str, Any]


def read_run(run_dir: Path, kind: type) -> StoredRun:
    """Reads `config.json`, whose `experiment` is of the dataclass `kind`.

    Raises:
      ConfigError: if there is none, naming the nearest run; if it was written in a newer format;
        or naming the field that is unknown, missing or of another type.
    """
    path = run_dir / CONFIG_FILE
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        why = f"it has no {CONFIG_FILE}" if run_dir.exists() else "there is no such directory"
        raise _no_run(run_dir, why) from error
    except OSError as error:
        raise _no_run(run_dir, f"{CONFIG_FILE} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: is no JSON ({error}); {PUT_BACK}") from error
    if not isinstance(content, dict) or "format_version" not in content:
        raise _no_run(run_dir, f"its {CONFIG_FILE} is of another program")
    version = _take(content, path, "format_version", int)
    if version > FORMAT_VERSION:
        raise ConfigError(
            f"{path}: format_version = {version}, and this version of jaxdrl reads up to "
            f"{FORMAT_VERSION}; install a newer jaxdrl"
        )
    return StoredRun(
        experiment=_convert(_take(content, path, "experiment", dict), kind, f"{path}: "),
        env_params=_take(content, path, "env_params", dict),
        given=_take(content, path, "given", list),
        spaces=_take(content, path, "spaces", str),
        devices=content.get("devices", {}),
    )


def read_experiment(path: Path, kind: type) -> Any:
    """The experiment in a `config.json` or `best.json`, free of the directory that it was run in.

    Raises:
      ConfigError: if the file has none, naming the field that is unknown or of another type.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"config = {str(path)!r}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"config = {str(path)!r}: is no JSON ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("experiment"), dict):
        works = 'must have an "experiment", as config.json of a run and best.json of a sweep do'
        raise ConfigError(f"config = {str(path)!r}: {works}")
    free = {"run_dir": None, "devices": None}
    return _convert(content["experiment"] | free, kind, f"{path}: ")


def _no_run(run_dir: Path, why: str) -> ConfigError:
    """The error for a directory that is no run, with the runs in it or the nearest beside it."""
    inside = sorted(path.parent for path in run_dir.glob(f"*/{CONFIG_FILE}"))
    beside = {path.parent.name: path.parent for path in run_dir.parent.glob(f"*/{CONFIG_FILE}")}
    beside.pop(run_dir.name, None)
    close = difflib.get_close_matches(run_dir.name, beside, n=1)
    works = "name the directory of a run, as `jaxdrl train` makes them under runs/"
    if inside:
        works = f"it holds runs: name one, such as {inside[-1]}"
    elif close:
        works = f"the nearest: {beside[close[0]]}"
    return ConfigError(f"run_dir = {str(run_dir)!r}: is no run ({why}); {works}")


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, none where there is no such file; a torn last one is left out.

    Raises:
      ConfigError: naming another one that is damaged.
    """
    path = run_dir / METRICS_FILE
    text = path.read_bytes() if path.exists() else b""
    lines = [line for line in text.splitlines(keepends=True) if line.endswith(b"\n")]
    return [read_line(line, f"{path}: line {i}") for i, line in enumerate(lines, start=1)]


def read_line(line: bytes, name: str) -> dict[str, Any]:
    """What a line of the metrics holds; raises `ConfigError` with its `name` if it is damaged."""
    works = "put back what was there, or remove this line: the others stay good"
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{name} is no JSON; {works}") from error
    if not isinstance(record, dict):
        raise ConfigError(f"{name} is no object; {works}")
    for field in IN_EVERY_LINE:
        if not isinstance(record.get(field), int | float):
            raise ConfigError(f"{name} has no number {field}; {works}")
    return record


def _take(content: dict[str, Any], path: Path, name: str, kind: type) -> Any:
    if not isinstance(content.get(name), kind):
        raise ConfigError(f"{path}: {name} is missing, or no {kind.__name__}; {PUT_BACK}")
    return content[name]


def _convert(value: Any, hint: Any, name: str) -> Any:
    """`value` from JSON as the type that a field of a config is annotated with."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        if isinstance(value, str) and str in args:
            return value
        return _convert(value, next(arg for arg in args if arg is not type(None)), name)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _convert_fields(value, hint, name)
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(item, args[0], name) for item in value)
    if origin is dict and isinstance(value, dict):
        return {key: _convert(item, args[1], f"{name}.{key}") for key, item in value.items()}
    if origin is typing.Literal:
        return value  # which the config checks
    if hint is Path and isinstance(value, str):
        return Path(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and (type(value) is float or (is_number and abs(value) < 10**308)):
        return float(value)
    if hint in (str, bool, int) and type(value) is hint:
        return value
    words = getattr(origin or hint, "__name__", str(hint))
    raise ConfigError(f"{name} = {value!r}: must be of type {words}")


def _convert_fields(value: dict[str, Any], hint: Any, name: str) -> Any:
    hints = typing.get_type_hints(hint, include_extras=False)
    separator = "" if name.endswith(": ") else "."
    for field in value:
        if field not in hints:
            (close,) = difflib.get_close_matches(field, hints, n=1, cutoff=0)
            unknown = f"{name}{separator}{field} = {value[field]!r}"
            raise ConfigError(f"{unknown}: unknown field; the nearest: {close}")
    # A field with a default may have come after the run, which then did without it.
    for own in dataclasses.fields(hint):
        missing = dataclasses.MISSING
        has_default = own.default is not missing or own.default_factory is not missing
        if own.name not in value and not has_default:
            raise ConfigError(f"{name}{separator}{own.name}: is missing; {PUT_BACK}")
    fields = {f: _convert(v, hints[f], f"{name}{separator}{f}") for f, v in value.items()}
    try:
        return hint(**fields)
    except ConfigError as error:
        raise ConfigError(f"{name}{separator}{error}") from error
