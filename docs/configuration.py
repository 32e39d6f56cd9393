"""Writes configuration.md, beside this file, from the dataclasses: python docs/configuration.py."""

import ast
import dataclasses
import inspect
import textwrap
from pathlib import Path

from jaxdrl.annotations import works
from jaxdrl.checks import hints_of
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.search_space import Sweep

PAGE = Path(__file__).with_suffix(".md")

HEAD = """\
# Configuration

Every setting of a run, what it may be, its default and what it means. In Python they are the fields
of `jaxdrl.Experiment` and `jaxdrl.PPOConfig`, both frozen; on the command line they are flags of
`jaxdrl train` and of the experiment scripts, in the spelling of the last column. A bad value is
refused before anything is compiled, with the nearest that works.

The defaults are those of the classes. `jaxdrl train ENV` starts from what is known to work for
`ENV` instead: `jaxdrl train ENV --help` shows it, and so does `jaxdrl.make_experiment(ENV)`.

This page is written by `python docs/configuration.py`.
"""


SPELLINGS = {
    "env": "the first argument",
    "ranges": "one flag a hyperparameter: `--learning-rate`, `--gamma`, ...",
    "pbt_factor": "in Python",
    "pbt_resample": "in Python",
    "wave": "set by a sweep in waves",
    "shapes": "`--shape NAME=CHOICE,CHOICE`, for each",
    "trial": "set by a search",
}
"""Where a setting is not a flag of its name."""


def explanations(config: type) -> dict[str, str]:
    """The text below each field of a dataclass."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(config))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = " ".join(ast.literal_eval(text.value).split())
    return found


def table(config: type, prefix: str = "--") -> list[str]:
    """Lines of a table of the fields of a config."""
    words, hints = explanations(config), hints_of(config)
    lines = ["| field | value | default | what | flag |", "| --- | --- | --- | --- | --- |"]
    for field in dataclasses.fields(config):
        if field.name in ("ppo", "sweep"):
            continue
        required = field.default is dataclasses.MISSING
        value = {} if field.default_factory is not dataclasses.MISSING else field.default
        default = "required" if required and value != {} else f"`{value!r}`"
        flag = prefix + {"from_run": "from"}.get(field.name, field.name).replace("_", "-")
        kind = works(hints[field.name])
        text = words[field.name].replace("|", "\\|")
        flag = SPELLINGS.get(field.name, f"`{flag}`")
        lines.append(f"| `{field.name}` | {kind} | {default} | {text} | {flag} |")
    return lines


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## Experiment", "", *table(Experiment), "", "## PPOConfig", ""]
    parts += ["The field `ppo` of an experiment.", "", *table(PPOConfig, "--")]
    about = "The field `sweep` of an experiment, by flags of `jaxdrl sweep`; None trains one agent."
    parts += ["", "## Sweep", "", about, "", *table(Sweep)]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
