"""Legends and axes of learning curves."""

from pathlib import Path

import pytest

import jaxdrl
from jaxdrl.analysis import curve_labels, learning_curves
from jaxdrl.config.experiment import Experiment


def settings(env, **changes):
    return learning_curves.settings_of(jaxdrl.with_settings(Experiment(env), **changes))


def test_labels_name_the_environment_and_what_differs_within_it():
    assert curve_labels.label_groups([settings("A")], ["a"]) == ["A"]
    names = ["a", "b", "c"]
    three = [settings("A"), settings("A", gamma=0.5, num_envs=1024), settings("B", gamma=0.1)]
    assert curve_labels.label_groups(three, names) == [
        "A, num_envs=512, gamma=0.99",
        "A, num_envs=1,024, gamma=0.5",
        "B",
    ]


def test_runs_differ_in_how_old_their_data_is_and_not_in_where_it_is_acted():
    runs = [settings("A", staleness=k, actor_devices=k, actor_timeout=1.0 + k) for k in (0, 4)]
    assert curve_labels.label_groups(runs, ["a", "b"]) == ["staleness=0", "staleness=4"]
    same = [settings("A", actor_devices=k, actor_timeout=1.0 + k) for k in (0, 4)]
    assert same[0] == same[1]


def test_settings_without_short_words_are_named_by_their_runs():
    """A range of parameters or a sweep would be a tuple or a dictionary of Python."""
    runs = [settings("A"), settings("A", randomize=("length=0.25:4.0",)), settings("B")]
    names = ["first", "robust", "other"]
    assert curve_labels.label_groups(runs, names) == ["A, first", "A, robust", "B"]
    sweeps = [{"env": "A", "sweep": {"ranges": {"gamma": "0:1"}}}, {"env": "A", "sweep": None}]
    assert curve_labels.label_groups(sweeps, ["sweep", "one"]) == ["sweep", "one"]


def test_many_settings_that_differ_are_named_by_their_runs():
    changed = {"num_envs": 1024, "num_steps": 8, "gamma": 0.5, "gae_lambda": 0.5}
    runs = [settings("A"), settings("A", **changed)]
    assert curve_labels.label_groups(runs, ["first", "other"]) == ["first", "other"]


def test_values_are_written_for_people():
    runs = [{"env": "A", "hidden": (64, 32), "x": None}, {"env": "A", "hidden": (), "x": True}]
    assert curve_labels.label_groups(runs, ["a", "b"]) == [
        "hidden=64x32, x=none",
        "hidden=none, x=yes",
    ]


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        ([["runs/a"], ["runs/b"]], ["a", "b"]),
        ([["runs/a"], ["runs/sweep/waves/0", "runs/sweep/waves/1"]], ["a", "sweep/waves"]),
        ([["r/seed-10", "r/seed-11"], ["r/other"]], ["seed", "other"]),
        ([["r/x-1", "r/x-2"], ["r/x-3", "r/x-4"]], ["x-1", "x-3"]),
        ([["one/run"], ["two/run"]], ["one/run", "two/run"]),
    ],
)
def test_runs_have_their_names_below_the_directory_of_all(groups, names):
    assert curve_labels.run_names([[Path(path) for path in group] for group in groups]) == names
