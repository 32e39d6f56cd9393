"""Films: pictures side by side with captions, written as GIF or MP4."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from jaxdrl.checks import require
from jaxdrl.envs.drawing.canvas import BLACK, GREY, LIGHT, WHITE, font
from jaxdrl.errors import ConfigError
from jaxdrl.io.safe_files import replaced
from jaxdrl.runs.run_dir import require_writable

SUFFIXES = (".gif", ".mp4")
"""Kinds of film, by the suffix of the file."""

LARGEST = (1280, 960)
"""The most pixels for all pictures of a film, which may become larger only for its captions."""
SMALLEST = 240
"""Small pictures are enlarged by a whole number, up to this many pixels on their longer side."""
TILE_WIDTH = 300
"""Pixels that a caption needs."""
STRIP, TITLE, GAP = 24, 28, 6
"""Pixels: height of a caption, height of the title, and gap between pictures."""
LAST_SECONDS = 1.5
"""How long the last frame stays, in seconds."""
NUM_COLOURS = 64
"""Colours of a GIF of drawings; more would only refine edges, and make the file larger."""
NUM_SAMPLES = 12
"""How many frames the colours of a GIF are chosen from."""


class Tile(NamedTuple):
    """A picture and its caption.

    Attributes:
      picture: uint8 `[height, width, 3]`.
      left: text at the left end of the caption.
      right: text at the right end.
      colour: background of the caption.
    """

    picture: np.ndarray
    left: str
    right: str
    colour: str = LIGHT


def require_film(out: Path) -> None:
    """Raises `ConfigError` unless `out` is a film that can be written on this machine."""
    suffix = out.suffix.lower()
    works = f"must end in one of {', '.join(SUFFIXES)}"
    require(suffix in SUFFIXES, "out", str(out), works)
    if suffix == ".mp4" and find_ffmpeg() is None:
        raise ConfigError(
            f"out = {str(out)!r}: needs ffmpeg; pip install 'jaxdrl[video]', or use .gif"
        )
    require_writable("out", out)


def compose(title: str, tiles: Sequence[Tile]) -> Image.Image:
    """One frame: the tiles in a grid, row by row, below a title; pictures have one size."""
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    pictures = [resize(tile.picture, columns, rows) for tile in tiles]
    width = max(TILE_WIDTH, pictures[0].width)
    step_x, step_y = width + GAP, STRIP + pictures[0].height + GAP
    size = columns * step_x + GAP, TITLE + rows * step_y
    frame = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), GREY)
    pen = ImageDraw.Draw(frame)
    pen.rectangle((0, 0, frame.width, TITLE - GAP), WHITE)
    write(pen, title, (GAP + 4, TITLE / 2 - GAP / 2), "lm", BLACK, frame.width - 20)
    for i, (tile, picture) in enumerate(zip(tiles, pictures, strict=True)):
        x, y = GAP + i % columns * step_x, TITLE + i // columns * step_y
        bottom = y + STRIP + picture.height
        pen.rectangle((x, y, x + width - 1, bottom - 1), WHITE)
        pen.rectangle((x, y, x + width - 1, y + STRIP - 1), tile.colour)
        ink = BLACK if tile.colour == LIGHT else WHITE
        write(pen, tile.left, (x + 6, y + STRIP / 2), "lm", ink, width / 2)
        write(pen, tile.right, (x + width - 6, y + STRIP / 2), "rm", ink, width / 2 + 20)
        frame.paste(picture, (x + (width - picture.width) // 2, y + STRIP))
    return frame


def write(
    pen: ImageDraw.ImageDraw, words: str, at: Any, anchor: str, ink: str, room: float
) -> None:
    """Writes words, shortened with dots if they do not fit into `room`."""
    if pen.textlength(words, font(14)) > room:
        while words and pen.textlength(f"{words}...", font(14)) > room:
            words = words[:-1]
        words += "..."
    pen.text(at, words, ink, font(14), anchor=anchor)


def resize(picture: np.ndarray, columns: int, rows: int) -> Image.Image:
    """A picture in the size for its grid: a small one is enlarged, a large one is reduced."""
    image = Image.fromarray(picture)
    times = SMALLEST // max(image.size)
    if times > 1:
        size = image.width * times, image.height * times
        image = image.resize(size, Image.Resampling.NEAREST)
    room = min(LARGEST[0] / (columns * image.width), LARGEST[1] / (rows * image.height))
    if room < 1:
        size = max(1, int(room * image.width)), max(1, int(room * image.height))
        image = image.resize(size, Image.Resampling.LANCZOS)
    return image


def write_film(
    out: Path, num_frames: int, make_frame: Callable[[int], Image.Image], fps: int
) -> None:
    """Writes frames of one size to a file, which appears when it is complete.

    Args:
      out: the file, whose suffix determines its kind.
      num_frames: number of frames.
      make_frame: `(index) -> image`; may be called twice for one index.
      fps: frames per second; a GIF rounds durations to hundredths of a second.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    writer = _write_gif if out.suffix.lower() == ".gif" else _write_mp4
    with replaced(out) as unfinished:
        writer(unfinished, num_frames, make_frame, fps)


def _write_gif(path: Path, num_frames: int, make_frame: Any, fps: int) -> None:
    samples = np.unique(np.linspace(0, num_frames - 1, NUM_SAMPLES).round().astype(int))
    # One palette for all frames, so that nothing flickers.
    palette = choose_palette(np.concatenate([np.asarray(make_frame(i)) for i in samples.tolist()]))
    nearest = np.full(2**24, -1, np.int16)
    frames = (with_palette(make_frame(i), palette, nearest) for i in range(num_frames))
    milliseconds = [round(100 / fps) * 10] * num_frames
    milliseconds[-1] = int(1000 * LAST_SECONDS)
    settings: Any = {"duration": milliseconds, "loop": 0, "optimize": False}
    next(frames).save(path, "GIF", save_all=True, append_images=frames, **settings)


def choose_palette(pixels: np.ndarray) -> np.ndarray:
    """Colours for `pixels [h, w, 3]`: uint8 `[n, 3]`.

    If a few colours make up nearly all pixels, as in a drawing, these are kept exactly; otherwise,
    as in a photograph, Pillow chooses 256.
    """
    colours, counts = np.unique(pack(pixels), return_counts=True)
    common = np.argsort(-counts, kind="stable")[:NUM_COLOURS]
    if counts[common].sum() < 0.95 * counts.sum():
        quantized = Image.fromarray(pixels).quantize(256)
        return np.array(quantized.getpalette(), np.uint8).reshape(-1, 3)
    return np.stack([colours[common] >> shift & 255 for shift in (16, 8, 0)], 1).astype(np.uint8)


def with_palette(frame: Image.Image, palette: np.ndarray, nearest: np.ndarray) -> Image.Image:
    """The frame in the colours of a palette.

    `nearest [2**24]` contains for each colour the index of the nearest one in the palette, or -1
    if it is not known yet; this function fills it in.
    """
    packed, near = pack(np.asarray(frame)), palette.astype(np.float32)
    new = np.unique(packed[nearest[packed] < 0])
    for part in np.array_split(new, len(new) // 4096 + 1):
        colours = np.stack([part >> shift & 255 for shift in (16, 8, 0)], 1).astype(np.float32)
        nearest[part] = ((near**2).sum(1) - 2 * colours @ near.T).argmin(1)
    image = Image.fromarray(nearest[packed].astype(np.uint8))
    image.putpalette(palette.tobytes())
    return image


def pack(pixels: np.ndarray) -> np.ndarray:
    """A number for each colour: `[..., 3]` to int32 `[...]`."""
    red, green, blue = (pixels[..., i].astype(np.int32) for i in range(3))
    return red << 16 | green << 8 | blue


def _write_mp4(path: Path, num_frames: int, make_frame: Any, fps: int) -> None:
    width, height = make_frame(0).size
    command = [
        *(str(find_ffmpeg()), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"),
        *("-s", f"{width}x{height}", "-r", str(fps), "-i", "-", "-c:v", "libx264"),
        # A format that every browser plays, and can start before the whole file is there.
        *("-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4", str(path)),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    num_last = max(1, round(fps * LAST_SECONDS))
    pipe: Any = process.stdin
    with process:
        with contextlib.suppress(BrokenPipeError):  # then ffmpeg prints why
            for i in range(num_frames):
                pipe.write(make_frame(i).tobytes() * (1 if i < num_frames - 1 else num_last))
        _, complaint = process.communicate()
    require(process.returncode == 0, "out", path.name, f"ffmpeg failed: {complaint.decode()}")


def find_ffmpeg() -> str | None:
    """The ffmpeg of the extra `video`, otherwise that of the system, or None."""
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        return shutil.which("ffmpeg")
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()
