"""The documentation site builds without a warning, and has what the repository has."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxdrl

ROOT = Path(__file__).parent.parent
SITE = ROOT / "docs/site"


def load(name):
    spec = importlib.util.spec_from_file_location(name, SITE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages():
    return load("pages")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    process = subprocess.run(
        [sys.executable, SITE / "build.py", out], capture_output=True, text=True, timeout=600
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return out


def test_every_public_name_has_an_entry(site):
    text = "".join(path.read_text() for path in site.glob("api/*.html"))
    entries = set(re.findall(r'id="((?:module-)?jaxdrl[\w.]*)"', text))
    names = {f"jaxdrl.{name}" for name in jaxdrl.__all__ if name != "spaces"}
    assert names <= entries and "module-jaxdrl.core.spaces" in entries
    assert "jaxdrl.serving.followed_policy.FollowedPolicy.switch" in entries


def test_pages_pictures_and_the_search_are_there(site):
    for name in ("index", "docs/serving", "notebooks/01_quickstart", "docs/command-line", "search"):
        assert (site / f"{name}.html").stat().st_size > 5000
    front = (site / "index.html").read_text()
    for source in re.findall(r'<img [^>]*src="([^"]+)"', front):
        assert (site / source).exists()
    assert (site / "searchindex.js").exists()
    command_line = (site / "docs/command-line.html").read_text()
    for verb in ("train", "resume", "evaluate", "doctor"):
        assert f"usage: jaxdrl {verb}" in command_line
    reference = (site / "docs/reference.html").read_text()
    assert "api/2-runs.html#jaxdrl.run" in reference


def test_what_links_lead_to(pages, tmp_path):
    known = {"README.md", "docs/results.md"}
    text = (
        "[a](../README.md#train) [b](results.md) [c](../jaxdrl/core) [d](../LICENSE) "
        "[e](https://example.org/x) [f](nowhere.md)\n![g](images/throughput.png)\n"
        "```python\nx[0](../LICENSE)\n```\n"
    )
    found = pages._relinked(text, "docs/devices.md", known, tmp_path)
    web = pages.repository()
    assert found == (
        f"[a](../index.md#train) [b](results.md) [c]({web}/tree/main/jaxdrl/core) "
        f"[d]({web}/blob/main/LICENSE) [e](https://example.org/x) [f](nowhere.md)\n"
        "![g](images/throughput.png)\n```python\nx[0](../LICENSE)\n```\n"
    )
    assert (tmp_path / "docs/images/throughput.png").exists()


def test_a_broken_link_or_reference_fails(tmp_path):
    (tmp_path / "pages").mkdir()
    broken = "[a](there.md) [b](#below) {py:obj}`jaxdrl.nothing`"
    (tmp_path / "pages/index.md").write_text(f"# Title\n\n{broken}\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import build, pathlib;"
        "sys.exit(build.build(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, SITE, tmp_path / "pages", tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode != 0
    assert all(name in process.stderr for name in ("'there.md'", "'below'", "jaxdrl.nothing"))
