"""The parameters of an environment, any pytree, as a run directory stores and compares them.

Small plain values are stored as they are, so that a run keeps them even if a newer environment has
other defaults. Everything else is described by its shape, dtype and digest, and compared by them.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxdrl.core.trees import is_key
from jaxdrl.errors import ConfigError

MAX_WRITTEN = 64
"""The most numbers of an array that is stored as it is; larger arrays are described."""

Visit = Callable[[str, Any], Any]


def describe(params: Any) -> dict[str, Any]:
    """Every leaf by its path, ready for JSON: its value, or its shape, dtype and digest."""
    found: dict[str, Any] = {}

    def take(path: str, leaf: Any) -> Any:
        found[path] = _value(leaf) if _is_plain(leaf) else _summary(leaf)
        return leaf

    _map(take, params, "")
    return found


def restored(params: Any, stored: dict[str, Any]) -> Any:
    """`params` with the `stored` values, for a newer environment that has other defaults.

    Raises:
      ConfigError: naming a leaf that differs and of which only a digest is stored.
    """

    def take(path: str, leaf: Any) -> Any:
        there = stored.get(path)
        if there is None or _is_same(leaf, there):
            return leaf
        if isinstance(there, dict):
            raise _another(path, leaf, there)
        array = np.asarray(there, np.asarray(leaf).dtype)
        return jax.numpy.asarray(array) if array.ndim else type(leaf)(array.item())

    return _map(take, params, "")


def require_same(params: Any, stored: dict[str, Any]) -> None:
    """Refuses an environment that is given again with other parameters than the run had.

    Raises:
      ConfigError: naming a leaf that differs, or is missing.
    """
    missing = set(stored)

    def take(path: str, leaf: Any) -> Any:
        missing.discard(path)
        if path in stored and not _is_same(leaf, there := stored[path]):
            raise _another(path, leaf, there)
        return leaf

    _map(take, params, "")
    for name in sorted(missing):
        raise ConfigError(f"env: has no parameter {name}, which the run was made with; {_REMEDY}")


_REMEDY = "pass the same environment again"


def _another(path: str, leaf: Any, there: Any) -> ConfigError:
    here = _value(leaf) if _is_plain(leaf) and not isinstance(there, dict) else _summary(leaf)
    return ConfigError(
        f"env: its parameter {path} is {_words(here)}, and the run was made with "
        f"{_words(there)}; {_REMEDY}"
    )


def _words(described: Any) -> str:
    if not isinstance(described, dict):
        text = repr(described)
        return text if len(text) <= 80 else f"{text[:80]}..."
    if "sha256" not in described:
        return f"of type {described['type']}"
    shape = ", ".join(map(str, described["shape"]))
    return f"{described['dtype']}[{shape}] of digest {described['sha256'][:12]}"


def _is_same(leaf: Any, there: Any) -> bool:
    """Whether a leaf is what is stored, which may be longer than what is stored now."""
    if isinstance(there, dict):
        return _summary(leaf) == there
    # Earlier runs stored null for numbers that are not finite, and the whole of a table.
    return not _is_written(leaf) or _value(leaf) == there


def _is_plain(leaf: Any) -> bool:
    """Whether a leaf is stored as it is."""
    return _is_written(leaf) and (leaf is None or np.size(leaf) <= MAX_WRITTEN)


def _is_written(leaf: Any) -> bool:
    """Whether JSON can hold the value of a leaf."""
    if leaf is None or isinstance(leaf, bool | int | str):
        return True
    kind = "key" if is_key(leaf) else np.asarray(leaf).dtype.kind
    return kind in "biu" or (kind == "f" and bool(np.isfinite(leaf).all()))


def _value(leaf: Any) -> Any:
    return leaf if leaf is None or isinstance(leaf, bool | int | str) else np.asarray(leaf).tolist()


def _summary(leaf: Any) -> dict[str, Any]:
    array = np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
    if array.dtype.kind in "OU":
        return {"type": type(leaf).__name__}
    return {
        "shape": list(np.shape(leaf)),
        "dtype": str(leaf.dtype if is_key(leaf) else array.dtype),
        "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
    }


def _map(visit: Visit, tree: Any, path: str) -> Any:
    """`tree` with `visit(path, leaf)` for each leaf, including static fields of dataclasses."""
    if tree is None:
        return visit(path.lstrip(".") or "value", None)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)}
        mapped = {name: _map(visit, value, f"{path}.{name}") for name, value in fields.items()}
        changed = {name: new for name, new in mapped.items() if new is not fields[name]}
        return dataclasses.replace(tree, **changed) if changed else tree
    children, structure = jax.tree_util.tree_flatten_with_path(
        tree, is_leaf=lambda x: x is not tree
    )
    if len(children) == 1 and children[0][1] is tree:
        return visit(path.lstrip(".") or "value", tree)
    named = [(f"{path}{jax.tree_util.keystr(keys)}", child) for keys, child in children]
    return jax.tree.unflatten(structure, [_map(visit, child, name) for name, child in named])
