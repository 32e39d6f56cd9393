"""Choices of what shapes the program, such as the width of a network.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any, Literal, get_origin, get_type_hints

from jaxdrl.annotations import may_be
from jaxdrl.checks import check_fields, hints_of, require
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.errors import ConfigError

OF_DEVICES = ("num_shards", "reproducible")
"""Settings that are no matter of learning."""

SHAPES = [
    name
    for name, hint in hints_of(PPOConfig).items()
    if not may_be(float, hint) and name not in OF_DEVICES
]
"""Settings of `PPOConfig` that shape the program."""


@dataclass(frozen=True)
class Choices:
    """Values that are tried one by one, as the command line has them, such as 64x64 and 256."""

    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        check_fields(self, "choices.")


def parse_choices(name: str, text: str) -> dict[str, Any]:
    """`CHOICE,CHOICE,...` of a setting that shapes the program: values by their text.

    Sizes have an x between them, such as `64x64,256`.

    Raises:
      ConfigError: naming what is no such setting, or no choice of it.
    """
    if name not in SHAPES:
        (close,) = difflib.get_close_matches(name, SHAPES, n=1, cutoff=0)
        works = f"is no setting that shapes the program; did you mean {close}?"
        if name in OF_DEVICES:
            works = f"is no matter of learning; --ppo.{name.replace('_', '-')} sets it"
        elif name in {field.name for field in dataclasses.fields(PPOConfig)}:
            works = f"varies within one program; --{name.replace('_', '-')} LOW:HIGH is its range"
        raise ConfigError(f"sweep.shapes.{name}: {works}")
    texts = [part.strip() for part in text.split(",")]
    works = "must have two choices or more, all different, such as 32,64,128"
    require(len(set(texts)) == len(texts) >= 2, f"sweep.shapes.{name}", text, works)
    hint = get_type_hints(PPOConfig)[name]
    return {part: _parse_choice(hint, name, part) for part in texts}


def _parse_choice(hint: Any, name: str, text: str) -> Any:
    try:
        if get_origin(hint) is tuple:
            return tuple(int(size) for size in text.split("x"))
        if get_origin(hint) is Literal:
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
