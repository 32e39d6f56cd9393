"""A test run whose worker dies ends, fails, and names it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PASSES = "def test_passes(): pass\n"
DIES = """
import os

def {function}():
    if "PYTEST_XDIST_WORKER" in os.environ:
        os._exit(0)
"""


@pytest.mark.parametrize(
    ("file", "function", "words"),
    [
        ("test_dying.py", "test_dies", "crashed while running 'test_dying.py::test_dies'"),
        ("conftest.py", "pytest_sessionfinish", "xdist: worker gw"),  # after its tests
    ],
)
def test_a_worker_that_dies_ends_the_run_and_is_named(tmp_path, file, function, words):
    for name in "abc":
        (tmp_path / f"test_{name}.py").write_text(PASSES)
    (tmp_path / file).write_text(DIES.format(function=function))
    outer = {name: text for name, text in os.environ.items() if "PYTEST" not in name}
    settings = ["-c", str(TESTS.parent / "pyproject.toml"), "--rootdir", str(tmp_path)]
    process = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "workers", *settings, "-n", "2", "."],
        cwd=tmp_path,
        env=outer | {"PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert words in process.stdout, process.stdout + process.stderr
    assert process.returncode == 1
