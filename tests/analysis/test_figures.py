"""The style of pictures, and curves as lines of text."""

import matplotlib.pyplot as plt
import numpy as np

import jaxdrl
from jaxdrl.analysis import figures


def test_a_sparkline_goes_from_bottom_to_top():
    assert figures.sparkline(np.arange(8.0), 0.0, 7.0) == "▁▂▃▄▅▆▇█"
    assert figures.sparkline(np.ones(3), 1.0, 1.0) == "▁▁▁"
    assert len(figures.sparkline(np.ones(1000), 0.0, 1.0)) == 24


def test_the_style_is_that_of_pictures_of_jaxdrl(tmp_path):
    drawn = []
    with figures.picture(tmp_path / "x.png", 2, 2) as figure:
        drawn.append(figure.subplots().plot(np.ones((2, 9))))
    with plt.style.context(jaxdrl.plot_style()):
        figure = plt.figure()
        drawn.append(figure.subplots().plot(np.ones((2, 9))))
        plt.close(figure)
    ours, theirs = ([(line.get_color(), line.get_linestyle()) for line in lines] for lines in drawn)
    assert ours == theirs
    assert len(set(ours)) == 9  # more lines than colours can still be told apart


def test_the_style_is_the_callers_own():
    jaxdrl.plot_style()["font.size"] = 99
    assert jaxdrl.plot_style()["font.size"] != 99
