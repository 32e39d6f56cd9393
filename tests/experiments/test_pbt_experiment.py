"""`experiments/pbt.py` in a short form, and the arithmetic of its table."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))

import pbt  # noqa: E402


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pbt")
    return pbt.Comparison(
        env="CartPole-v1",
        members=2,
        num_envs=8,
        env_steps=2048,
        every=1,
        repetitions=1,
        num_episodes=4,
        results=directory / "results",
        runs=directory / "runs",
    )


@pytest.mark.slow
def test_every_arm_is_trained_once_and_judged(small, compile_cache, capsys):
    pbt.compare(small, Console())
    found = json.loads((small.results / "pbt.json").read_text())
    assert [row["arm"] for row in found["rows"]] == ["random", "annealed", "pbt"]
    assert {row["env_steps"] for row in found["rows"]} == {2048}
    assert (small.results / "pbt.png").stat().st_size > 10_000
    assert "PBT gains" in capsys.readouterr().out
    pbt.compare(small, Console())  # nothing is left to train
    assert "seed 0" not in capsys.readouterr().out
    changed = pbt.Comparison(**vars(small) | {"every": 2})
    assert pbt.load(small) == found["rows"] and pbt.load(changed) == []


def test_arms_differ_in_what_they_are_named_for(small):
    arms = {arm: pbt.experiment_of(small, arm, 3) for arm in pbt.ARMS}
    drawn = [arm.sweep.values(arm.seed)["learning_rate"] for arm in arms.values()]
    assert np.array_equal(drawn[0], drawn[1]) and np.array_equal(drawn[0], drawn[2])
    assert [arm.sweep.pbt for arm in arms.values()] == [False, False, True]
    assert [arm.anneal_learning_rate for arm in arms.values()] == [False, True, False]


def test_gains_are_taken_within_a_repetition():
    rows = [
        {"arm": arm, "seed": seed, "best": base + 10.0 * seed}
        for arm, base in (("random", 0.0), ("annealed", 1.0), ("pbt", 5.0))
        for seed in range(3)
    ]
    found = pbt.summarise(rows)
    assert found["random"]["best"]["mean"] == 10.0
    assert found["random"]["gain_of_pbt"] == {"mean": 5.0, "ci95": (5.0, 5.0)}
    assert found["annealed"]["gain_of_pbt"] == {"mean": 4.0, "ci95": (4.0, 4.0)}
    assert "gain_of_pbt" not in found["pbt"]
