"""Pictures of returns over environment parameters."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import jaxdrl
from jaxdrl.analysis import figures, parameter_units, robustness_map
from jaxdrl.evaluation.parameter_grid import RobustnessMap, Variation

LENGTH, FORCE = Variation("length", 0.25, 1.0, 4), Variation("force_mag", 5.0, 15.0, 3)
FIXED = {"length": (0.5, 0.5), "force_mag": (10.0, 10.0)}
DRAWN = {"length": (0.3, 0.6), "force_mag": (10.0, 12.0)}


def map_of(variations, means, half=1.0):
    means = np.broadcast_to(means, [variation.num for variation in variations]).astype(float)
    return RobustnessMap(variations, 8, means, means - half, means + half)


@pytest.fixture
def drawn(monkeypatch):
    """Draws maps, and returns the figure as it is laid out when it is saved."""
    found = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, out: found.append(figure))

    def draw(maps, *about):
        robustness_map.draw(maps, Path("x.png"), *about)
        found[-1].draw_without_rendering()
        return found[-1]

    return draw


def words_of(figure):
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert not any(box.overlaps(axes.get_tightbbox()) for axes in figure.axes)
    return {text.get_text() for text in legend.get_texts()}


def test_a_map_has_units_and_a_mark_where_the_policy_was_trained(drawn):
    grid = map_of((LENGTH, FORCE), np.arange(12.0).reshape(4, 3))
    figure = drawn({"run": grid}, "CartPole-v1", {"run": FIXED})
    axes, bar = figure.axes
    assert axes.get_xlabel() == "length (half the pole, m)"
    assert axes.get_ylabel() == "force_mag (N)"
    assert bar.get_ylabel() == "mean return"
    assert axes.get_xlim() == (0.125, 1.125)  # whole cells around the values
    assert axes.get_ylim() == (2.5, 17.5)
    assert axes.lines[0].get_xydata().tolist() == [[0.5, 10.0]]
    assert words_of(figure) == {"trained here"}


def test_what_parameters_were_drawn_from_is_outlined(drawn):
    beyond = DRAWN | {"length": (0.3, 6.0)}
    figure = drawn({"run": map_of((LENGTH, FORCE), 1.0)}, "CartPole-v1", {"run": beyond})
    (outline,) = figure.axes[0].patches
    assert outline.get_bbox().extents.tolist() == [0.3, 10.0, 6.0, 12.0]
    assert figure.axes[0].get_xlim() == (0.125, 1.125)  # the cells that were played


def test_maps_of_two_policies_come_with_their_difference(drawn):
    first = map_of((LENGTH, FORCE), np.arange(12.0).reshape(4, 3))
    maps = {"a": first, "b": map_of((LENGTH, FORCE), 4.0)}
    figure = drawn(maps, "CartPole-v1", {"a": FIXED, "b": DRAWN})
    left, middle, right = (axes for axes in figure.axes if axes.get_title())
    assert [axes.get_title() for axes in (left, middle, right)] == ["a", "b", "a minus b"]
    (mesh,) = right.collections
    np.testing.assert_array_equal(mesh.get_array(), (first.mean_return - 4.0).T)
    assert mesh.get_clim() == (-7.0, 7.0)  # no difference is in the middle
    (dots,) = right.lines  # where the means are less than the root of 2 apart: 3, 4 and 5
    assert dots.get_xydata().tolist() == [[0.5, 5.0], [0.5, 10.0], [0.5, 15.0]]
    marks = {"trained here", "trained on parameters drawn from here"}
    assert words_of(figure) == marks | {"no difference by its 95% interval"}


def test_curves_of_two_policies_come_with_their_difference(drawn):
    maps = {"a": map_of((LENGTH,), [1.0, 2.0, 3.0, 4.0]), "b": map_of((LENGTH,), 2.0)}
    figure = drawn(maps, "CartPole-v1", {"a": FIXED, "b": DRAWN})
    above, below = figure.axes
    assert below.lines[0].get_ydata().tolist() == [-1.0, 0.0, 1.0, 2.0]
    assert below.get_xlabel() == "length (half the pole, m)"
    assert above.get_ylabel() == "mean return\nand 95% interval"
    assert below.get_ylabel() == "a minus b,\n95% interval"
    assert words_of(figure) == {"a", "b", "trained at 0.5", "trained on 0.3 to 0.6"}


def test_policies_that_were_trained_alike_have_one_mark(drawn):
    maps = {"a": map_of((LENGTH,), 1.0), "b": map_of((LENGTH,), 2.0)}
    figure = drawn(maps, "CartPole-v1", {"a": FIXED, "b": FIXED})
    marks = [line for line in figure.axes[0].lines if line.get_label() == "trained at 0.5"]
    assert [line.get_color() for line in marks] == ["grey"]


def test_the_interval_of_a_difference_is_that_worked_out_by_hand():
    first = RobustnessMap((LENGTH,), 8, np.array([10.0]), np.array([7.0]), np.array([13.0]))
    second = RobustnessMap((LENGTH,), 8, np.array([4.0]), np.array([0.0]), np.array([8.0]))
    found = [float(x[0]) for x in robustness_map.difference(first, second)]
    assert found == [6.0, 1.0, 11.0]  # the root of 3² + 4² on both sides
    skewed = RobustnessMap((LENGTH,), 8, np.array([4.0]), np.array([4.0]), np.array([8.0]))
    _, low, high = robustness_map.difference(first, skewed)
    assert (low[0], high[0]) == (1.0, 9.0)


def test_the_terminal_says_where_the_first_is_better():
    console = Console(file=io.StringIO(), width=200)
    first, second = map_of((LENGTH,), [0.0, 1.0, 5.0, 6.0]), map_of((LENGTH,), 1.0)
    robustness_map.show_difference(console, first, second)
    assert console.file.getvalue() == (
        "first minus second: 2 on average, from -1 to 5; the first is better in 2 and worse in 0 "
        "of 4 cells by the 95% interval of the difference\n"
    )


def test_units_are_those_of_parameters_that_there_are():
    for env, units in parameter_units.UNITS.items():
        assert set(units) <= set(vars(jaxdrl.make(env).default_params)), env
