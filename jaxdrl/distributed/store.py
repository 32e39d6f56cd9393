"""A key-value store that the processes of a run share: that of JAX's coordinator in process 0."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Store(NamedTuple):
    """Functions of a store of texts; they may be called from several threads.

    Attributes:
      set: `(key, text)`; replaces an earlier text.
      get: `(key) -> text`, None where there is none.
      wait: `(key, seconds) -> text` as soon as there is one, None after that time.
      all: `(prefix) -> [(rest of the key, text)]` of the keys below `prefix/`.
    """

    set: Callable[[str, str], None]
    get: Callable[[str], str | None]
    wait: Callable[[str, float], str | None]
    all: Callable[[str], list[tuple[str, str]]]


def local_store() -> Store:
    """The store of a single process."""
    texts: dict[str, str] = {}
    changed = threading.Condition()

    def put(key: str, text: str) -> None:
        with changed:
            texts[key] = text
            changed.notify_all()

    def wait(key: str, seconds: float) -> str | None:
        with changed:
            changed.wait_for(lambda: key in texts, seconds)
            return texts.get(key)

    def below(prefix: str) -> list[tuple[str, str]]:
        with changed:
            found = [(key, text) for key, text in texts.items() if key.startswith(f"{prefix}/")]
        return [(key.removeprefix(f"{prefix}/"), text) for key, text in found]

    return Store(put, texts.get, wait, below)


def coordinator_store(client: Any, root: str) -> Store:
    """The store of JAX's coordinator, below the key `root`.

    Args:
      client: JAX's client of its coordinator.
      root: a prefix of all keys, such as one for each run of a process.
    """

    def get(key: str) -> str | None:
        return _found(lambda: client.key_value_try_get(f"{root}/{key}"), "NOT_FOUND")

    def wait(key: str, seconds: float) -> str | None:
        milliseconds = int(1000 * seconds)
        return _found(
            lambda: client.blocking_key_value_get(f"{root}/{key}", milliseconds),
            "DEADLINE_EXCEEDED",
        )

    def below(prefix: str) -> list[tuple[str, str]]:
        start = f"{root}/{prefix}/"
        return [(key.removeprefix(start), text) for key, text in client.key_value_dir_get(start)]

    return Store(
        lambda key, text: client.key_value_set(f"{root}/{key}", text, True), get, wait, below
    )


def _found(ask: Callable[[], str], absent: str) -> str | None:
    """The answer, None where the error of the coordinator says that there is none."""
    try:
        return ask()
    except jax.errors.JaxRuntimeError as error:
        if absent not in str(error):
            raise
        return None
