"""What MJX prints at its import."""

import pytest

from jaxdrl.envs.suites.mujoco_import import without_warp


def test_two_lines_about_warp_are_left_out_and_nothing_else(capsys):
    with without_warp():
        print("Failed to import warp: No module named 'warp'")
        print("Failed to import mujoco_warp: No module named 'warp'")
        print("Failed to import a model: warp")
    assert capsys.readouterr().out == "Failed to import a model: warp\n"


def test_what_was_printed_before_an_error_is_shown(capsys):
    with pytest.raises(ImportError), without_warp():
        print("words")
        raise ImportError
    assert capsys.readouterr().out == "words\n"
