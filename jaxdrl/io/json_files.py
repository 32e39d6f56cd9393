"""JSON files of runs: one reader for all of them, which says what is wrong with a damaged one.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxdrl.errors import ConfigError
from jaxdrl.io.safe_files import open_existing, write_text

MAX_BYTES = 2**28
"""The largest file that is read as one object; those of runs have a few kilobytes."""

MAX_DEPTH = 50
"""How deeply objects and arrays may be nested."""

MAX_DIGITS = 20
"""The most digits of an integer; those of 64 bits have no more."""

SEAL = "sha256"
"""The field of a file that contains the digest of its other fields."""


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes `content` as indented JSON; a number that is not finite becomes null."""
    write_text(path, json.dumps(finite(content), indent=2) + "\n")


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """`write_json` with a digest of the content, by which `read_sealed` detects changes."""
    write_json(path, sealed(content))


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """`content` with its digest."""
    return content | {SEAL: digest(content)}


def as_written(content: dict[str, Any]) -> dict[str, Any]:
    """The content that reading a file written with `content` returns."""
    return json.loads(json.dumps(finite(content)))


def finite(value: Any) -> Any:
    """`value` for JSON: scalars of NumPy and JAX as numbers, and None if not finite."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if hasattr(value, "item"):  # of NumPy or JAX
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def digest(content: dict[str, Any]) -> str:
    """SHA-256 of an object without its seal, independent of the order and layout of its fields."""
    own = {name: value for name, value in content.items() if name != SEAL}
    text = json.dumps(finite(own), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_object(path: Path, works: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
      path: path of the file.
      works: advice for the message if the file is damaged.

    Raises:
      ConfigError: if the file cannot be read, or contains anything else.
    """
    value = _parse(read_bytes(path, works), f"{path}:", works)
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: is not a JSON object; {works}")
    if _is_deeper(value, MAX_DEPTH):
        raise ConfigError(f"{path}: is not JSON of a run (it is nested too deeply); {works}")
    return value


def read_sealed(path: Path, works: str) -> dict[str, Any]:
    """The object in a file that `write_sealed` wrote.

    Raises:
      ConfigError: as in `read_object`, and if the object was changed.
    """
    content = read_object(path, works)
    require_sealed(path, content, works)
    return content


def require_sealed(path: Path, content: dict[str, Any], works: str) -> None:
    """Refuses the content of a file if it was changed after it was written.

    Raises:
      ConfigError: naming the file.
    """
    if content.get(SEAL) != digest(content):
        raise ConfigError(
            f"{path}: was changed after it was written ({SEAL} does not match its values); {works}"
        )


def read_lines(path: Path, parse: Callable[[bytes, str], dict[str, Any]]) -> list[dict[str, Any]]:
    """The objects in a file with one per line; none without a file. A torn last line is left out.

    Args:
      path: path of the file.
      parse: `(line, name) -> object`; the name says which line it is.

    Raises:
      ConfigError: if the file cannot be read, or from `parse`.
    """
    if not path.exists() and not path.is_symlink():
        return []
    lines = read_bytes(path, "put back what was there", limit=None).split(b"\n")
    return [parse(line, f"{path}: line {i}") for i, line in enumerate(lines[:-1], start=1)]


def parse_line(
    line: bytes, name: str, works: str, check: Callable[[dict[str, Any]], str | None]
) -> dict[str, Any]:
    """The object in a line.

    Args:
      line: the line, with or without its end.
      name: its name in the message.
      works: advice for the message if the line is damaged.
      check: returns what is wrong with an object, or None.

    Raises:
      ConfigError: if the line contains anything else, or the check finds something.
    """
    record = _parse(line, name, works)
    wrong = check(record) if isinstance(record, dict) else "is not an object"
    if wrong is not None:
        raise ConfigError(f"{name} {wrong}; {works}")
    return record


def read_bytes(path: Path, works: str, limit: int | None = MAX_BYTES) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises:
      ConfigError: if it cannot be read or is larger, naming it.
    """
    try:
        with open_existing(path) as file:
            data = file.read(-1 if limit is None else limit + 1)
    except (OSError, ValueError) as error:  # ValueError if the path contains a NUL character
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read ({why}); {works}") from error
    if limit is not None and len(data) > limit:
        raise ConfigError(f"{path}: is larger than any that a run writes; {works}")
    return data


def _parse(data: bytes, name: str, works: str) -> Any:
    """The value of a JSON text, all of whose numbers fit a float."""
    try:
        text = data.decode()
        if text.startswith("\ufeff"):
            raise ValueError("it starts with a byte-order mark")
        return (_DECODER if _ODD.search(text) else _PLAIN).decode(text)
    except RecursionError as error:
        raise ConfigError(
            f"{name} is not JSON of a run (it is nested too deeply); {works}"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{name} is not JSON ({error}); {works}") from error


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"it contains a number with {len(text)} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(
            f"it contains the number {text[:MAX_DIGITS]}, which no float can represent"
        )
    return value


def _no_constant(text: str) -> None:
    raise ValueError(f"it contains {text}, which is not a number in JSON")


_ODD = re.compile(r"\d{21}|[eE][+-]?\d{3}|N|I")
"""Signs of a number that may not fit a float, or of a name that is not in JSON, such as NaN."""

_PLAIN = json.JSONDecoder()
"""Several times as fast as `_DECODER`, and equivalent to it if there are no such signs."""

_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_float, parse_constant=_no_constant)


def _is_deeper(value: Any, limit: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    items = value.values() if isinstance(value, dict) else value
    return limit == 0 or any(_is_deeper(item, limit - 1) for item in items)
