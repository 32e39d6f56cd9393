"""Numbers for a person: what is shown is near what is, and never a string of noughts."""

import math

import numpy as np
import pytest

from jaxdrl.io.numerals import brief, duration, short


def read(text):
    return float(text.replace(",", ""))


@pytest.mark.parametrize("sign", [1, -1])
def test_any_number_reads_back_to_a_thousandth_in_few_letters(sign):
    for value in 10.0 ** np.arange(-40, 39, 0.0137) * sign:
        text = short(float(value))
        assert math.isclose(read(text), value, rel_tol=6e-3 if "e" in text else 1e-3)
        assert len(text.lstrip("-")) <= 11
        assert "e" not in text or abs(value) >= 1e9 or abs(value) < 1e-4


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (138_970.0, "138,970"),
        (float(np.float32(1e-4)), "1e-4"),  # 9.9999997e-05
        (999.96, "1000"),
        (9999.97, "10,000"),
        (1000, "1,000"),
        (0.0, "0"),
        (-0.0001, "-0.0001"),
        (1e-5, "1e-5"),
        (5e-324, "4.94e-324"),
        (1.7e308, "1.7e308"),
        (float("nan"), "nan"),
        (-float("inf"), "-inf"),
        (np.float32(0.1), "0.1"),
    ],
)
def test_numbers_at_the_edges(value, text):
    assert short(value) == text


@pytest.mark.parametrize("sign", [1, -1])
def test_a_brief_number_reads_back_to_a_hundredth_in_at_most_seven_letters(sign):
    units = {"k": 1e3, "M": 1e6, "G": 1e9}
    for value in 10.0 ** np.arange(-40, 39, 0.0137) * sign:
        text = brief(float(value))
        known = read(text.rstrip("kMG")) * units.get(text[-1], 1.0)
        assert math.isclose(
            known, value, rel_tol=6e-2 if abs(value) < 1e-3 or "e" in text else 6e-3
        )
        assert len(text.lstrip("-")) <= 7


@pytest.mark.parametrize(
    ("value", "text"),
    [(9999.6, "10k"), (999_600, "1M"), (0.0, "0"), (1000.0, "1,000"), (float("nan"), "nan")],
)
def test_brief_numbers_at_the_edges(value, text):
    assert brief(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(119.4, "119 s"), (120, "2 min"), (7199, "2 h 0 min"), (172_800, "2 d 0 h")],
)
def test_times_change_their_unit_without_a_gap(seconds, text):
    assert duration(seconds) == text


def test_no_speed_is_no_time():
    assert duration(float("inf")) == duration(float("nan")) == "unknown"
