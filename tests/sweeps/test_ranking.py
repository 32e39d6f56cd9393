"""The ranking of settings, and the config of the best."""

import dataclasses
import io
import json
import re

import numpy as np
import pytest
from rich.console import Console

from jaxdrl.config.search_space import Sweep
from jaxdrl.evaluation.episodes import bootstrap_interval, summarise
from jaxdrl.io.json_files import finite
from jaxdrl.io.numerals import short
from jaxdrl.runs import report
from jaxdrl.runs.metrics_log import evaluation_figures
from jaxdrl.runs.run_dir import read_experiment
from jaxdrl.sweeps import ranking
from small_runs import CARTPOLE

RANGES = {"learning_rate": "log:0.0001:0.01", "gamma": "0.9:0.99"}


def played(mean, spread):
    returns = np.array([mean - spread, mean + spread] * 4, np.float32)
    return summarise(returns, np.ones(8, np.int32), np.ones(8, bool))


def ranked(means, seeds, spread=1.0):
    members = len(means) // seeds
    experiment = dataclasses.replace(CARTPOLE, sweep=Sweep(RANGES, members=members, seeds=seeds))
    values = experiment.sweep.values(experiment.seed)
    members = tuple(played(mean, spread) for mean in means)
    evaluation = evaluation_figures(dataclasses.replace(members[0], members=members))
    rows = ranking.rank(experiment, values, evaluation)
    return experiment, values, rows


def test_settings_are_ranked_by_the_lower_end_over_their_seeds():
    _, values, rows = ranked([10.0, 90.0, 40.0, 44.0, 1.0, 2.0], seeds=2)
    # The first has the best mean, 50, but one of its seeds failed.
    assert [row["setting"] for row in rows] == [1, 0, 2]
    assert rows[0]["members"] == [2, 3]
    assert rows[0]["mean_return"] == 42.0
    low, high = bootstrap_interval(np.array([40.0, 44.0]))
    assert (rows[0]["ci95_low"], rows[0]["ci95_high"]) == (low, high)
    assert rows[0]["hyperparams"]["gamma"] == values["gamma"][2] == values["gamma"][3]


def test_with_one_seed_the_interval_is_over_episodes():
    _, _, rows = ranked([5.0, 7.0], seeds=1, spread=3.0)
    assert rows[0]["setting"] == 1
    assert 4.0 <= rows[0]["ci95_low"] < 7.0 < rows[0]["ci95_high"] <= 10.0


@pytest.mark.parametrize("seeds", [1, 2])
def test_what_is_printed_of_a_sweep_are_the_figures_of_its_json(seeds, tmp_path):
    _, _, rows = ranked([10.0, 90.0, 40.0, 44.0], seeds=seeds, spread=2.5)
    best = rows[0]
    found = io.StringIO()
    console = Console(file=found, width=150)
    ranking.print_table(console, rows)
    evaluation = {"member_returns": [10.0, 90.0, 40.0, 44.0], "best_member": 1}
    times = {"env_steps": 300, "train_seconds": 2.0, "steps_per_second": 150.0}
    result = {"env": "x", "greedy_evaluation": True, "settings": rows, **times}
    result["evaluation"] = evaluation | {"mean_return": 90.0, "num_episodes": 8}
    report.print_result(console, tmp_path, result)
    header, *table = found.getvalue().splitlines()[: len(rows) + 1]
    assert header.split()[:2] == ["setting", "member" if seeds == 1 else "members"]
    for line, row in zip(table, rows, strict=True):
        setting, members, rate, gamma, mean, low, _, high = line.split()
        assert setting == str(row["setting"])
        assert members == "-".join(map(str, row["members"]))
        assert (rate, gamma) == tuple(short(x) for x in row["hyperparams"].values())
        figures = (row[name] for name in ("mean_return", "ci95_low", "ci95_high"))
        assert (mean, low, high) == tuple(short(x) for x in figures)
    (last,) = (line for line in found.getvalue().splitlines() if line.startswith("x: "))
    whose = f"member{'s' if seeds > 1 else ''} {'-'.join(map(str, best['members']))}"
    assert last.startswith(f"x: the best setting, {best['setting']} ({whose}): greedy mean return ")
    assert [float(x) for x in re.findall(r"[\d.]+", last.partition("return ")[2])[:4]] == [
        pytest.approx(best["mean_return"], abs=0.05),
        95.0,
        pytest.approx(best["ci95_low"], abs=0.05),
        pytest.approx(best["ci95_high"], abs=0.05),
    ]
    assert last.endswith("8 episodes")
    assert ("over its 2 seeds, each over" in last) == (seeds == 2)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_return_that_is_not_finite_is_never_the_best(bad, tmp_path):
    means = [bad, 1.0, 3.0, 4.0]
    experiment, _, rows = ranked(means, seeds=1)
    assert [row["setting"] for row in rows] == [3, 2, 1, 0]
    assert [row["setting"] for row in ranked(means, seeds=2)[2]] == [1, 0]
    members = tuple(played(mean, 1.0) for mean in means)
    assert evaluation_figures(dataclasses.replace(members[0], members=members))["best_member"] == 3
    found = io.StringIO()
    read_back = json.loads(json.dumps(finite(rows)))  # None where a number is not finite
    assert [row["setting"] for row in ranking.sort(read_back[::-1])] == [3, 2, 1, 0]
    ranking.print_table(Console(file=found, width=120), read_back)
    assert "not finite" in found.getvalue().splitlines()[-1]
    assert len(ranking.write(tmp_path, experiment, read_back)) == 3


def test_where_no_return_is_finite_none_is_the_best(tmp_path):
    experiment, _, rows = ranked([NAN, NAN], seeds=1)
    members = (played(NAN, 1.0), played(NAN, 2.0))
    assert (
        evaluation_figures(dataclasses.replace(members[0], members=members))["best_member"] is None
    )
    assert ranking.write(tmp_path, experiment, rows) == []


def test_the_best_settings_are_a_config_for_one_agent(tmp_path):
    experiment, values, rows = ranked([1.0, 2.0, 30.0, 40.0], seeds=2)
    paths = ranking.write(tmp_path, experiment, rows)
    best = read_experiment(tmp_path / "best.json")
    assert best.sweep is None and best.run_dir is None
    assert best.algorithm.gamma == pytest.approx(values["gamma"][2])
    assert best.algorithm.learning_rate == pytest.approx(values["learning_rate"][2])
    same = dataclasses.replace(
        best, algorithm=experiment.algorithm, sweep=experiment.sweep, devices=2
    )
    assert same == experiment
    assert [path.name for path in paths] == ["best.json", "response.png", "parallel.png"]
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in paths[1:])
    json.loads(paths[0].read_text())


def test_a_table_of_many_settings_is_whole_on_80_columns():
    names = (
        "learning_rate",
        "final_learning_rate",
        "entropy_coef",
        "clip_epsilon",
        "max_grad_norm",
    )
    row = {
        "setting": 12,
        "members": [24, 25],
        "hyperparams": {name: 10.0**-i * 1.2345 for i, name in enumerate(names)},
        "mean_return": 138_970.0,
        "ci95_low": -1234.5,
        "ci95_high": 250_000.0,
    }
    shown = {}
    for width in (80, 200):
        output = io.StringIO()
        ranking.print_table(Console(file=output, width=width), [row, row])
        shown[width] = output.getvalue()
        assert max(map(len, shown[width].splitlines())) <= width
        words = shown[width].split()
        assert words.count("138,970") == words.count("250,000") == words.count("0.0001234") == 2
        assert set(names) <= set(words)
    assert len(shown[200].splitlines()) == 3  # a line each where there is room
