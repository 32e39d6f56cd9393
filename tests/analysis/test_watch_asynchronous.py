"""Actors and learner in `jaxdrl watch`: who waits for whom, and whether data is too old."""

import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from jaxdrl.analysis import watch
from jaxdrl.analysis.metrics_history import History
from jaxdrl.analysis.watch_asynchronous import render_actors, take_actors
from jaxdrl.config.acting import ActingConfig
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.settings import settings_of, with_settings
from jaxdrl.io.json_files import write_sealed
from small_runs import config_of

RECORDED = {
    "env_steps": 2048,
    "num_episodes": 9,
    "episode_return": 91.0,
    "steps_per_second": 48_210.0,
    "staleness_mean": 0.75,
    "staleness_max": 1.0,
    "queue_depth": 0.5,
    "actor_idle_share": 0.02,
    "learner_idle_share": 0.61,
    "seconds_environment": 0.0412,
    "seconds_inference": 0.0123,
    "seconds_transfer": 0.0021,
    "seconds_learning": 0.0217,
    "num_restarts": 0.0,
    "discarded_steps": 0.0,
    "cut_episodes": 0.0,
    "clip_fraction": 0.138,
    "approx_kl": 0.0036,
}
RUN = Experiment(env="gymnasium/CartPole-v1", total_env_steps=10**6)
FREE = replace(RUN, acting=ActingConfig(max_staleness=4))
LEARNING = {"actor_idle_share": 0.7, "learner_idle_share": 0.01}


@pytest.fixture
def take(tmp_path):
    """What is shown of a run whose lines have values of `RECORDED`, but for some."""

    def take(experiment=RUN, num_lines=12, **values):
        lines = [{"update": i + 1, **RECORDED, **values} for i in range(num_lines)]
        for name in ("learner_idle_share", "seconds_learning"):
            lines[0].pop(name, None)  # of the first update nothing is known yet
        kept = [{k: v for k, v in line.items() if v is not None} for line in lines]
        text = "".join(f"{json.dumps(line)}\n" for line in kept)
        (tmp_path / "metrics.jsonl").write_text(text)
        history = History(tmp_path)
        history.update()
        return take_actors(history, experiment)

    return take


def text_of(shown):
    return [str(line) for line in render_actors(shown)]


def test_a_few_lines_show_the_age_of_the_data_and_where_the_time_goes(take):
    assert text_of(take()) == [
        "age of the data in updates: mean 0.75, at most 1; trajectories waiting: 0.5",
        "an update: environment 41.2 ms, inference 12.3 ms, transfer 2.1 ms; learning 21.7 ms; "
        "idle: actors 2%, learner 61%",
        "the actors are the bottleneck, 74% of their time in stepping environments: more --actors "
        "step them at once where the package leaves Python's lock, as envpool and processes do",
    ]
    assert take().warnings == ()


def test_a_run_whose_program_acts_by_itself_has_no_actors(take):
    names = [name for name in RECORDED if name.startswith(("staleness", "seconds", "queue"))]
    assert take(**dict.fromkeys(names)) is None


@pytest.mark.parametrize(
    ("values", "experiment", "words"),
    [
        ({"seconds_inference": 0.2}, RUN, "computing actions: with more --num-envs"),
        ({"seconds_transfer": 0.2}, RUN, "moving data: larger batches"),
        (LEARNING, RUN, "the learner is the bottleneck: more --learner-devices or larger minib"),
        ({"learner_idle_share": 0.09}, RUN, "acting and learning take about equally long"),
    ],
)
def test_it_says_who_is_the_bottleneck_and_what_helps(take, values, experiment, words):
    assert words in take(experiment, **values).bottleneck


def test_the_oldest_data_of_the_last_lines_is_named(tmp_path):
    ages = [{"update": i, **RECORDED, "staleness_max": float(i == 4)} for i in range(6)]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(age)}\n" for age in ages))
    history = History(tmp_path)
    history.update()
    assert take_actors(history, RUN).oldest == 1.0


def test_fewer_actors_are_proposed_where_there_are_several(take):
    many = replace(RUN, acting=ActingConfig(actors=4))
    assert take(many, **LEARNING).bottleneck.endswith(", and fewer --actors would do")
    assert "fewer" not in take(RUN, **LEARNING).bottleneck


def test_a_run_that_does_both_in_turn_is_told_what_overlap_would_give(take):
    in_turn = replace(RUN, acting=ActingConfig(staleness=0))
    found = take(in_turn, staleness_max=0.0, clip_fraction=0.5)
    assert found.bottleneck == (
        "acting and learning take turns; with --staleness 1 they would overlap, at best in "
        "55.6 ms an update and not 77.3 ms"
    )
    assert found.warnings == ()


def test_after_the_first_update_it_is_not_known_who_waits(take):
    found = take(num_lines=1)
    assert found.bottleneck is None
    assert math.isnan(found.learner_idle)
    assert text_of(found)[1].endswith("; learning unknown; idle: actors 2%, learner unknown")


@pytest.mark.parametrize(
    ("values", "experiment", "words"),
    [
        (
            {"clip_fraction": 0.363, "staleness_max": 8.0},
            replace(RUN, acting=ActingConfig(staleness=8)),
            "clip_fraction is 0.363 with data up to 8 updates old: the policy has moved "
            "on too far from it; lower --staleness (now 8), or correct for it by --correction "
            "vtrace",
        ),
        (
            {"clip_fraction": 0.31, "approx_kl": 0.031},
            with_settings(RUN, correction="vtrace"),
            "clip_fraction is 0.31 and approx_kl is 0.031 with data up to 1 update old: the policy "
            "has moved on too far from it; lower --staleness (now 1)",
        ),
        ({"approx_kl": 0.2, "staleness_max": 3.0}, FREE, "lower --max-staleness (now 4), or"),
        (
            {"approx_kl": 0.2},
            replace(RUN, acting=ActingConfig(max_staleness=1)),
            "take --staleness 0 in place of --max-staleness, or",
        ),
    ],
)
def test_it_warns_where_data_is_too_old(take, values, experiment, words):
    (warning,) = take(experiment, **values).warnings
    assert words in warning
    assert "vtrace" not in warning or "vtrace" in words or words.endswith("or")


def test_data_that_is_new_is_not_too_old(take):
    assert take(staleness_mean=0.0, staleness_max=0.0, clip_fraction=0.5).warnings == ()
    assert take(clip_fraction=None, approx_kl=None).warnings == ()


def test_restarts_are_counted_with_what_they_cost(take):
    (warning,) = take(num_restarts=3.0, discarded_steps=1640.0).warnings
    assert warning.startswith("environments failed and were made anew 3 times, and 1,640 steps")
    assert "made anew once" in take(num_restarts=1.0).warnings[0]
    cut = take(cut_episodes=16.0)
    assert text_of(cut)[0].endswith("; 16 episodes were cut off and began anew")
    assert cut.warnings == ()


def test_the_dashboard_has_these_lines_and_no_column_for_each_number(tmp_path):
    write_sealed(tmp_path / "config.json", config_of(RUN))
    lines = [{"update": i, **RECORDED, "clip_fraction": 0.4} for i in range(1, 13)]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text)
    snapshot = watch.take(tmp_path)
    assert set(snapshot.metrics) == {
        *("episode_return", "steps_per_second", "clip_fraction", "approx_kl")
    }
    output = io.StringIO()
    Console(file=output, width=100).print(watch.render(snapshot, 100))
    lines = output.getvalue().splitlines()
    assert any(line.startswith("age of the data in updates:") for line in lines)
    assert any(line.startswith("warning: clip_fraction is 0.4 with data") for line in lines)


def test_the_flags_that_it_names_exist():
    fields = set(settings_of(RUN))
    assert {"actors", "staleness", "max_staleness", "num_envs", "num_steps", "correction"} <= fields
