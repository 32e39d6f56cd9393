"""The outer search: what is proposed, pruned and found, with trials that train nothing."""

import contextlib
import dataclasses
import io
import json
import os
import sqlite3
import sys

import numpy as np
import optuna
import pytest
from rich.console import Console

from jaxdrl.config.search_space import Sweep
from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import write_sealed
from jaxdrl.runs.stopping import NonFiniteError
from jaxdrl.sweeps import trials
from small_runs import CARTPOLE, config_of

SHAPES = {"num_steps": "8,16,32", "hidden_sizes": "8x8,16,32", "activation": "tanh,relu"}
SWEEP = Sweep({"gamma": "0.9:0.99"}, members=2, shapes=SHAPES, trials=9)


def search_in(run_dir, **fields):
    run_dir.mkdir(exist_ok=True)
    sweep = dataclasses.replace(SWEEP, **fields)
    return dataclasses.replace(CARTPOLE, run_dir=run_dir, sweep=sweep)


def score_of(ppo):
    """Best where the steps are 16, the network is 32 wide and its activation is relu."""
    return (
        -abs(ppo.num_steps - 16)
        + sum(ppo.network.hidden_sizes)
        + 10.0 * (ppo.network.activation == "relu")
    )


def result_of(part):
    score = score_of(part.algorithm)
    rows = [
        {"setting": i, "members": [i], "hyperparams": {"gamma": 0.9}, "mean_return": score - i}
        | {"ci95_low": score - i, "ci95_high": score - i}
        for i in range(2)
    ]
    evaluation = {"mean_return": score, "best_member": 0, "member_returns": [score, score - 1]}
    evaluation["member_ci95"] = [[score, score], [score - 1, score - 1]]
    seconds = dict.fromkeys(("compile_seconds", "train_seconds", "steps_per_second"), 1.0)
    digests = dict.fromkeys(("params_sha256", "state_sha256"), str(score))
    return {"env_steps": 300, **seconds, **digests, "evaluation": evaluation, "settings": rows}


def train_part(part):
    """Stands in for the training of a trial."""
    part.run_dir.mkdir(parents=True, exist_ok=True)
    run_id = str(part.run_dir)
    write_sealed(part.run_dir / "config.json", config_of(part, run_id))
    write_sealed(part.run_dir / "result.json", result_of(part) | {"run_id": run_id})
    return result_of(part)


def searched(experiment, train_part=train_part):
    return trials.train(experiment, train_part, Console(file=io.StringIO()))


def shapes_of(result):
    return [trial["shape"] for trial in result["trials"]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return searched(search_in(tmp_path_factory.mktemp("searches") / "whole"))


def test_no_combination_is_tried_twice_and_the_best_is_found(whole, tmp_path):
    shapes = [tuple(shape.items()) for shape in shapes_of(whole)]
    assert len(set(shapes)) == 9
    every = searched(search_in(tmp_path / "x", trials=99))
    assert len(every["trials"]) == 18  # of which there are no more
    best = {"num_steps": "16", "hidden_sizes": "32", "activation": "relu"}
    assert every["settings"][0]["shape"] == best
    number = shapes_of(every).index(best)
    assert every["evaluation"]["best_member"] == 2 * number == every["settings"][0]["members"][0]
    assert every["evaluation"]["member_returns"][2 * number + 1] == 41.0
    assert every["env_steps"] == 300 and every["train_seconds"] == 18.0


def test_what_was_found_guides_what_is_proposed(tmp_path):
    """Of 64 combinations the 16 after the random ones are better than an even draw of them."""
    sizes = "8,16,24,32,40,48,56,64"
    search = search_in(tmp_path, shapes={"memory_size": sizes, "hidden_sizes": sizes}, trials=24)
    working, gains = trials.combinations(search), []
    kind = optuna.distributions.CategoricalDistribution(sizes.split(","))
    kinds = dict.fromkeys(("memory_size", "hidden_sizes"), kind)
    scores = [score_of_sizes(shape) for shape in working]
    for seed in range(2):
        study = optuna.create_study(direction="maximize")
        for _ in range(24):
            left = [s for s in working if s not in [trial.params for trial in study.trials]]
            shape = trials.propose(dataclasses.replace(search, seed=seed), study, left)
            score = score_of_sizes(shape)
            study.add_trial(
                optuna.trial.create_trial(params=shape, distributions=kinds, value=score)
            )
        later = [trial.value for trial in study.trials[8:]]
        gains.append(np.mean(later) - np.mean(scores))
    # An even draw has a deviation of 26, and so the mean of 2 x 16 of them one of 5.
    assert np.mean(gains) > 12


def score_of_sizes(shape):
    return float(shape["memory_size"]) + float(shape["hidden_sizes"])


class Killed(BaseException):
    """Stands in for SIGKILL: no `except` of the library sees it."""


@pytest.mark.parametrize("when", ["begins", "ends"])
@pytest.mark.parametrize("number", [0, 4])
def test_killed_and_resumed_it_proposes_the_same(whole, tmp_path, number, when):
    experiment = search_in(tmp_path / "x")

    def killed(part):
        if part.sweep.trial == number and when == "begins":
            raise Killed
        train_part(part)
        if part.sweep.trial == number:
            raise Killed  # before the study has it
        return result_of(part)

    with pytest.raises(Killed):
        searched(experiment, killed)
    found = searched(experiment)
    for name in ("trials", "settings", "evaluation", "state_sha256"):
        assert found[name] == whole[name]


def test_a_study_that_is_lost_is_written_again(whole, tmp_path):
    experiment = search_in(tmp_path / "x")
    searched(experiment)
    study = tmp_path / "x" / "optuna.db"
    study.write_bytes(b"no database" * 100)
    with pytest.raises(ConfigError, match=r"optuna.db: cannot be read .*remove it, and"):
        searched(experiment)
    study.unlink()
    assert searched(experiment)["trials"] == whole["trials"]


def test_connections_to_the_study_are_closed(tmp_path, monkeypatch):
    """Of a search that ends and of one whose study is damaged; Python 3.13 warns of others."""
    opened, connect = [], sqlite3.dbapi2.connect

    def noted(*args, **kwargs):
        opened.append(connect(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr(sqlite3.dbapi2, "connect", noted)
    experiment = search_in(tmp_path / "x", trials=2)
    searched(experiment)
    count = len(opened)
    (tmp_path / "x" / "optuna.db").write_bytes(b"no database" * 100)
    with pytest.raises(ConfigError, match="cannot be read"):
        searched(experiment)
    assert len(opened) > count > 0
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
            connection.execute("SELECT 1")


def test_a_trial_that_has_begun_keeps_its_shape(whole, tmp_path):
    """As where another version of Optuna would propose something else."""
    experiment = search_in(tmp_path / "x")
    shape = next(s for s in trials.combinations(experiment) if s not in shapes_of(whole))
    train_part(trials.trial_of(experiment, 0, shape))
    assert shapes_of(searched(experiment))[0] == shape


def test_a_trial_that_does_not_work_is_pruned(tmp_path):
    def fails(part):
        if part.algorithm.network.activation == "relu":
            raise NonFiniteError("all of it is bad")
        if part.algorithm.num_steps == 8:
            raise ConfigError("does not go with this network")
        return train_part(part)

    found = searched(search_in(tmp_path / "x", trials=18), fails)
    pruned = [trial for trial in found["trials"] if trial["score"] is None]
    assert len(pruned) == 9 + 3
    assert {trial["why"] for trial in pruned} >= {"all of it is bad"}
    assert len(found["settings"]) == 2 * 6
    assert np.isnan(found["evaluation"]["member_returns"]).sum() == 2 * 12
    with contextlib.closing(sqlite3.connect(tmp_path / "x" / "optuna.db")) as database:
        states = [state for (state,) in database.execute("SELECT state FROM trials")]
    assert (states.count("PRUNED"), states.count("COMPLETE")) == (12, 6)


def test_errors_of_files_are_no_reason_to_prune(tmp_path):
    experiment = search_in(tmp_path / "x")

    def damaged(part):
        raise ConfigError("a checkpoint is damaged")

    train_part(trials.trial_of(experiment, 0, trials.combinations(experiment)[0]))
    with pytest.raises(ConfigError, match="a checkpoint is damaged"):
        searched(experiment, damaged)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE trial_values SET value = value + 0.5 WHERE trial_id = 2",
        "UPDATE trial_params SET param_value = 1 - param_value WHERE trial_id = 2 "
        "AND param_name = 'activation'",
    ],
    ids=["score", "choice"],
)
def test_a_study_that_says_something_else_than_the_files_is_refused(tmp_path, change):
    experiment = search_in(tmp_path / "x", trials=3)
    found = searched(experiment)
    assert searched(experiment) == found
    database = tmp_path / "x" / "optuna.db"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        assert connection.execute(change).rowcount == 1
    with pytest.raises(ConfigError, match=r"optuna\.db: trial 1 scored .* is not what .*trials/1"):
        searched(experiment)
    database.unlink()
    assert searched(experiment) == found


@pytest.mark.parametrize("plant", [os.mkfifo, os.mkdir], ids=["pipe", "directory"])
def test_a_study_that_is_no_file_is_refused(tmp_path, plant):
    plant(search_in(tmp_path / "x").run_dir / "optuna.db")
    with pytest.raises(ConfigError, match=r"optuna\.db: is not a file; remove it, and"):
        trials.open_study(tmp_path / "x")


def test_a_search_of_which_nothing_works_is_refused(tmp_path):
    def fails(part):
        raise ConfigError("no room")

    with pytest.raises(ConfigError, match="no trial could be trained; the last: no room"):
        searched(search_in(tmp_path / "x"), fails)


def test_combinations_that_do_not_divide_are_left_out(tmp_path):
    shapes = {"num_steps": "8,12", "num_minibatches": "2,3"}
    experiment = search_in(tmp_path / "x", shapes=shapes)
    found = trials.combinations(experiment)
    assert found == [
        {"num_steps": "8", "num_minibatches": "2"},
        {"num_steps": "12", "num_minibatches": "2"},
        {"num_steps": "12", "num_minibatches": "3"},
    ]
    part = trials.trial_of(experiment, 2, found[2])
    assert (part.algorithm.num_steps, part.algorithm.num_minibatches, part.sweep.trial) == (
        12,
        3,
        2,
    )
    assert trials.shape_of(experiment, part) == found[2]
    assert len(searched(experiment)["trials"]) == 3


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({"num_steps": "8,0"}, "num_steps = '0': works with none .*; num_steps = 0: must be"),
        ({"num_minibatches": "2,7", "num_steps": "8,16"}, "num_minibatches = '7': works with none"),
        ({"torso": "mlp,rnn"}, "torso = 'rnn': works with none"),
        (
            {"num_envs": ",".join(map(str, range(8, 1608, 8))), "num_steps": "8," * 50 + "9"},
            "must have two choices or more, all different",
        ),
        (
            {name: ",".join(map(str, range(1, 102))) for name in ("num_epochs", "memory_size")},
            "10,201 combinations.*: must have at most 10,000",
        ),
    ],
)
def test_choices_that_never_work_are_refused(tmp_path, shapes, says):
    with pytest.raises(ConfigError, match=says):
        trials.check(search_in(tmp_path / "x", shapes=shapes))


def test_a_missing_package_is_named_with_what_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        ConfigError, match=r"optuna is not installed; pip install 'jaxdrl\[optuna\]'"
    ):
        trials.check(search_in(tmp_path / "x"))


def test_the_scores_are_those_of_the_best_settings(whole):
    for trial in whole["trials"]:
        rows = [row for row in whole["settings"] if row["trial"] == trial["trial"]]
        assert trial["score"] == max(row["ci95_low"] for row in rows)
        assert [row["members"] for row in rows] == [[2 * trial["trial"]], [2 * trial["trial"] + 1]]
    json.dumps(whole)
