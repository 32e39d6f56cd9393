"""`jaxdrl watch` on a run of two processes, one of which is slowed."""

import os
import socket
import subprocess
import sys
import time

import pytest

from jaxdrl.analysis import watch
from jaxdrl.errors import ConfigError

SLOWED = """
import time
from jaxdrl.cli.main import main
from jaxdrl.runs import pace

seen = pace.Pace.seen

def late(self, update, metrics):
    seen(self, update, metrics)
    time.sleep(0.05)

pace.Pace.seen = late
main()
"""
USUAL = "from jaxdrl.cli.main import main; main()"


@pytest.fixture
def run_dir(tmp_path):
    """A run that goes on until the end of the test; process 1 takes 50 ms more for each update."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["train", "CartPole-v1", "--devices", "2", "--run-dir", str(tmp_path / "run")]
    command += ["--total-env-steps", "100000000", "--num-envs", "16", "--num-steps", "8"]
    command += ["--num-epochs", "1", "--num-minibatches", "2", "--hidden-sizes", "8"]
    common = os.environ | {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, *command],
            env=common | {"JAX_PROCESS_ID": str(index)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for index, code in enumerate([USUAL, SLOWED])
    ]
    yield tmp_path / "run"
    for process in processes:
        process.kill()
        process.wait()


def snapshots(run_dir, seconds):
    """What `watch` shows, time and again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.25)
        try:
            yield watch.take(run_dir)
        except ConfigError:
            continue  # the directory is not there yet


@pytest.mark.slow
def test_the_one_that_is_slowed_is_named_within_seconds(run_dir):
    assert any(found.metrics for found in snapshots(run_dir, 300)), "it never trained"
    words = f"process 1 on host {socket.gethostname()} spends "
    warnings = ()
    for found in snapshots(run_dir, 10):
        warnings = found.processes.warnings if found.processes else ()
        if any(warning.startswith(words) for warning in warnings):
            break
    (warning,) = warnings
    assert warning.startswith(words)
    assert warning.endswith("all wait for it")
    assert found.processes.faulty == {1}
