"""What `make` installs: versions in the ranges of pyproject.toml, on each Python, without hosts."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = (ROOT / "constraints.txt").read_text().splitlines()
PINS = [Requirement(line) for line in LINES if line and not line.startswith("#")]
EXTRAS = PROJECT["optional-dependencies"]


def environment(python, system):
    """What markers ask for."""
    own = {"python_version": python, "python_full_version": f"{python}.0"}
    own |= {"sys_platform": system[0], "platform_machine": system[1]}
    own["platform_system"] = {"linux": "Linux", "darwin": "Darwin"}[system[0]]
    return {**default_environment(), **own, "extra": ""}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize(
    "system", [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")], ids=" ".join
)
def test_there_is_one_version_of_each_dependency_and_it_is_in_its_range(python, system):
    where = environment(python, system)
    pinned = {}
    for pin in PINS:
        if pin.marker is None or pin.marker.evaluate(where):
            (version,) = pin.specifier
            assert version.operator == "=="
            name = canonicalize_name(pin.name)
            assert name not in pinned, f"two versions of {name} on Python {python}"
            pinned[name] = version.version
    for text in [*PROJECT["dependencies"], *(t for texts in EXTRAS.values() for t in texts)]:
        wanted = Requirement(text)
        if wanted.name == "jaxdrl" or (wanted.marker and not wanted.marker.evaluate(where)):
            continue
        found = pinned.get(canonicalize_name(wanted.name))
        assert found is not None, f"{text}: has no version in constraints.txt; run `make lock`"
        assert found in wanted.specifier, f"{text}: is {found} in constraints.txt; run `make lock`"


def test_it_names_versions_and_nothing_else():
    """No host, no file and no hash, with which pip would refuse the package itself."""
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+( ; .*)?", line) for line in LINES if line[0] != "#")
    assert not any("://" in line or "--" in line for line in LINES)


def test_make_installs_them():
    makefile = (ROOT / "Makefile").read_text()
    assert makefile.count("pip install") == makefile.count("--constraint constraints.txt") + 1
    assert "\n$(core) $(dev): pyproject.toml constraints.txt | venv\n" in makefile
