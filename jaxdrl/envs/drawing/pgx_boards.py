"""Pictures of Pgx's board games; its own are SVG, which nothing here turns into pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdrl.envs.drawing.canvas import (
    BLACK,
    BLUE,
    DARK,
    GREEN,
    GREY,
    HEIGHT,
    LIGHT,
    ORANGE,
    SKY,
    VERMILLION,
    WHITE,
    YELLOW,
    Canvas,
    Layer,
    Shape,
    draw_board,
    make_canvas,
)

SIDE = HEIGHT - 20
"""Height and width of a board in pixels."""

WOOD = "#e3c28f"


def find(task: str) -> Callable[[Any, Any], np.ndarray] | None:
    """The `Environment.draw` of a game, None if it has no drawing."""
    drawing = _go if task.startswith("go_") else DRAWINGS.get(task)
    if drawing is None:
        return None
    return lambda env_state, params: drawing(env_state.inner)


def _tic_tac_toe(state: Any) -> np.ndarray:
    board = np.asarray(state._x.board).reshape(3, 3)
    canvas = _canvas((0, 3), (-3, 0), WHITE)
    for i in (1, 2):
        canvas.line([(i, 0), (i, -3)], GREY, 3)
        canvas.line([(0, -i), (3, -i)], GREY, 3)
    for row, column in np.argwhere(board == 0).tolist():
        for sign in (-1, 1):
            x, y = column + 0.5, -row - 0.5
            canvas.line([(x - 0.3, y - 0.3 * sign), (x + 0.3, y + 0.3 * sign)], BLUE, 8)
    for row, column in np.argwhere(board == 1).tolist():
        canvas.disc((column + 0.5, -row - 0.5), 0.35, VERMILLION)
        canvas.disc((column + 0.5, -row - 0.5), 0.26, WHITE)
    return _with_legend(canvas, BLUE, VERMILLION)


def _connect_four(state: Any) -> np.ndarray:
    board = np.asarray(state._x.board).reshape(6, 7)
    layers = [
        Layer("", DARK, board < 0, "disc"),
        Layer("second", VERMILLION, board == 1, "disc"),
        Layer("first", YELLOW, board == 0, "disc"),
    ]
    return draw_board(layers, BLUE)


def _othello(state: Any) -> np.ndarray:
    first = 1 if int(state._x.turn) == 0 else -1  # the board is that of the player on turn
    board = first * np.asarray(state._x.board).reshape(8, 8)
    layers = [
        Layer("", GREEN, np.ones((8, 8), bool)),
        Layer("second", WHITE, board < 0, "disc"),
        Layer("first", BLACK, board > 0, "disc"),
    ]
    return draw_board(layers)


def _go(state: Any) -> np.ndarray:
    stones = np.asarray(state._x.board)
    size = round(np.sqrt(stones.size))
    canvas = _canvas((-0.5, size - 0.5), (0.5 - size, 0.5), WOOD)
    for i in range(size):
        canvas.line([(i, 0), (i, 1 - size)], BLACK, 1)
        canvas.line([(0, -i), (size - 1, -i)], BLACK, 1)
    for row, column in np.argwhere(stones.reshape(size, size)).tolist():
        colour = BLACK if stones[row * size + column] > 0 else WHITE
        canvas.disc((column, -row), 0.45, colour, BLACK)
    return _with_legend(canvas, BLACK, WHITE)


def _hex(state: Any) -> np.ndarray:
    """The first player joins the upper side to the lower one, and the second left to right."""
    first = 1 if int(state._x.step_count) % 2 == 0 else -1  # the board is that of who is on turn
    board = first * np.asarray(state._x.board).reshape(11, 11)
    step = np.sqrt(3) / 2  # from row to row, as wide as a cell is 1
    canvas = _canvas((-1, 17), (-17 * 0.75, 17 * 0.25), LIGHT)
    ends = (-0.6, 10.6)
    for side in ends:
        _between(canvas, [(row, side) for row in ends], SKY, step)
        _between(canvas, [(side, column) for column in ends], ORANGE, step)
    for row, column in np.ndindex(11, 11):
        colour = (WHITE, ORANGE, SKY)[int(np.sign(board[row, column]))]
        x, y = column + row / 2 + 0.5, -row * step
        angles = np.pi * (np.arange(6) / 3 + 1 / 6)
        corners = zip(x + 0.55 * np.cos(angles), y + 0.55 * np.sin(angles), strict=True)
        canvas.polygon(list(corners), colour)
    return _with_legend(canvas, ORANGE, SKY)


def _between(canvas: Canvas, cells: list[tuple[float, float]], colour: str, step: float) -> None:
    """A wide line between two places of a hexagonal board, given by row and column."""
    canvas.line([(c + r / 2 + 0.5, -r * step) for r, c in cells], colour, 8)


def _canvas(xs: tuple[float, float], ys: tuple[float, float], background: str) -> Canvas:
    """A canvas with room for the legend at its right."""
    canvas = make_canvas(xs, ys, box=(10, 10, 10 + SIDE, 10 + SIDE))
    canvas.rectangle((xs[0], ys[1]), (xs[1], ys[0]), background)
    return canvas


def _with_legend(canvas: Canvas, first: str, second: str) -> np.ndarray:
    entries: list[tuple[str, str, Shape]] = [("first", first, "disc"), ("second", second, "disc")]
    canvas.legend(entries, 10 + SIDE + 12, 10)
    return canvas.array()


DRAWINGS = {
    "connect_four": _connect_four,
    "hex": _hex,
    "othello": _othello,
    "tic_tac_toe": _tic_tac_toe,
}
