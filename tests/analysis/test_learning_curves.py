"""`jaxdrl plot`: curves of runs, grouped by settings."""

import contextlib
import dataclasses
import io
import json

import numpy as np
import pytest

import jaxdrl
from jaxdrl.analysis import figures, learning_curves
from jaxdrl.cli import main
from jaxdrl.config.settings import with_settings
from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import write_sealed
from jaxdrl.runs.run_dir import METRICS_FILE
from small_runs import CARTPOLE, config_of


def write_run(directory, returns, *, seed=0, speed=100.0, steps=128, **ppo):
    """A run directory with a line for each return, `steps` apart."""
    directory.mkdir(parents=True)
    changed = with_settings(CARTPOLE.algorithm, **ppo)
    experiment = dataclasses.replace(CARTPOLE, seed=seed, algorithm=changed)
    write_sealed(directory / "config.json", config_of(experiment))
    lines = [
        {
            "update": i + 1,
            "env_steps": (i + 1) * steps,
            "episode_return": value,
            "num_episodes": 0 if value is None else 4,
            "entropy": 1.0 / (i + 1),
            "steps_per_second": speed,
        }
        for i, value in enumerate(returns)
    ]
    (directory / METRICS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return directory


def test_runs_of_the_same_settings_are_one_group_with_a_band(tmp_path):
    runs = [
        write_run(tmp_path / "a0", np.linspace(0, 10, 400).tolist(), seed=0),
        write_run(tmp_path / "a1", np.linspace(0, 20, 400).tolist(), seed=1),
        write_run(tmp_path / "b0", [5.0] * 400, gamma=0.5),
    ]
    first, second = learning_curves.plot_runs(runs)
    assert (first.label, second.label) == ("gamma=0.99 (2 runs)", "gamma=0.5")
    assert first.run_dirs == runs[:2]
    assert first.x[-1] == 400 * 128
    np.testing.assert_allclose(first.values[0], first.x / first.x[-1] * 10, atol=0.1)
    np.testing.assert_allclose(first.values[1], 2 * first.values[0], atol=0.1)
    np.testing.assert_allclose(second.values, 5.0)


def test_a_shorter_run_ends_where_it_ends_and_gaps_are_bridged(tmp_path):
    long = write_run(tmp_path / "long", [1.0] * 400)
    short = write_run(tmp_path / "short", [2.0, None, None, 4.0] * 25, seed=1)
    (group,) = learning_curves.plot_runs([long, short])
    ended = group.x > 101 * 128 + group.x[0]
    assert np.isnan(group.values[1][ended]).all()
    assert np.isfinite(group.values[1][~ended][1:]).all()


def test_against_seconds_a_faster_run_is_further_left(tmp_path):
    slow = write_run(tmp_path / "slow", [0.0, 10.0] * 50, speed=128.0)
    fast = write_run(tmp_path / "fast", [0.0, 10.0] * 50, speed=256.0, seed=1)
    (group,) = learning_curves.plot_runs([slow, fast], against="seconds")
    assert group.x[-1] == pytest.approx(100.0)
    assert np.isfinite(group.values[0]).sum() > 190
    assert np.isfinite(group.values[1]).sum() == pytest.approx(100, abs=3)


def test_a_curve_of_a_long_run_is_thinned_and_the_same_to_the_eye(tmp_path):
    """As that of a run of the same length with a quarter of the lines, which is not thinned."""
    returns = np.sin(np.linspace(0, 6, 5000))
    long = write_run(tmp_path / "long", returns.tolist())
    whole = write_run(tmp_path / "whole", returns[3::4].tolist(), steps=4 * 128)
    assert len(learning_curves.read_curve(long).values) == 2500
    assert len(learning_curves.read_curve(whole).values) == 1250
    ours, theirs = (learning_curves.plot_runs([run])[0] for run in (long, whole))
    np.testing.assert_allclose(ours.values, theirs.values, atol=0.01)
    np.testing.assert_allclose(ours.x, theirs.x, rtol=0.002)


def test_a_run_that_is_named_twice_is_drawn_once(tmp_path):
    run = write_run(tmp_path / "a", [1.0] * 5)
    (group,) = learning_curves.plot_runs([run, tmp_path / "a" / ".." / "a", run])
    assert group.run_dirs == [run]


def test_any_metric_can_be_drawn(tmp_path):
    run = write_run(tmp_path / "a", [1.0] * 300)
    (group,) = learning_curves.plot_runs([run], metric="entropy")
    assert group.values[0, 0] > 5 * group.values[0, -1] > 0


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_command_writes_a_picture_and_prints_a_table(tmp_path, suffix):
    runs = [
        write_run(tmp_path / str(i), [0.0, 5.0, 9.0 + i], seed=i, gamma=gamma)
        for i, gamma in enumerate((0.9, 0.9, 0.8))
    ]
    out, output = tmp_path / "new" / f"curves.{suffix}", io.StringIO()
    with contextlib.redirect_stdout(output):
        main.main(["plot", *map(str, runs), "--out", str(out)])
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert out.read_bytes().startswith(starts[suffix])
    printed = output.getvalue()
    assert "gamma=0.9 (2" in printed
    assert "9 to 10" in printed
    assert f"picture: {out}" in printed


def test_a_run_of_jaxdrl_can_be_drawn_while_its_last_line_is_torn(tmp_path):
    with contextlib.redirect_stdout(io.StringIO()):
        jaxdrl.run(dataclasses.replace(CARTPOLE, run_dir=tmp_path / "run"))
    with (tmp_path / "run" / METRICS_FILE).open("a") as file:
        file.write('{"update": 4, "env_st')
    curve = learning_curves.read_curve(tmp_path / "run")
    assert curve.env_steps.tolist() == [128, 256, 384]
    assert (np.diff(curve.seconds) > 0).all()
    assert curve.settings["anneal_env_steps"] is None


def drawn(monkeypatch, runs, **how):
    """The figure that would be written, laid out as it is saved."""
    found = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, out: found.append(figure))
    learning_curves.plot_runs(runs, "x.png", **how)
    (figure,) = found
    figure.draw_without_rendering()
    return figure


def test_a_picture_says_what_is_drawn_and_its_legend_covers_none_of_it(tmp_path, monkeypatch):
    runs = [
        write_run(tmp_path / f"a{i}", np.linspace(0, 10, 40).tolist(), seed=i, gamma=1 - i // 2 / 9)
        for i in range(10)
    ]
    figure = drawn(monkeypatch, runs)
    (axes,) = figure.axes
    assert axes.get_title() == "CartPole-v1, mean and range of the runs"
    assert axes.get_ylabel() == "return of training episodes"
    assert axes.get_xlabel() == "environment steps"
    assert "1k" in [tick.get_text() for tick in axes.get_xticklabels()]
    (legend,) = figure.legends
    whole, box = figure.bbox, legend.get_window_extent()
    assert not box.overlaps(axes.get_tightbbox())
    assert whole.x0 <= box.x0 and box.x1 <= whole.x1
    assert len(legend.get_texts()) == 5
    colours = [line.get_color() for line in axes.lines]
    assert colours == list(figures.COLOURS[:5])


def test_a_picture_of_one_run_has_no_legend(tmp_path, monkeypatch):
    figure = drawn(monkeypatch, [write_run(tmp_path / "a", [1.0, 2.0])], against="seconds")
    assert not figure.legends
    assert figure.axes[0].get_title() == "CartPole-v1"
    assert figure.axes[0].get_xlabel() == "training time (s)"


def without_lines(tmp_path):
    run = write_run(tmp_path / "empty", [1.0])
    (run / METRICS_FILE).unlink()
    return run


@pytest.mark.parametrize(
    ("make", "flags", "words"),
    [
        (without_lines, [], "metrics.jsonl has no line yet"),
        (lambda path: write_run(path / "a", [1.0]), ["--metric", "loss"], "has entropy, env_steps"),
        (lambda path: write_run(path / "a", [1.0]), ["--out", "a.gif"], "must end in one of .png"),
    ],
)
def test_what_cannot_be_drawn_gets_one_clear_sentence(tmp_path, make, flags, words):
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as caught:
        main.main(["plot", str(make(tmp_path)), *flags])
    assert caught.value.code == 2
    assert words in errors.getvalue()
    assert errors.getvalue().count("\n") == 1


def test_no_run_at_all_is_refused():
    with pytest.raises(ConfigError, match="must name at least one run"):
        learning_curves.plot_runs([])
