"""Frames with their words, and the files that hold them."""

import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxdrl.analysis import film_writer
from jaxdrl.envs.drawing.canvas import BLUE, GREY, LIGHT, VERMILLION
from jaxdrl.errors import ConfigError

RED = (200, 10, 30)


def flat(colour, height=200, width=320):
    return np.full((height, width, 3), colour, np.uint8)


def rgb(colour):
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def colours(image):
    return {colour for _, colour in image.getcolors(2**24)}


def find(image, colour):
    """Left, top, right and bottom of the pixels of a colour."""
    rows, columns = np.nonzero((np.asarray(image) == colour).all(-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_tiles_are_in_a_grid_and_whole():
    shades = [(50 * i, 255 - 40 * i, 30) for i in range(5)]
    frame = film_writer.compose("five", [film_writer.Tile(flat(c), "", "") for c in shades])
    boxes = [find(frame, shade) for shade in shades]
    assert all(right - left == 320 and bottom - top == 200 for left, top, right, bottom in boxes)
    lefts, tops = [box[0] for box in boxes], [box[1] for box in boxes]
    assert lefts[0] == lefts[3] < lefts[1] == lefts[4] < lefts[2]  # 3 columns
    assert tops[0] == tops[1] == tops[2] < tops[3] == tops[4]
    assert frame.width % 2 == 0 and frame.height % 2 == 0  # as MP4 wants it


def test_words_are_above_the_picture_on_their_colour():
    def strip(colour, left, right):
        frame = film_writer.compose("", [film_writer.Tile(flat(RED), left, right, colour)])
        x0, y0, x1, _ = find(frame, RED)
        return frame.crop((x0, y0 - film_writer.STRIP, x1, y0))

    for colour in (LIGHT, BLUE, VERMILLION):
        assert colours(strip(colour, "", "")) == {rgb(colour)}
    written = np.asarray(strip(BLUE, "return 12", "step 5")) != rgb(BLUE)
    _, columns = np.nonzero(written.any(-1))
    assert columns.min() < 15 and columns.max() > 300
    assert not written[:, 100:250].any()
    assert strip(BLUE, "return 12", "") != strip(BLUE, "return 13", "")


def test_words_that_do_not_fit_end_in_dots():
    long = film_writer.compose("a name " * 100, [film_writer.Tile(flat(RED), "", "")])
    white = np.asarray(long.crop((0, 0, long.width, film_writer.TITLE - film_writer.GAP))) != 255
    assert white[:, :-10].any() and not white[:, -10:].any()


@pytest.mark.parametrize(
    ("size", "seen"), [((10, 10), (240, 240)), ((60, 100), (120, 200)), ((200, 320), (200, 320))]
)
def test_small_pictures_become_squares(size, seen):
    picture = flat(RED, *size)
    picture[0, 0] = (0, 0, 250)
    left, top, right, bottom = find(
        film_writer.compose("", [film_writer.Tile(picture, "", "")]), (0, 0, 250)
    )
    times = seen[0] // size[0]
    assert (right - left, bottom - top) == (times, times)


def test_large_pictures_and_many_are_made_smaller():
    tiles = [film_writer.Tile(flat(RED, 1000, 2000), "", "")] * 4
    frame = film_writer.compose("", tiles)
    assert 1270 < frame.width <= 1280 + 3 * film_writer.GAP
    many = film_writer.compose("", [film_writer.Tile(flat(RED), "", "")] * 36)
    assert many.height < 1400 and many.width < 1900


def frames(num):
    """A red square that goes to the right."""

    def make(i):
        image = Image.new("RGB", (320, 200), GREY)
        image.paste(RED, (10 * i, 50, 10 * i + 40, 90))
        return image

    return make


def test_a_gif_holds_the_frames_as_they_are_and_stays_at_the_last(tmp_path):
    out = tmp_path / "deep" / "film.gif"
    film_writer.write_film(out, 20, frames(20), 25)
    with Image.open(out) as film:
        assert film.n_frames == 20 and film.info["loop"] == 0
        for i in range(20):
            film.seek(i)
            np.testing.assert_array_equal(film.convert("RGB"), frames(20)(i))
            assert film.info["duration"] == (1500 if i == 19 else 40)
    assert list(out.parent.iterdir()) == [out]


def test_the_palette_of_a_drawing_has_its_frequent_colours():
    pixels = np.full((100, 100, 3), 255, np.uint8)
    pixels[40:60] = RED
    pixels[0, :, 0] = np.arange(100)  # as many shades as at the edges of a drawing
    palette = film_writer.choose_palette(pixels).tolist()
    assert len(palette) == film_writer.NUM_COLOURS
    assert palette[:2] == [[255, 255, 255], list(RED)]
    pixels[:30, :, 1] = np.arange(3000).reshape(30, 100) % 251  # a photograph in a third of it
    assert len(film_writer.choose_palette(pixels)) > film_writer.NUM_COLOURS


def test_a_gif_of_photographs_comes_near(tmp_path):
    y, x = np.mgrid[0:120, 0:160]
    picture = np.stack([x * 255 / 160, y * 255 / 120, (x + y) % 256], -1).astype(np.uint8)
    film_writer.write_film(tmp_path / "film.gif", 2, lambda i: Image.fromarray(picture + i), 10)
    with Image.open(tmp_path / "film.gif") as film:
        error = np.abs(np.asarray(film.convert("RGB")).astype(int) - picture)
    assert error.mean() < 15


def test_an_mp4_holds_the_frames(tmp_path):
    out = tmp_path / "film.mp4"
    film_writer.write_film(out, 20, frames(20), 10)
    command = [
        film_writer.find_ffmpeg(),
        "-i",
        str(out),
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    process = subprocess.run(command, capture_output=True, check=True)
    decoded = np.frombuffer(process.stdout, np.uint8).reshape(-1, 200, 320, 3)
    assert len(decoded) == 19 + 15  # the last one for 1.5 s
    for i in (0, 7, 19):
        error = np.abs(decoded[i].astype(int) - np.asarray(frames(20)(i)))
        assert error.mean() < 5
    assert re.search(rb"Duration: 00:00:03\.40", process.stderr)


@pytest.mark.parametrize("name", ["film.gif", "film.mp4"])
def test_a_film_that_fails_leaves_nothing_behind(tmp_path, name):
    (tmp_path / name).write_bytes(b"the old one")

    def make(i):
        if i == 3:
            raise OSError("no more")
        return frames(5)(i)

    with pytest.raises(OSError, match="no more"):
        film_writer.write_film(tmp_path / name, 5, make, 10)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"the old one"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """The directory of all programs that there are; the extra `video` is not installed."""
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def test_without_the_extra_what_the_ffmpeg_of_the_system_says_is_handed_on(tmp_path, programs):
    ffmpeg = programs / "ffmpeg"
    ffmpeg.write_text("#!/bin/sh\necho no such codec >&2\nexit 3\n")
    ffmpeg.chmod(0o755)
    with pytest.raises(ConfigError, match="ffmpeg failed: no such codec"):
        film_writer.write_film(tmp_path / "film.mp4", 50, frames(50), 10)


def test_only_kinds_that_can_be_written_are_taken(tmp_path):
    film_writer.require_film(tmp_path / "a.GIF")
    film_writer.require_film(tmp_path / "a.mp4")
    for name in ("film.avi", "film"):
        with pytest.raises(ConfigError, match=r"out = .*must end in one of \.gif, \.mp4"):
            film_writer.require_film(tmp_path / name)


@pytest.mark.usefixtures("programs")
def test_without_ffmpeg_only_gif_is_taken(tmp_path):
    film_writer.require_film(tmp_path / "a.gif")
    with pytest.raises(ConfigError, match=r"pip install 'jaxdrl\[video\]', or use \.gif"):
        film_writer.require_film(tmp_path / "a.mp4")
