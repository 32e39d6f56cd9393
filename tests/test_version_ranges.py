"""Which environments and tests `make test-lowest` runs, with scripts in place of uv and Python."""

import sys

import pytest

import other_pythons
import version_ranges
from test_other_pythons import script

UV = """
case "$1 $2" in
  "venv "*) for place; do :; done; mkdir -p "$place/bin"; cp "{run}" "$place/bin/python";;
esac
echo "$@" >> "{log}"
"""
RUN = """
echo "$0 $@" >> "{log}"
echo "tests/core failed"
case "$0" in *3.13.0*) exit 1;; esac
echo 5 passed
"""


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def uv(tmp_path, log):
    run = script(tmp_path / "run", RUN.format(log=log))
    return str(script(tmp_path / "uv", UV.format(log=log, run=run)))


@pytest.fixture
def pythons(tmp_path, monkeypatch):
    found = ("3.11.2", "3.11.7", "3.13.0", "3.14.0")
    paths = [script(tmp_path / version / "python3", f"echo {version}") for version in found]
    monkeypatch.setattr(other_pythons, "places", lambda: paths)
    monkeypatch.setattr(sys, "executable", str(paths[1]))
    return dict(zip(found, paths, strict=True))


def test_each_minor_version_is_tried_once(pythons):
    assert version_ranges.pythons("") == {
        "3.11.7": str(pythons["3.11.7"]),
        "3.13.0": pythons["3.13.0"],
    }
    assert version_ranges.pythons("3.13,3.12") == {"3.13.0": pythons["3.13.0"]}


@pytest.mark.parametrize(
    ("which", "resolution"), [("lowest", "lowest-direct"), ("newest", "highest")]
)
def test_what_failed_is_named_with_what_it_printed(
    which, resolution, uv, log, pythons, tmp_path, capsys
):
    venv = tmp_path / ".venv"
    assert version_ranges.main(which, uv, str(venv), "2", "ale,brax", "") == 1
    made, installed, tested, *_ = log.read_text().splitlines()
    place = f"{venv}-{which}-3.11.7"
    assert made == f"venv --quiet --clear --python {pythons['3.11.7']} {place}"
    assert f"--resolution {resolution} --editable .[test,ale,brax]" in installed
    assert tested.startswith(f"{place}/bin/python -m pytest ")
    assert tested.endswith(" ".join(version_ranges.TESTS))
    printed = capsys.readouterr().out
    assert f"---- {which} versions on Python 3.11.7: passed" in printed
    assert f"---- {which} versions on Python 3.13.0: FAILED" in printed
    assert printed.count("tests/core failed") == 1  # of the one that failed
    assert printed.endswith("on Python 3.11.7, 3.13.0; failed on 3.13.0\n")


def test_other_tests_and_one_python_can_be_chosen(uv, log, pythons, tmp_path, capsys):
    arguments = (uv, str(tmp_path / ".venv"), "2", "", "3.11", "tests/envs", "-x")
    assert version_ranges.main("lowest", *arguments) == 0
    assert log.read_text().splitlines()[-1].endswith("--compile=quickly tests/envs -x")
    assert capsys.readouterr().out.endswith("on Python 3.11.7: all passed\n")


def test_without_a_python_it_fails(uv, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(version_ranges, "pythons", lambda chosen: {})
    assert version_ranges.main("lowest", uv, str(tmp_path), "2", "", "") == 1
    assert "There is no supported Python" in capsys.readouterr().out
