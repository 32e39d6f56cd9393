"""A policy that follows a run among bad checkpoints, in the short form of the experiment."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments/follow_faults.py"


@pytest.mark.slow
def test_none_of_the_bad_ones_is_taken():
    process = subprocess.run(
        [sys.executable, SCRIPT, "--checkpoints", "30", "--bad", "16", "--stall-ms", "1000"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert "16 refused of 16 bad ones" in process.stdout
