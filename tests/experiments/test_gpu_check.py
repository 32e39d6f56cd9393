"""`experiments/gpu_check.py`: every part in its tiny form, and what is left out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments/gpu_check.py"


def check(out, *flags):
    """`(exit status, content of the file, what was printed)`."""
    command = [sys.executable, SCRIPT, "--out", out, *flags]
    process = subprocess.run(command, capture_output=True, text=True, timeout=600)
    content = json.loads(out.read_text()) if out.exists() else None
    return process.returncode, content, process.stdout + process.stderr


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return check(tmp_path_factory.mktemp("gpu_check") / "figures.json", "--tiny")


def test_every_part_has_its_figures(tiny):
    status, content, printed = tiny
    assert status == 0 and content["left_out"] == [], printed
    parts = content["parts"]
    (beside,) = (x for x in parts["beside the textbook"].values() if isinstance(x, dict))
    speeds = [beside[name]["steps_per_second"]["median"] for name in ("jaxdrl", "textbook")]
    low, high = beside["ratio"]["min"], beside["ratio"]["max"]
    assert min(speeds) > 0 and 0 < low <= beside["ratio"]["median"] <= high
    limit = parts["limit of the card"]
    assert 0 < limit["fraction_of_limit"] < 1 and limit["copy_bytes_per_second"] > 1e8
    for mode in ("fast", "reproducible"):
        assert parts["the same bits twice"][mode]["equal"] is True
    solved = parts["seconds to solve"]["CartPole-v1"]
    assert solved["env_steps"] > 0 and solved["train_seconds"] > 0
    assert solved["is_solved"] == (solved["mean_return"] >= 500)


def test_it_prints_each_part_in_words(tiny):
    _, content, printed = tiny
    for name in content["parts"]:
        assert f"\n{name} (" in printed
    assert "times the textbook" in printed and "reproducible mode: the same bits" in printed
    assert "the card needs at least" in printed and "Breakout, CNN, 64: " in printed


def test_a_part_that_does_not_exist_is_refused(tmp_path):
    status, content, printed = check(tmp_path / "x.json", "--parts", "speed")
    assert status == 1 and content is None
    assert "there is no 'speed'; there are beside the textbook, limit of the card" in printed


def test_what_does_not_fit_is_named_and_the_rest_is_written(tmp_path):
    status, content, printed = check(tmp_path / "x.json", "--tiny", "--minutes", "0.01")
    assert status == 0 and "seconds to solve" in content["left_out"]
    assert "the time is over; left out: " in printed
