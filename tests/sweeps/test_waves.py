"""What waves found, put together by hand."""

import dataclasses
import hashlib
import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from jaxdrl.config.search_space import Sweep
from jaxdrl.sweeps import waves
from small_runs import CARTPOLE

EXPERIMENT = dataclasses.replace(
    CARTPOLE, run_dir=Path("runs/x"), sweep=Sweep({"gamma": "0.9:0.99"}, members=3, wave_size=2)
)


def result_of(returns, digest, seconds):
    best = max(range(len(returns)), key=lambda i: returns[i] or -math.inf)
    evaluation = {
        "mean_return": returns[best],
        "best_member": best,
        "member_returns": returns,
        "member_ci95": [[x, x] for x in returns],
    }
    return {
        "env_steps": 100,
        "compile_seconds": 1.0,
        "train_seconds": seconds,
        "steps_per_second": 7.0,
        "params_sha256": digest,
        "state_sha256": digest * 2,
        "evaluation": evaluation,
    }


RESULTS = [result_of([3.0, None], "a", 2.0), result_of([5.0], "b", 1.0)]


def test_one_result_of_all_members():
    whole = waves.train(
        EXPERIMENT, lambda part: RESULTS[part.sweep.wave], Console(file=io.StringIO())
    )
    found = whole["evaluation"]
    assert (found["mean_return"], found["best_member"]) == (5.0, 2)
    assert found["member_returns"] == pytest.approx([3.0, math.nan, 5.0], nan_ok=True)
    assert found["member_ci95"][2] == [5.0, 5.0]
    assert (whole["compile_seconds"], whole["train_seconds"]) == (2.0, 3.0)
    assert whole["steps_per_second"] == 3 * 100 / 3.0
    assert whole["env_steps"] == 100
    assert whole["params_sha256"] == hashlib.sha256(b"ab").hexdigest()
    assert whole["state_sha256"] == hashlib.sha256(b"aabb").hexdigest()


def test_each_wave_is_trained_in_turn():
    asked, output = [], io.StringIO()
    console = Console(file=output)

    def train_part(part):
        asked.append((str(part.run_dir), list(part.sweep.numbers), part.seed))
        return RESULTS[part.sweep.wave]

    assert waves.train(EXPERIMENT, train_part, console).keys() == RESULTS[0].keys()
    assert asked == [("runs/x/waves/0", [0, 1], 0), ("runs/x/waves/1", [2], 0)]
    assert "wave 2 of 2: members 2 to 2" in output.getvalue()
