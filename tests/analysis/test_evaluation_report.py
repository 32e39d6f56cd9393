"""Histograms of returns, and the table above them, with figures worked out by hand."""

import io

import numpy as np
from rich.console import Console

from jaxdrl.analysis import evaluation_report
from jaxdrl.evaluation.episodes import summarise


def test_a_histogram_has_one_bar_per_bin():
    lines = evaluation_report.histogram(np.array([0.0, 0.0, 0.0, 10.0]), width=6)
    assert len(lines) == evaluation_report.NUM_BINS
    assert lines[0].endswith("0 to 1  ██████ 3")
    assert lines[-1].endswith("9 to 10  ██ 1")
    assert lines[4].endswith(" 0")
    assert evaluation_report.histogram(np.array([7.0, 7.0])) == ["every return is 7"]


def test_the_table_says_what_the_episodes_came_to():
    returns = np.array([0.0, 1.0, 2.0, 9.0], np.float32)
    lengths = np.array([4, 4, 4, 8], np.int32)
    found = summarise(returns, lengths, np.array([True, True, True, False]))
    output = io.StringIO()
    evaluation_report.show(Console(file=output, width=80), found)
    rows = [" ".join(line.split()) for line in output.getvalue().splitlines()]
    assert rows[0].startswith("mean return 3 (95% interval ")
    assert rows[1:6] == [
        "median 1.5",
        "interquartile mean 1.5",
        "smallest and largest 0 and 9",
        "mean length 5",
        "cut by the step limit 1 episodes",
    ]
