"""Pictures of environment states, drawn with Pillow: lines and discs, and boards of cells.

Any function `(env_state, params) -> uint8 [height, width, 3]` can be an `Environment.draw`; the
drawings of gymnax's tasks are made with these functions.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 400, 280
"""Size of a picture in pixels."""

# A palette for the colour-blind, too. Source: Okabe and Ito 2002, "Color Universal Design".
BLACK, WHITE, GREY, LIGHT = "#000000", "#ffffff", "#8c9096", "#d9dce0"
ORANGE, SKY, GREEN, YELLOW = "#e69f00", "#56b4e9", "#009e73", "#f0e442"
BLUE, VERMILLION, PURPLE, DARK = "#0072b2", "#d55e00", "#cc79a7", "#20242a"

FINE = 3
"""Pictures are drawn this many times larger and then reduced, which smooths edges."""

Point = tuple[float, float]
Shape = Literal["cell", "block", "disc", "dot"]


@functools.cache
def font(size: int) -> Any:
    """Pillow's own font, so that no font of the system is needed."""
    return ImageFont.load_default(size)


@dataclass(frozen=True)
class Canvas:
    """A picture in the units of the environment, x to the right and y upwards.

    Widths of lines and sizes of text are in pixels.

    Attributes:
      image: the picture, `FINE` times as large.
      pen: Pillow's drawing object for the image.
      origin: pixel of `(0, 0)`.
      scale: pixels per unit.
    """

    image: Image.Image
    pen: ImageDraw.ImageDraw
    origin: Point
    scale: float

    def pixel(self, point: Point) -> Point:
        """The position of a point in the larger picture."""
        x, y = self.origin
        return FINE * (x + self.scale * float(point[0])), FINE * (y - self.scale * float(point[1]))

    def line(self, points: Sequence[Point], colour: str, width: float = 2.0) -> None:
        """A line through points; a wide one has round ends."""
        pixels = [self.pixel(point) for point in points]
        self.pen.line(pixels, colour, round(FINE * width), joint="curve")
        for x, y in (pixels[0], pixels[-1]) if width > 3 else ():
            r = FINE * width / 2 - 0.5
            self.pen.ellipse((x - r, y - r, x + r, y + r), colour)

    def polygon(self, points: Sequence[Point], colour: str) -> None:
        """A filled polygon."""
        self.pen.polygon([self.pixel(point) for point in points], colour)

    def rectangle(self, corner: Point, opposite: Point, colour: str) -> None:
        """A filled rectangle."""
        (x0, y0), (x1, y1) = self.pixel(corner), self.pixel(opposite)
        left, right, top, bottom = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        self.pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), colour)

    def disc(self, centre: Point, radius: float, colour: str, outline: str | None = None) -> None:
        """A filled disc."""
        (x, y), r = self.pixel(centre), FINE * self.scale * radius
        self.pen.ellipse((x - r, y - r, x + r, y + r), colour, outline, 2 * FINE)

    def legend(self, entries: Sequence[tuple[str, str, Shape]], left: float, top: float) -> None:
        """Names with colours and shapes, one below the other, from the pixel `(left, top)`."""
        for i, (name, colour, shape) in enumerate(entries):
            x, y, r = FINE * (left + 7), FINE * (top + 10 + 23 * i), FINE * 7.0
            r = FINE * 3.5 if shape == "dot" else r
            draw = self.pen.rectangle if shape != "disc" else self.pen.ellipse
            draw((x - r, y - r, x + r, y + r), colour, GREY, 2)
            at = (FINE * (left + 20), y)
            self.pen.text(at, name, BLACK, font(13 * FINE), anchor="lm")

    def array(self) -> np.ndarray:
        """The picture, uint8 `[height, width, 3]`."""
        return np.asarray(self.image.reduce(FINE))


def make_canvas(
    xs: Point,
    ys: Point,
    *,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    box: tuple[float, float, float, float] | None = None,
    background: str = WHITE,
) -> Canvas:
    """A canvas on which the area `xs` by `ys` just fits into the middle of `box`.

    Args:
      xs: smallest and largest x.
      ys: smallest and largest y.
      size: width and height in pixels.
      box: left, top, right and bottom in pixels; None takes the whole picture.
      background: colour.
    """
    image = Image.new("RGB", (FINE * size[0], FINE * size[1]), background)
    left, top, right, bottom = box or (0, 0, *size)
    scale = min((right - left) / (xs[1] - xs[0]), (bottom - top) / (ys[1] - ys[0]))
    x = (left + right) / 2 - scale * (xs[0] + xs[1]) / 2
    y = (top + bottom) / 2 + scale * (ys[0] + ys[1]) / 2
    return Canvas(image, ImageDraw.Draw(image), (x, y), scale)


class Layer(NamedTuple):
    """Cells of a board that look alike.

    Attributes:
      name: name in the legend; an empty name is left out of it.
      colour: colour of the cells.
      cells: bool `[rows, columns]`.
      shape: how each is drawn: "cell", a square with a gap to the next; "block", one without a gap;
        "disc"; or "dot", a small square.
    """

    name: str
    colour: str
    cells: np.ndarray
    shape: Shape = "cell"


def draw_board(layers: Sequence[Layer], background: str = DARK) -> np.ndarray:
    """A board with later layers over earlier ones, and the legend to its right."""
    rows, columns = layers[0].cells.shape
    side = HEIGHT - 20
    canvas = make_canvas((0, columns), (-rows, 0), box=(10, 10, 10 + side, 10 + side))
    canvas.rectangle((0, 0), (columns, -rows), background)
    gap = min(0.06, 1.0 / canvas.scale)  # of a cell, on each side
    for layer in layers:
        for row, column in np.argwhere(layer.cells).tolist():
            draw_cell(canvas, row, column, layer.colour, layer.shape, gap)
    entries = [(layer.name, layer.colour, layer.shape) for layer in layers if layer.name]
    canvas.legend(entries[::-1], 10 + side + 12, 10)
    return canvas.array()


def draw_cell(canvas: Canvas, row: int, column: int, colour: str, shape: Shape, gap: float) -> None:
    """One cell of a board, whose rows go down from y = 0."""
    centre = (column + 0.5, -row - 0.5)
    if shape == "disc":
        canvas.disc(centre, max(0.42, 4.5 / canvas.scale), colour)
        return
    r = {"dot": 0.18, "cell": 0.5 - gap, "block": 0.5}[shape]
    x, y = centre
    canvas.rectangle((x - r, y + r), (x + r, y - r), colour)


def one_cell(shape: tuple[int, int], row: Any, column: Any) -> np.ndarray:
    """The cells of a layer with a single one, clipped to the board: bool `[rows, columns]`."""
    cells = np.zeros(shape, bool)
    cells[np.clip(int(row), 0, shape[0] - 1), np.clip(int(column), 0, shape[1] - 1)] = True
    return cells
