import numpy as np
import pytest

from jaxdrl.errors import ConfigError
from jaxdrl.evaluation.moments import Moment, Recording, packed, require_picture


def moment(num_steps):
    nothing = np.zeros(1)
    return Moment(num_steps, (), nothing, nothing, nothing > 0, nothing > 0)


@pytest.mark.parametrize("max_frames", [2, 3, 8, 100])
def test_every_second_moment_is_dropped_until_the_rest_is_few_enough(max_frames):
    recording = Recording(max_frames)
    for step in range(38):
        recording.add(moment(step), is_last=step == 37)
    steps = [kept.num_steps for kept in recording.moments]
    assert steps == sorted({*range(0, 37, recording.every), 37})
    assert max_frames / 2 <= len(steps) <= max_frames or recording.every == 1
    assert recording.keeps(3 * recording.every)


def test_a_picture_is_kept_as_it_is_in_little_memory():
    picture = np.random.default_rng(0).integers(256, size=(30, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(packed(picture).unpacked(), picture)
    flipped = packed(picture[::-1]).unpacked()
    np.testing.assert_array_equal(flipped, picture[::-1])
    assert len(packed(np.zeros((400, 600, 3), np.uint8)).content) < 10_000


@pytest.mark.parametrize(
    ("drawn", "words"),
    [
        (np.zeros((4, 4, 3)), r"float64\[4, 4, 3\]"),
        (np.zeros((4, 4), np.uint8), r"uint8\[4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), r"uint8\[0, 4, 3\]"),
        (None, r"object\[\]"),
    ],
)
def test_what_is_no_picture_is_refused(drawn, words):
    with pytest.raises(ConfigError, match=f"my/Env: draw returned {words}; must be uint8"):
        require_picture("my/Env", drawn)
