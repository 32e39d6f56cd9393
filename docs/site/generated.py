"""Pages that are written from the code: entries of the public names, and the help of each verb."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import pkgutil
import re
import textwrap
from collections.abc import Iterable
from unittest import mock

import jaxdrl
from jaxdrl.cli import main as command_line

VERBS = re.compile(r"• ([a-z-]+) ")


RESULTS = (
    *("jaxdrl.runs.train_run.Run", "jaxdrl.runs.restore.Restored"),
    *("jaxdrl.analysis.evaluate_run.RunEvaluation", "jaxdrl.evaluation.episodes.Evaluation"),
    *("jaxdrl.evaluation.matches.Match", "jaxdrl.evaluation.tournament.RoundRobin"),
    *("jaxdrl.analysis.export.Exported", "jaxdrl.serving.followed_policy.FollowedPolicy"),
    *("jaxdrl.serving.client.Client", "jaxdrl.serving.decisions.Decision"),
    "jaxdrl.serving.source.Version",
)
"""Classes that only the functions above make."""


def api_pages(groups: dict[str, list[str]], submodules: list[str]) -> dict[str, str]:
    """A page for each group of public names, one of what they return, and one of submodules.

    Args:
      groups: names by heading.
      submodules: dotted names of modules and of what is in them.
    """
    missing = set(jaxdrl.__all__) - {name for names in groups.values() for name in names}
    if missing:
        raise SystemExit(f"docs/reference.md lacks {', '.join(sorted(missing))}")
    pages = {}
    for number, (heading, names) in enumerate(groups.items(), 1):
        pages[f"api/{number}-{heading.lower()}.md"] = _page(
            heading.lower(), [f"jaxdrl.{name}" for name in names]
        )
    pages["api/8-results.md"] = _page("what functions return", RESULTS)
    pages["api/9-submodules.md"] = _page("submodules", submodules)
    return pages


def _page(title: str, names: Iterable[str]) -> str:
    entries = "\n".join(_entry(name) for name in names)
    return f"# API: {title}\n\n{entries}"


def _entry(name: str) -> str:
    """The directive that writes the entry of a dotted name from its docstring."""
    found = pkgutil.resolve_name(name)
    if inspect.ismodule(found):
        lines = [f".. automodule:: {found.__name__}", "   :members:"]
    elif inspect.isclass(found):
        has_fields = "Attributes:" in (inspect.getdoc(found) or "")
        members = _methods(found) if has_fields else ["   :members:"]
        lines = [f".. autoclass:: {name}", *members]
    elif callable(found):
        lines = [f".. autofunction:: {name}"]
    else:
        lines = [f".. autodata:: {name}"]
    directive = "\n".join(lines)
    return f"## {name.removeprefix('jaxdrl.')}\n\n```{{eval-rst}}\n{directive}\n```\n"


def _methods(found: type) -> list[str]:
    """The option that adds the methods of a class, whose fields are in its docstring."""
    own = [name for name, x in vars(found).items() if inspect.isfunction(x) or type(x) is property]
    public = [name for name in own if not name.startswith("_") or name == "__call__"]
    return [f"   :members: {', '.join(public)}"] if public else []


def command_page() -> str:
    """The help of `jaxdrl` and of each of its verbs, as a narrow terminal shows it."""
    general = help_of()
    parts = [_section("jaxdrl", general)]
    parts += [_section(f"jaxdrl {verb}", help_of(verb)) for verb in VERBS.findall(general)]
    about = (
        "What `--help` prints. The settings of `train` and `sweep` are those of PPO for no task; "
        "`jaxdrl train ENV --algorithm NAME --help` shows those of a task and an algorithm.\n"
    )
    return "\n".join(["# The command line: every flag\n", about, *parts])


def help_of(*args: str) -> str:
    """What a command prints for `--help`."""
    output = io.StringIO()
    with (
        mock.patch.dict(os.environ, {"COLUMNS": "84", "NO_COLOR": "1", "TERM": "dumb"}),
        contextlib.redirect_stdout(output),
        contextlib.suppress(SystemExit),
    ):
        command_line.main([*args, "--help"])
    return output.getvalue()


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n```text\n{textwrap.dedent(text).strip()}\n```\n"
