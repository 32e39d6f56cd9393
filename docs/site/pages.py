"""The pages of the documentation site, copied from the repository into a folder for Sphinx.

The folder mirrors the repository, so that links between pages hold as they are. Links to files that
are no pages, such as source code, lead to the repository on the web.
"""

from __future__ import annotations

import inspect
import json
import os
import posixpath
import re
import shutil
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import jaxdrl

ROOT = Path(__file__).resolve().parents[2]
START = "README.md"
FRONT = "index.md"
"""The README is the front page."""

GROUPS = {
    "Start": ("docs/installation.md", "docs/commands.md", "docs/troubleshooting.md"),
    "Tutorials": ("notebooks/*.ipynb",),
    "How to": (
        *("docs/environments.md", "docs/suites.md", "docs/host-environments.md"),
        *("docs/networks.md", "docs/own-algorithm.md", "docs/agents.md", "docs/populations.md"),
        *("docs/asynchronous.md", "docs/hosts.md", "docs/serving.md", "docs/onnx.md"),
        "docs/results.md",
    ),
    "Explanations": (
        *("docs/concepts.md", "docs/algorithms.md", "docs/devices.md", "docs/numerics.md"),
    ),
    "Reference": (
        *("docs/reference.md", "api/*.md", "docs/command-line.md", "docs/configuration.md"),
        *("docs/performance.md", "experiments/results/learning_table.md", "experiments/README.md"),
    ),
    "Project": ("CHANGELOG.md", "CONTRIBUTING.md", "docs/README.md"),
}
"""The navigation: pages by heading."""

BESIDE = ("experiments/results/*/learning_table.md",)
"""Pages that only links lead to."""

LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
CODE = re.compile(r"(^ *```.*?^ *```)", re.MULTILINE | re.DOTALL)


def repository() -> str:
    """The address of the repository, from pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project.get("urls", {}).get("Repository", "https://github.com/jaxdrl/jaxdrl")


def stage(to: Path, generated: dict[str, str]) -> None:
    """Writes all pages below `to`, which is emptied first.

    Args:
      to: the folder.
      generated: text of pages that are no files of the repository, by path.
    """
    shutil.rmtree(to, ignore_errors=True)
    for path, text in generated.items():
        _write(to / path, text)
    patterns = [START, *BESIDE, *(name for names in GROUPS.values() for name in names)]
    sources = sorted({path for pattern in patterns for path in ROOT.glob(pattern)})
    pages = {path.relative_to(ROOT).as_posix() for path in sources} | generated.keys()
    for source in sources:
        name = source.relative_to(ROOT).as_posix()
        if source.suffix == ".ipynb":
            _write(to / name, _notebook(source, name, pages, to))
        else:
            text = _relinked(source.read_text(), name, pages, to)
            if any(fnmatch(name, pattern) for pattern in BESIDE):
                text = f"---\norphan: true\n---\n\n{text}"
            _write(to / (FRONT if name == START else name), text)
    reference = to / "docs/reference.md"
    reference.write_text(
        re.sub(r"^\| (`[\w.`, ]+`) \|", _entries, reference.read_text(), flags=re.M)
    )
    with (to / FRONT).open("a") as front:
        front.write(_navigation(to))


def public_names() -> dict[str, list[str]]:
    """The names in the first table of docs/reference.md, by heading."""
    table = (ROOT / "docs/reference.md").read_text().partition("## In submodules")[0]
    found: dict[str, list[str]] = {}
    for line in table.splitlines():
        if heading := re.match(r"\| \*\*(.+?)\*\*", line):
            names = found.setdefault(heading[1], [])
        elif name := re.match(r"\| `(\w+)` \|", line):
            names.append(name[1])
    return found


def submodule_names() -> list[str]:
    """The dotted names in the second table of docs/reference.md."""
    table = (ROOT / "docs/reference.md").read_text().partition("## In submodules")[2]
    rows = re.findall(r"^\| (`jaxdrl[^|]*) \|", table, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]


def _navigation(to: Path) -> str:
    """Hidden tables of contents, which become the navigation."""
    parts = []
    for heading, patterns in GROUPS.items():
        paths = [path for pattern in patterns for path in sorted(to.glob(pattern))]
        names = "\n".join(path.relative_to(to).as_posix() for path in paths)
        parts.append(f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{names}\n```\n")
    return "".join(parts)


def _entries(row: re.Match[str]) -> str:
    """The first column of the reference, with links to the entries of the names."""
    names = re.findall(r"`([\w.]+)`", row[1])
    return f"| {', '.join(f'{{py:obj}}`{name} <{_full_name(name)}>`' for name in names)} |"


def _full_name(name: str) -> str:
    """The dotted name of a name of the reference, as its entry has it."""
    if name.startswith("jaxdrl."):
        return name
    found = getattr(jaxdrl, name)
    return found.__name__ if inspect.ismodule(found) else f"jaxdrl.{name}"


def _notebook(source: Path, name: str, pages: set[str], to: Path) -> str:
    content = json.loads(source.read_text())
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = _relinked("".join(cell["source"]), name, pages, to)
    return json.dumps(content)


def _relinked(text: str, name: str, pages: set[str], to: Path) -> str:
    """A page with links to what is no page leading to the repository; pictures are copied."""

    def link(found: re.Match[str]) -> str:
        before, target, after = found.groups()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        source = ROOT / path
        if "://" in target or not source.exists():
            return found[0]  # which the build refuses unless it is an address
        if path == START:
            front = posixpath.relpath(FRONT, posixpath.dirname(name) or ".")
            return f"{before}{front}{after}"
        if path in pages:
            return found[0]
        if source.suffix in (".png", ".gif", ".svg"):
            (to / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, to / path)
            return found[0]
        kind = "tree" if source.is_dir() else "blob"
        return f"{before}{repository()}/{kind}/main/{path}{after}"

    parts = CODE.split(text)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (0, 0))  # Sphinx builds anew what is newer than before
