"""Curves as lines of text."""

import numpy as np

from jaxdrl.analysis import figures


def test_a_sparkline_goes_from_bottom_to_top():
    assert figures.sparkline(np.arange(8.0), 0.0, 7.0) == "▁▂▃▄▅▆▇█"
    assert figures.sparkline(np.ones(3), 1.0, 1.0) == "▁▁▁"
    assert len(figures.sparkline(np.ones(1000), 0.0, 1.0)) == 24
