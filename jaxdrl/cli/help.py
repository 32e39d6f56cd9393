"""What `--help` and `--version` print, the former in lines that fit the terminal.

Importing this module imports neither jax nor gymnax.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import io
import re
import shutil
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from jaxdrl import __version__

VALUES = {
    "env_params": "NAME VALUE ...",
    "randomize": "NAME=LOW:HIGH ...",
    "track": "NAME ...",
    "critic_only": "NAME ...",
    "hidden_sizes": "INT ...",
    "cnn_channels": "INT ...",
    "cnn_kernel_sizes": "INT ...",
    "cnn_strides": "INT ...",
    "shape": "NAME=CHOICE,CHOICE",
}
"""What stands for the values of a setting that has several or whose type says too little."""

STYLE = re.compile(r"\x1b\[[\d;]*m")
"""What makes text bold or coloured in a terminal."""


def versions() -> str:
    """Version of jaxdrl, and of what decides its numbers most; imports none of them."""
    import platform  # which only this needs
    from importlib.metadata import version

    packages = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib"))
    return f"jaxdrl {__version__}\n{packages}, Python {platform.python_version()}"


def explanations(config: type) -> dict[str, str]:
    """The text below each field of a dataclass, as one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(config))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = " ".join(ast.literal_eval(text.value).split())
    return found


def first_paragraph(function: Callable) -> str:
    """What a verb does, in its first sentence."""
    return (inspect.getdoc(function) or "").partition("\n\n")[0]


def whole_description(function: Callable) -> str:
    """What a verb does, without its arguments."""
    return (inspect.getdoc(function) or "").partition("\nArgs:")[0]


def registry() -> ConstructorRegistry:
    """How tyro shows settings: `INT` where None is allowed too, and explanations as one line."""
    made = ConstructorRegistry()
    made.primitive_rule(_optional)
    made.struct_rule(_config)
    return made


def _optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """A value or None, shown as the value alone: the explanation says what None means."""
    kinds = get_args(info.type)
    if get_origin(info.type) not in (Union, types.UnionType) or type(None) not in kinds:
        return None
    others: Any = Union.__getitem__(tuple(kind for kind in kinds if kind is not type(None)))
    made = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(others, info.markers))
    if not isinstance(made, PrimitiveConstructorSpec) or made.nargs != 1:
        return None
    spec = made
    return dataclasses.replace(
        spec,
        choices=None if spec.choices is None else (*spec.choices, "None"),
        instance_from_str=lambda args: None if args == ["None"] else spec.instance_from_str(args),
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: (
            ["None"] if value is None else spec.str_from_instance(value)
        ),
    )


def _config(info: StructTypeInfo) -> StructConstructorSpec | None:
    """A config of jaxdrl, whose explanations tyro would break where the source has a line break."""
    config: Any = info.type
    if not (dataclasses.is_dataclass(info.type) and config.__module__.startswith("jaxdrl.")):
        return None
    hints = get_type_hints(config, include_extras=True)
    fields = (
        StructFieldSpec(
            name=field.name,
            type=Annotated[hints[field.name], _shown(field.name)],  # type: ignore[arg-type]
            default=_default(field, info.default),
            helptext=partial(_explanation, config, field.name),
        )
        for field in dataclasses.fields(config)
    )
    return StructConstructorSpec(instantiate=config, fields=tuple(fields))


def _shown(name: str) -> Any:
    hint = None if name == "shape" else default_in_words  # which tyro calls repeatable
    return tyro.conf.arg(metavar=VALUES.get(name), help_behavior_hint=hint)


def default_in_words(label: str) -> str:
    """The default of a setting, `none` where it has no values."""
    return f"(default: {label})" if label else "(default: none)"


def _default(field: dataclasses.Field, instance: Any) -> Any:
    if instance is not tyro.MISSING and dataclasses.is_dataclass(instance):
        return getattr(instance, field.name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return tyro.MISSING if field.default is dataclasses.MISSING else field.default


_explanations = cache(explanations)


def _explanation(config: type, name: str) -> str | None:
    return _explanations(config).get(name)


@contextlib.contextmanager
def fitted(args: Sequence[str]) -> Iterator[None]:
    """A context in which the help that `args` ask for is broken between words, if at all.

    tyro fits its boxes into the terminal, but neither the line of usage nor the description.
    """
    own = args[: args.index("--")] if "--" in args else args
    out: Any = sys.stdout  # None where it was closed
    if not {"-h", "--help"} & set(own):
        yield
        return
    printed = io.TextIOWrapper(io.BytesIO(), encoding=getattr(out, "encoding", None) or "utf-8")
    printed.isatty = getattr(out, "isatty", bool)  # type: ignore[method-assign]
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        printed.seek(0)
        print(fit(printed.read(), shutil.get_terminal_size().columns), end="")


def fit(text: str, width: int) -> str:
    """Text whose lines are broken between words, and lose their style, where they are too long."""
    lines: list[str] = []
    for line in text.splitlines():
        seen = STYLE.sub("", line)
        brief = re.sub(r"^(usage: \S+ \[-h\]) \{[\w,-]+\}$", r"\1 [--version] VERB ...", seen)
        if not seen and lines and not lines[-1]:  # tyro leaves two between paragraphs
            continue
        if brief == seen and len(seen) <= width:
            lines.append(line)
        else:
            indent = "    " if seen.startswith("usage:") else ""
            how: Any = {"break_long_words": False, "break_on_hyphens": False}
            lines += textwrap.wrap(brief, width, subsequent_indent=indent, **how)
    return "".join(f"{line}\n" for line in lines)
