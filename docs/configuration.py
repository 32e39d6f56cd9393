"""Writes configuration.md, beside this file, from the dataclasses: python docs/configuration.py."""

import ast
import dataclasses
import inspect
import textwrap
from pathlib import Path

from jaxdrl.annotations import works
from jaxdrl.checks import hints_of
from jaxdrl.config.execution import ExecutionConfig
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.network import NetworkConfig
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.search_space import Sweep
from jaxdrl.config.settings import HYPERPARAMETER

PAGE = Path(__file__).with_suffix(".md")

HEAD = """\
# Configuration

Every setting of a run: its allowed values, its default and its meaning. In Python, settings are
fields of frozen dataclasses: `jaxdrl.Experiment` holds the settings of the algorithm,
`jaxdrl.PPOConfig`, which holds `jaxdrl.NetworkConfig` and `jaxdrl.ExecutionConfig`. No two of them
have a field of the same name. On the command line each field is a flag of `jaxdrl train`, without
the names of the classes around it, and in Python `jaxdrl.make_experiment(env, **settings)`,
`jaxdrl.make_config(env, **settings)` and `jaxdrl.with_settings(config, **settings)` take each one
by its name as well. A bad value is refused before anything is compiled, and the message names the
nearest value that works.

The defaults below are those of the classes. `jaxdrl train ENV` starts from the tuned preset of
`ENV` instead: `jaxdrl train ENV --help` shows it, and so does `jaxdrl.make_experiment(ENV)`.

A setting marked * may vary within one program: the members of a sweep or of a population may each
have a value of their own. `jaxdrl sweep` takes `LOW:HIGH` or `log:LOW:HIGH` for it.

This page is written by `python docs/configuration.py`.
"""


SPELLINGS = {
    "env": "the first argument",
    "ranges": "`LOW:HIGH` in place of a value: `--learning-rate log:1e-4:1e-2`",
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


def table(config: type) -> list[str]:
    """Lines of a table of the fields of a config."""
    words, hints = explanations(config), hints_of(config)
    lines = ["| field | value | default | what | flag |", "| --- | --- | --- | --- | --- |"]
    for field in dataclasses.fields(config):
        if field.name in ("algorithm", "network", "execution", "sweep"):
            continue
        required = field.default is dataclasses.MISSING
        value = {} if field.default_factory is not dataclasses.MISSING else field.default
        default = "required" if required and value != {} else f"`{value!r}`"
        flag = "--" + {"from_run": "from"}.get(field.name, field.name).replace("_", "-")
        kind = works(hints[field.name])
        text = words[field.name].replace("|", "\\|")
        flag = SPELLINGS.get(field.name, f"`{flag}`")
        mark = " *" if HYPERPARAMETER in field.metadata else ""
        lines.append(f"| `{field.name}`{mark} | {kind} | {default} | {text} | {flag} |")
    return lines


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## Experiment", "", *table(Experiment), "", "## PPOConfig", ""]
    parts += ["The field `algorithm` of an experiment.", "", *table(PPOConfig)]
    parts += ["", "## NetworkConfig", "", "The field `network` of the settings of an algorithm."]
    parts += ["", *table(NetworkConfig), "", "## ExecutionConfig", ""]
    parts += ["The field `execution` of the settings of an algorithm.", "", *table(ExecutionConfig)]
    about = "The field `sweep` of an experiment, by flags of `jaxdrl sweep`; None trains one agent."
    parts += ["", "## Sweep", "", about, "", *table(Sweep)]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
