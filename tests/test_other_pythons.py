"""Which Pythons are tried, and what is said of them, with scripts that say to be one."""

import platform
import sys

import pytest
from packaging.specifiers import SpecifierSet

import other_pythons


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def pythons(tmp_path):
    """Two of one version, the own one, two that are not supported, and two that do not run."""
    texts = ("echo 3.13.0", "echo 3.12.1", "echo 3.12.1", "echo 3.11.7", "echo 3.10.13")
    texts += ("echo 3.14.0", "echo 3.11.9; exit 1", "echo")
    return [script(tmp_path / str(i) / "python3", text) for i, text in enumerate(texts)]


def test_every_supported_version_but_the_own_is_tried_once(pythons):
    found = other_pythons.others("3.11.7", SpecifierSet(">=3.11,<3.14"), pythons)
    assert found == {"3.12.1": pythons[1], "3.13.0": pythons[0]}


def test_they_are_looked_for_on_the_path_and_where_pyenv_has_them(tmp_path, monkeypatch):
    names = ("bin/python3", "bin/python3.12", "versions/3.13.0/bin/python3")
    wanted = [script(tmp_path / name, "") for name in names]
    for name in ("bin/python", "bin/python3-config", "bin/python3.12-config", "bin/python3.x"):
        script(tmp_path / name, "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    assert other_pythons.places() == wanted


def test_a_python_is_asked_for_its_version():
    pytest.importorskip("ensurepip")  # which a Debian without python3-venv lacks
    assert other_pythons.version_of(sys.executable) == platform.python_version()


def test_without_another_python_it_says_so_and_passes(capsys):
    assert other_pythons.main("false", ".venv", "2", [sys.executable]) == 0
    assert "is at hand: nothing else to try" in capsys.readouterr().out


def test_the_one_that_fails_is_named_with_what_it_printed(pythons, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.7")
    make = script(tmp_path / "make", 'echo "$@"; echo done; case "$*" in *3.13.0*) exit 2;; esac')
    pair = pythons[:2]
    assert other_pythons.main(str(make), ".venv", "2", pair) == 1
    printed = capsys.readouterr().out
    assert "Tried on Python 3.12.1, 3.13.0 besides 3.11.7" in printed
    assert "---- Python 3.12.1: passed" in printed
    assert "---- Python 3.13.0: FAILED" in printed
    assert printed.strip().endswith("failed on 3.13.0")
    whole = f"test-here PYTHON={pair[0]} VENV=.venv-3.13.0 EXTRAS=test\ndone\n"
    assert whole in printed and "VENV=.venv-3.12.1" not in printed


def test_an_environment_that_was_made_for_this_goes_when_it_has_passed(
    pythons, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.7")
    text = 'for word; do case "$word" in VENV=*) mkdir -p "${word#VENV=}";; esac; done'
    make = script(tmp_path / "make", f'{text}; case "$*" in *3.13.0*) exit 2;; esac')
    venv = tmp_path / "venv"
    kept = [tmp_path / "venv-3.11.9", tmp_path / "venv-3.13.0"]
    kept[0].mkdir()  # was there before
    pythons[6] = script(pythons[6], "echo 3.11.9")
    assert other_pythons.main(str(make), str(venv), "1", [*pythons[:2], pythons[6]]) == 1
    assert sorted(tmp_path.glob("venv-*")) == kept
    assert "---- Python 3.12.1: passed" in capsys.readouterr().out
