"""Choices of what shapes the program, such as the width of a network.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import difflib
import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from jaxdrl.checks import check_fields, require
from jaxdrl.config.settings import settings_of
from jaxdrl.errors import ConfigError

OF_DEVICES = ("num_shards", "reproducible")
"""Settings that change how a step is computed, and not what is learned."""


@dataclass(frozen=True)
class Choices:
    """Values that are tried one by one, as the command line has them, such as 64x64 and 256."""

    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        check_fields(self, "choices.")


def shapes_of(config: Any) -> list[str]:
    """The settings of an algorithm that shape the program."""
    settings = settings_of(config).values()
    return [s.name for s in settings if not s.varies and s.name not in OF_DEVICES]


def parse_choices(config: Any, name: str, text: str) -> dict[str, Any]:
    """`CHOICE,CHOICE,...` of a setting that shapes the program: values by their text.

    Sizes have an x between them, such as `64x64,256`, and names a plus, such as `None,a,a+b`.

    Args:
      config: of the algorithm.
      name: of the setting.
      text: the choices.

    Raises:
      ConfigError: naming a setting that does not shape the program, or a text that is not a value
        of it.
    """
    settings = settings_of(config)
    if name not in shapes_of(config):
        (close,) = difflib.get_close_matches(name, shapes_of(config), n=1, cutoff=0)
        works = f"is not a setting that shapes the program; did you mean {close}?"
        if name in OF_DEVICES:
            works = f"does not change what is learned; --{name.replace('_', '-')} sets it"
        elif name in settings:
            works = f"varies within one program; --{name.replace('_', '-')} LOW:HIGH is its range"
        raise ConfigError(f"sweep.shapes.{name}: {works}")
    texts = [part.strip() for part in text.split(",")]
    works = "must have two choices or more, all different, such as 32,64,128"
    require(len(set(texts)) == len(texts) >= 2, f"sweep.shapes.{name}", text, works)
    hint = _plain(settings[name].hint)
    return {part: _parse_choice(hint, name, part) for part in texts}


def _plain(hint: Any) -> Any:
    """A hint without its bounds."""
    if get_origin(hint) is Annotated:
        return _plain(get_args(hint)[0])
    if get_origin(hint) in (types.UnionType, Union):
        return Union[tuple(map(_plain, get_args(hint)))]  # noqa: UP007
    return hint


def _parse_choice(hint: Any, name: str, text: str) -> Any:
    try:
        if hint == tuple[str, ...]:
            return () if text == "None" else tuple(text.split("+"))
        if get_origin(hint) is tuple:
            return tuple(int(size) for size in text.split("x"))
        if get_origin(hint) is Literal or hint is str:
            return text  # which the config checks
        if hint is bool:
            return {"True": True, "False": False}[text]
        return None if text == "None" and hint is not int else int(text)
    except (ValueError, KeyError) as error:
        kinds = {bool: "True or False", int: "an integer"}
        works = kinds.get(hint, "an integer or None")
        if get_origin(hint) is tuple:
            works = "integers with an x between, such as 64x64"
        raise ConfigError(f"sweep.shapes.{name} = {text!r}: must be {works}") from error
