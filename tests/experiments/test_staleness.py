"""`experiments/staleness.py` in a short form, and what its figures are taken over."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))

import staleness  # noqa: E402


def small(directory, **others):
    return staleness.Staleness(
        staleness=(0, 2),
        num_envs=16,
        num_steps=16,
        env_steps=4096,
        seeds=1,
        results=directory / "staleness.json",
        picture=directory / "staleness.png",
        runs=directory / "runs",
        **others,
    )


@pytest.mark.slow
def test_every_staleness_is_trained_once_with_either_correction(tmp_path, compile_cache, capsys):
    config = small(tmp_path)
    staleness.compare(config, Console())
    found = json.loads(config.results.read_text())
    kinds = [(row["staleness"], row["correction"]) for row in found["rows"]]
    assert kinds == [(0, "none"), (0, "vtrace"), (2, "none"), (2, "vtrace")]
    assert [row["num_seeds"] for row in found["summary"]] == [1] * 4
    assert config.picture.stat().st_size > 10_000
    assert "clip_fraction  approx_kl" in capsys.readouterr().out
    staleness.compare(config, Console())  # nothing is left to train
    assert "seed 0" not in capsys.readouterr().out
    assert staleness.load(small(tmp_path, learning_rate=1e-4)) == []


def test_runs_differ_in_nothing_else(tmp_path):
    config = small(tmp_path)
    one = staleness.experiment_of(config, 0, "none", 3)
    other = staleness.experiment_of(config, 8, "vtrace", 3)
    assert (one.acting.staleness, other.acting.staleness) == (0, 8)
    assert (one.algorithm.correction, other.algorithm.correction) == ("none", "vtrace")
    assert one.seed == other.seed == 3 and one.total_env_steps == other.total_env_steps == 4096
    assert one.run_dir != other.run_dir
    again = staleness.experiment_of(config, 8, "vtrace", 3)
    assert again == other


def test_the_last_quarter_is_that_of_the_steps_weighted_by_episodes():
    of_line = [(10, 1.0, 5), (75, 2.0, 5), (80, 10.0, 1), (90, None, 0), (100, 40.0, 2)]
    names = ("env_steps", "episode_return", "num_episodes")
    lines = [dict(zip(names, line, strict=True)) for line in of_line]
    assert staleness.last_quarter(lines) == pytest.approx((10.0 + 2 * 40.0) / 3)


def test_a_mean_curve_begins_where_every_seed_has_a_value():
    curves = [([10, 20, 30], [0.0, 10.0, 20.0]), ([20, 40], [2.0, 6.0])]
    rows = [{"curve": {"env_steps": x, "episode_return": y}} for x, y in curves]
    steps, mean = staleness.mean_curve(rows)
    assert steps.tolist() == [20, 30, 40]
    assert np.allclose(mean, [6.0, 12.0, 13.0])  # the last value of the first seed stays
