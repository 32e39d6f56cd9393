"""`jaxdrl watch`: how a run stands, from its files."""

import contextlib
import dataclasses
import io
import json
import pathlib
import re
import shutil

import numpy as np
import pytest
from rich.console import Console

import jaxdrl
from jaxdrl.analysis import metrics_history, watch
from jaxdrl.cli import main
from jaxdrl.config.search_space import Sweep
from jaxdrl.io.json_files import write_sealed
from jaxdrl.io.numerals import brief
from jaxdrl.runs.locking import claim, writer_of
from jaxdrl.runs.run_dir import METRICS_FILE
from small_runs import CARTPOLE, config_of

SHOWN = [
    *("episode_return", "episode_length", "steps_per_second", "approx_kl", "clip_fraction"),
    *("entropy", "explained_variance", "grad_norm", "learning_rate", "policy_loss", "value_loss"),
]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    with contextlib.redirect_stdout(io.StringIO()):
        jaxdrl.run(dataclasses.replace(CARTPOLE, run_dir=path))
    return path


def test_a_finished_run(run_dir):
    found = watch.take(run_dir)
    assert (found.env, found.state) == ("CartPole-v1", "finished")
    assert found.env_steps == found.total_env_steps == 384
    assert found.seconds_left is None
    assert list(found.metrics) == SHOWN
    assert all(len(column) == 3 for column in found.metrics.values())
    result = json.loads((run_dir / "result.json").read_text())
    assert found.evaluation == result["evaluation"]
    assert found.warnings == []
    assert re.fullmatch(
        r"[\d.]+ KiB needed per device \(counted by the compiler\), "
        r"[\d.]+ [MG]iB peak use by the process",
        found.memory,
    )


def test_a_run_that_is_written_to_is_running_and_one_without_a_result_is_stopped(run_dir):
    assert writer_of(run_dir) is None
    result = run_dir / "result.json"
    text = result.read_text()
    result.unlink()
    try:
        assert watch.take(run_dir).state == "stopped"
        with claim(run_dir):
            assert writer_of(run_dir).startswith("process ")
            found = watch.take(run_dir)
            assert found.state == "running"
            assert found.seconds_left == 0.0
        assert watch.take(run_dir).state == "stopped"
    finally:
        result.write_text(text)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_curves_are_as_wide_as_the_terminal_and_numbers_are_whole(run_dir, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(watch.render(watch.take(run_dir), width))
    lines = console.file.getvalue().splitlines()[2 : 2 + len(SHOWN)]
    assert [line.split()[0] for line in lines] == SHOWN
    assert {len(line) for line in lines} == {width}
    last = watch.take(run_dir).last
    assert [line.split()[-1] for line in lines] == [brief(last[name]) for name in SHOWN]
    first = watch.take(run_dir).metrics["entropy"]
    lowest, curve, highest = lines[SHOWN.index("entropy")].split()[1:4]
    assert (lowest, highest) == (brief(first.min()), brief(first.max()))
    assert len(curve) > width - 50


def test_the_view_says_how_to_leave_it(run_dir, tmp_path, monkeypatch):
    run = shutil.copytree(run_dir, tmp_path / "run")
    (run / "result.json").unlink()
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    monkeypatch.setattr(watch, "make_console", lambda: console)

    def leave(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", leave)
    with claim(run):
        watch.main(run, once=True, seconds=1.0)
        assert "Ctrl-C" not in console.file.getvalue()
        watch.main(run, once=False, seconds=1.0)
    assert "Ctrl-C leaves this view, and the run goes on" in console.file.getvalue()
    assert ", 0 s left" in console.file.getvalue()


def another_run_s(path):
    """As a run of another seed would have written it."""
    if path.name == METRICS_FILE:
        path.write_text(path.read_text().replace('"update": 1,', '"update": 1, "kl_coef": 0.5,'))
    else:
        content = json.loads(path.read_text()) | {"run_id": "another"}
        write_sealed(path, content)


def changed(path):
    path.write_text(path.read_text().replace("0.", "1."))


@pytest.mark.parametrize("change", [another_run_s, changed, pathlib.Path.unlink])
@pytest.mark.parametrize("name", [METRICS_FILE, "result.json"])
def test_a_file_that_is_not_what_the_run_wrote_is_named(run_dir, tmp_path, name, change, capsys):
    """The metrics by what the last checkpoint is bound to, the result by its run and its seal."""
    run = shutil.copytree(run_dir, tmp_path / "run")
    change(run / name)
    (warning,) = watch.take(run).warnings
    assert warning.startswith(f"{run / name}: ")
    if name == METRICS_FILE and change is not pathlib.Path.unlink:
        jaxdrl.plot_runs([run])
        assert capsys.readouterr().out == f"warning: {warning}\n"


def test_what_came_after_the_last_checkpoint_may_be_anything(run_dir, tmp_path):
    run = shutil.copytree(run_dir, tmp_path / "run")
    with (run / METRICS_FILE).open("a") as file:
        file.write((run / METRICS_FILE).read_text())
    assert watch.take(run).warnings == []
    manifest = run / "checkpoints" / "00000003" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"bytes": ', '"bytes": 9'))
    assert watch.take(run).warnings == []  # it is the manifest that is damaged


def test_a_config_of_another_run_than_the_checkpoints_is_named(run_dir, tmp_path, capsys):
    run = shutil.copytree(run_dir, tmp_path / "run")
    content = json.loads((run / "config.json").read_text())
    write_sealed(run / "config.json", content | {"run_id": "another"})
    words = f"{run / 'config.json'}: does not belong to the run of all checkpoints beside it, "
    words += f"{content['run_id']}; put back what was there"
    config, result = watch.take(run).warnings
    assert config.startswith(words)
    assert result.startswith(f"{run / 'result.json'}: is the result of another run")
    jaxdrl.plot_runs([run])
    assert capsys.readouterr().out == f"warning: {config}\n"


def test_the_command_shows_it_once_where_there_is_no_terminal(run_dir, capsys):
    main.main(["watch", str(run_dir)])
    printed = capsys.readouterr().out
    assert "CartPole-v1  finished, 384 of 384 steps (100%)" in printed
    assert "last evaluation: " in printed
    assert "\nmemory: " in printed
    for name in SHOWN:
        assert f"\n{name} " in printed


def test_a_run_of_a_few_lines_and_one_without_any(run_dir, tmp_path, capsys):
    (tmp_path / "config.json").write_text((run_dir / "config.json").read_text())
    main.main(["watch", str(tmp_path)])
    assert "stopped, 0 of 384 steps (0%)\nno metrics yet\n" in capsys.readouterr().out
    first = (run_dir / METRICS_FILE).read_text().splitlines()[0]
    (tmp_path / METRICS_FILE).write_text(first + '\n{"update": 2, "env')
    assert watch.take(tmp_path).env_steps == 128


@pytest.mark.parametrize("members", [1, 4])
def test_the_time_that_is_left_does_not_depend_on_how_many_members_count_for_the_speed(
    tmp_path, members
):
    """An update of a member is 128 steps, and takes 0.5 s; one of three is done."""
    ranges = {"learning_rate": "log:0.001:0.01"}
    sweep = Sweep(ranges, members=members) if members > 1 else None
    config = config_of(dataclasses.replace(CARTPOLE, sweep=sweep))
    write_sealed(tmp_path / "config.json", config)
    record = {"update": 1, "env_steps": 128, "num_episodes": 1}
    speed = {"steps_per_second": 2.0 * 128 * members}
    (tmp_path / METRICS_FILE).write_text(json.dumps(record | speed) + "\n")
    with claim(tmp_path):
        assert watch.take(tmp_path).seconds_left == pytest.approx(1.0)


def lines(**columns):
    num = metrics_history.WINDOW + 2
    healthy = {"entropy": 0.5, "approx_kl": 0.01, "explained_variance": 0.5}
    healthy |= {"skipped_steps": 0.0, "nonfinite_values": 0.0}
    return [
        {name: (value[i] if isinstance(value, list) else value) for name, value in given.items()}
        for i, given in enumerate([healthy | columns] * num)
    ]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, []),
        ({"entropy": [0.7] + [0.01] * 11}, ["entropy has collapsed (from 0.7 to 0.01)"]),
        ({"entropy": [-0.5] + [-3.0] * 11}, []),  # of a density
        ({"entropy": [0.7] + [0.01] * 11, "temperature": 0.2}, []),  # which SAC brings there
        ({"approx_kl": 0.2}, ["approx_kl is 0.2: updates of the policy are too large"]),
        ({"approx_kl": [0.01] * 11 + [9.0]}, []),  # once is no illness
        ({"explained_variance": -0.5}, ["explained_variance is -0.5: the values are worse"]),
        (
            {"explained_variance": -0.5, "q_value": 1.0},
            ["explained_variance is -0.5: the values are worse than a constant; reward_scale may"],
        ),
        ({"skipped_steps": [0.0] * 11 + [3.0]}, ["3 gradient steps were not finite"]),
        ({"nonfinite_values": 2.0}, ["24 numbers were NaN, infinite or beyond 1e15; --debug-nans"]),
    ],
)
def test_what_looks_ill_is_said(columns, words):
    records = lines(**columns)
    found = metrics_history.find_warnings(history_of(records))
    assert len(found) == len(words)
    for warning, start in zip(found, words, strict=True):
        assert warning.startswith(start)
    assert metrics_history.find_warnings(history_of(records[:5])) == []


def history_of(records):
    history = metrics_history.History(pathlib.Path("nowhere"))
    for record in records:
        history.add(record)
    return history


def test_a_look_reads_what_is_new_and_shows_what_reading_all_of_it_shows(run_dir, tmp_path):
    """What was read before, but for its end, could be anything by now."""
    (tmp_path / "config.json").write_text((run_dir / "config.json").read_text())
    first, *_, last = map(json.loads, (run_dir / METRICS_FILE).read_text().splitlines())
    path, whole, known = tmp_path / METRICS_FILE, "", {}
    for _ in range(3):
        new = [(last if i == 250 else first) | {"env_steps": i} for i in range(500)]
        lines = "".join(json.dumps(line) + "\n" for line in new)
        end = whole[-len(json.dumps(first)) :]
        path.write_text("?" * (len(whole) - len(end)) + end + lines)
        whole += lines
        found = watch.take(tmp_path, known)
        assert found.env_steps == 499
    path.write_text(whole)
    again = watch.take(tmp_path)
    assert found.last == again.last
    assert (found.evaluation, found.warnings) == (again.evaluation, again.warnings)
    for name, column in again.metrics.items():
        np.testing.assert_array_equal(found.metrics[name], column)


def test_what_is_kept_does_not_grow_with_the_run():
    records = [record | {"episode_return": float(i)} for i, record in enumerate(lines() * 1000)]
    history = history_of(records)
    assert history.num_lines == len(records) == 12_000
    assert len(history.recent) == metrics_history.WINDOW
    columns = history.columns()
    assert {len(column) for column in columns.values()} == {3000}
    np.testing.assert_array_equal(columns["episode_return"], 4.0 * np.arange(3000) + 1.5)
    assert history.last["episode_return"] == 11_999.0
