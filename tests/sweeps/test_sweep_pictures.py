"""Pictures of a sweep."""

from pathlib import Path

import numpy as np
import pytest

from jaxdrl.analysis import figures
from jaxdrl.config.choices import Choices
from jaxdrl.config.search_space import Range
from jaxdrl.sweeps import pictures

VARIED = {
    "learning_rate": Range(1e-4, 1e-2, log=True),
    "gamma": Range(0.9, 1.0),
    "num_steps": Choices(("16", "64")),
}


def row(number, mean, seeds=2):
    return {
        "members": list(range(number * seeds, (number + 1) * seeds)),
        "hyperparams": {"learning_rate": 1e-4 * 10**number, "gamma": 0.9 + 0.02 * number},
        "shape": {"num_steps": ("16", "64")[number % 2]},
        "mean_return": mean,
        "ci95_low": mean - 5.0,
        "ci95_high": mean + 5.0,
    }


ROWS = [row(1, 90.0), row(0, 50.0), row(2, 10.0)]
"""Settings, best first."""


@pytest.fixture
def drawn(monkeypatch):
    """Draws, and returns the figure as it is laid out when it is saved."""
    found = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, out: found.append(figure))

    def draw(how, *args):
        how(*args, "CartPole-v1", Path("x.png"))
        found[-1].draw_without_rendering()
        return found[-1]

    return draw


def words_of(figure):
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert not any(box.overlaps(axes.get_tightbbox()) for axes in figure.axes)
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize(
    ("seeds", "title", "over"),
    [
        (2, "CartPole-v1: 3 settings, 2 seeds each", "seeds"),
        (1, "CartPole-v1: 3 settings, one seed each", "episodes"),
    ],
)
def test_the_response_says_how_many_seeds_its_intervals_are_over(drawn, seeds, title, over):
    rows = [row(i, mean, seeds) for i, mean in ((1, 90.0), (0, 50.0), (2, 10.0))]
    figure = drawn(pictures.draw_response, rows, VARIED)
    assert figure.get_suptitle() == title
    assert set(words_of(figure)) == {
        f"mean return, with its 95% interval over {over}",
        "best setting, by the lower end of its interval",
    }
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels == ["learning rate (log)", "gamma", "num steps"]


def test_parallel_coordinates_have_a_colour_bar_and_the_best_line_stands_out(drawn):
    figure = drawn(pictures.draw_parallel, ROWS, VARIED)
    axes, bar = figure.axes
    assert bar.get_ylabel() == "mean return"
    assert bar.get_ylim() == (10.0, 90.0)
    assert words_of(figure) == ["best setting, by the lower end of its interval"]
    *others, best = axes.lines[: len(ROWS)]  # the last covers the others
    assert best.get_ydata() == pytest.approx([0.5, 0.2, 1.0, 1.0])
    assert best.get_linewidth() > 1.5 * max(line.get_linewidth() for line in others)
    assert best.get_color() == figures.COLOURS[1]
    ticks = axes.get_xticklabels()
    names = ["learning rate\n(log)", "gamma", "num steps", "mean return"]
    assert [tick.get_text() for tick in ticks] == names
    marks = [*axes.xaxis.get_ticklines(), *axes.yaxis.get_ticklines()]
    assert all(mark.get_markersize() == 0 for mark in marks)


def test_the_lineage_has_a_dot_for_every_copy(drawn):
    first = {"learning_rate": np.array([1e-3, 2e-3, 3e-3])}
    after = {"learning_rate": [1e-3, 2e-3, 1.2e-3]}
    line = {"update": 20, "parent": [0, 1, 0], "hyperparams": after}
    figure = drawn(
        pictures.draw_lineage, first, [line], {"learning_rate": Range(1e-4, 1, log=True)}
    )
    (axes,) = figure.axes
    assert figure.get_suptitle() == "CartPole-v1: 3 members, coloured by their first value"
    assert axes.get_ylabel() == "learning rate\n(log)"
    assert axes.lines[-1].get_xydata().tolist() == [pytest.approx([20, 1.2e-3])]
    assert len({line.get_color() for line in axes.lines[:3]}) == 3
    assert words_of(figure) == ["copied a better member"]
