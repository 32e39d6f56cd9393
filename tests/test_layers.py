"""A file imports from its own folder or from a lower layer, and no files import in a circle."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LAYERS = (
    ("errors",),
    ("annotations",),
    ("checks",),
    ("io",),
    ("config", "core"),
    ("distributed", "envs"),
    ("networks",),
    ("algorithms",),
    ("actors",),
    ("evaluation",),
    ("populations",),
    ("runs",),
    ("analysis",),
    ("sweeps", "serving"),
    ("launch",),
    ("cli",),
    ("__main__",),
)
"""Folders and files of the package, lowest first; those of one layer do not know each other."""

HEIGHT = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}


def modules(root):
    """Paths of the package below `root` by dotted name, but for the front page of the package."""
    found = {}
    for path in sorted((root / "jaxdrl").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found.pop("jaxdrl", None)
    return found


def imports(path, known):
    """Names of modules in `known` that a file imports, at its top, in functions or for types."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in known or node.module in known:
                    yield inner if inner in known else node.module


def room_of(module):
    return module.split(".")[1]


def wrong_imports(root):
    """`a -> b` of every import that is neither within a folder nor of a lower layer."""
    known = modules(root)
    return [
        f"{module} -> {other}"
        for module, path in known.items()
        for other in imports(path, known)
        if room_of(other) != room_of(module) and HEIGHT[room_of(other)] >= HEIGHT[room_of(module)]
    ]


def circle(root):
    """The modules of a circle of imports, none where there is no circle."""
    known = modules(root)
    below = {module: set(imports(path, known)) - {module} for module, path in known.items()}
    while below:
        free = [module for module, others in below.items() if not others & below.keys()]
        if not free:
            return sorted(below)
        for module in free:
            del below[module]
    return []


def test_every_part_of_the_package_has_a_layer():
    assert {room_of(module) for module in modules(ROOT)} == HEIGHT.keys()


def test_imports_go_down():
    assert wrong_imports(ROOT) == []


def test_no_files_import_in_a_circle():
    assert circle(ROOT) == []


@pytest.mark.parametrize(
    "line",
    [
        "from jaxdrl.runs.loop import TrainingLoop",
        "from jaxdrl.runs import loop",
        "import jaxdrl.runs.loop",
        "def late():\n    from jaxdrl.runs import loop",
    ],
)
def test_an_import_that_goes_up_is_found(tmp_path, line):
    for name, text in {"core/returns.py": line, "runs/loop.py": ""}.items():
        path = tmp_path / "jaxdrl" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert wrong_imports(tmp_path) == ["jaxdrl.core.returns -> jaxdrl.runs.loop"]


def test_a_circle_is_found(tmp_path):
    (tmp_path / "jaxdrl/core").mkdir(parents=True)
    for name, other in {"a": "b", "b": "c", "c": "a", "d": "a"}.items():
        (tmp_path / f"jaxdrl/core/{name}.py").write_text(f"from jaxdrl.core import {other}")
    assert circle(tmp_path) == [f"jaxdrl.core.{name}" for name in "abcd"]
