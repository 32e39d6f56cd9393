"""Processes that are killed or stopped, in the short form of `experiments/faults.py`."""

import runpy
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import quickly

SCRIPT = Path(__file__).parent.parent / "experiments" / "faults.py"


@pytest.fixture(scope="module")
def faults():
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Where `check` leaves its runs, and the programs that later runs find."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in quickly.environ().items():
            patch.setenv(name, value)
        yield tmp_path_factory.mktemp("faults")


def test_a_run_killed_inside_a_save_ends_like_an_undisturbed_one(faults, directory):
    settings = faults.Faults(num_runs=1, seed=3, updates=100)  # the seed waits for a save
    assert faults.check(settings, directory)[0] == 1


def test_sigterm_saves_the_last_update_and_ends_within_ten_seconds(faults, directory):
    run_dir = directory / "endless"
    endless = faults.flags(faults.Faults(updates=10_000_000), run_dir)
    process = faults.start(endless, directory / "cache")
    faults.wait(process, (run_dir / "checkpoints" / "00000001").exists, 100)
    second = subprocess.run(
        [*faults.COMMAND, "resume", str(run_dir)], capture_output=True, text=True, timeout=60
    )
    assert second.returncode == 2
    assert f"process {process.pid} on " in second.stderr
    process.terminate()
    started = time.monotonic()
    output = process.communicate()[0].decode()
    assert time.monotonic() - started < 10
    assert process.returncode == 0
    assert f"is saved; go on with: jaxdrl resume {run_dir}\n" in output
    assert not (run_dir / "result.json").exists()
