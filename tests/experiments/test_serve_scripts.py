"""The scripts that measure a server and disturb it."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from followed_runs import make_run
from served import served

SCRIPTS = Path(__file__).parents[2] / "experiments"


def test_the_load_is_answered(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import serve_load

    with served(make_run(tmp_path / "run").run_dir) as url:
        for rows, clients in ((1, 8), (100, 2)):
            settings = serve_load.Settings(url, clients, rows, seconds=0.2, warmup=0.0)
            request = serve_load.request_of(settings)
            seconds = asyncio.run(serve_load.ask(settings, clients, request))
            assert len(seconds) > clients and 0 < min(seconds) < max(seconds) < 5


@pytest.mark.slow
def test_every_fault_is_answered():
    command = [sys.executable, str(SCRIPTS / "serve_faults.py")]
    process = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stdout
    assert process.stdout.endswith("16 of 16 hold\n")
