"""Drawings of gymnax's board games and mazes."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.envs.drawing.canvas import (
    BLUE,
    DARK,
    GREEN,
    GREY,
    LIGHT,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    WHITE,
    YELLOW,
    Layer,
    Shape,
    draw_board,
    one_cell,
)

Channels = tuple[tuple[int, str, str, Shape], ...]

CHANNELS: dict[str, Channels] = {
    "Asterix-MinAtar": (
        (2, "trail", GREY, "dot"),
        (3, "gold", YELLOW, "cell"),
        (1, "enemy", VERMILLION, "cell"),
        (0, "player", SKY, "disc"),
    ),
    "Breakout-MinAtar": (
        (3, "brick", VERMILLION, "cell"),
        (2, "ball before", GREY, "dot"),
        (0, "paddle", SKY, "cell"),
        (1, "ball", YELLOW, "disc"),
    ),
    "Freeway-MinAtar": (
        # How often a car moves, the slowest first.
        (6, "each 5th step", "#3b4a5a", "dot"),
        (5, "each 4th", "#5d7084", "dot"),
        (4, "each 3rd", "#8598ab", "dot"),
        (3, "each 2nd", "#b3c2d0", "dot"),
        (2, "each step", "#eef3f8", "dot"),
        (1, "car", VERMILLION, "cell"),
        (0, "chicken", YELLOW, "disc"),
    ),
    "Seaquest-MinAtar": (
        (7, "oxygen", GREEN, "cell"),
        (8, "divers aboard", PURPLE, "cell"),
        (3, "trail", GREY, "dot"),
        (9, "diver", PURPLE, "disc"),
        (5, "fish", ORANGE, "cell"),
        (6, "enemy", VERMILLION, "cell"),
        (4, "enemy bullet", YELLOW, "dot"),
        (2, "own bullet", WHITE, "dot"),
        (1, "its rear", SKY, "dot"),
        (0, "submarine", SKY, "disc"),
    ),
    "SpaceInvaders-MinAtar": (
        (1, "alien", VERMILLION, "cell"),
        (5, "alien bullet", YELLOW, "dot"),
        (4, "own bullet", WHITE, "dot"),
        (0, "cannon", SKY, "cell"),
    ),
}
"""The channels of an observation that are drawn, from bottom to top: channel, name, colour and
shape."""


def channels(env: Any) -> Any:
    """The observation of a MinAtar game as a board, with a colour for each channel."""
    wanted = CHANNELS[env.name]
    observe = jax.jit(env.get_obs)

    def draw(env_state: Any, params: Any) -> np.ndarray:
        with default_promotion():
            seen = np.asarray(observe(env_state, params)) > 0
        return draw_board([Layer(name, c, seen[:, :, i], shape) for i, name, c, shape in wanted])

    return draw


def pong(env: Any) -> Any:
    """The court, the agent to the left."""
    shape = (env.height, env.width)

    def paddle(centre: Any, column: int) -> np.ndarray:
        reach = np.arange(-env.paddle_half_height, env.paddle_half_height + 1)
        rows = np.clip(int(centre) + reach, 0, env.height - 1)
        cells = np.zeros(shape, bool)
        cells[rows, column] = True
        return cells

    def draw(env_state: Any, params: Any) -> np.ndarray:
        return draw_board(
            [
                Layer("ball before", GREY, one_cell(shape, *env_state.last_ball_position)),
                Layer("opponent", VERMILLION, paddle(env_state.paddle_centers[1], -1)),
                Layer("agent", SKY, paddle(env_state.paddle_centers[0], 0)),
                Layer("ball", YELLOW, one_cell(shape, *env_state.ball_position), "disc"),
            ]
        )

    return draw


def catch(env: Any) -> Any:
    """The board, on which the ball falls."""
    shape = (env.rows, env.columns)

    def draw(env_state: Any, params: Any) -> np.ndarray:
        paddle = one_cell(shape, env_state.paddle_y, env_state.paddle_x)
        ball = one_cell(shape, env_state.ball_y, env_state.ball_x)
        return draw_board([Layer("paddle", SKY, paddle), Layer("ball", YELLOW, ball, "disc")])

    return draw


def deep_sea(env: Any) -> Any:
    """The water with the sea floor below it, on which every episode ends."""
    shape = (env.size + 1, env.size)
    floor = np.zeros(shape, bool)
    floor[-1] = True
    # A diver in this cell takes the treasure by one more correct action.
    treasure = one_cell(shape, env.size - 1, env.size - 1)

    def draw(env_state: Any, params: Any) -> np.ndarray:
        diver = one_cell(shape, env_state.row, env_state.column)
        layers = [
            Layer("water", BLUE, ~floor),
            Layer("sea floor", DARK, floor, "block"),
            Layer("treasure", YELLOW, treasure),
            Layer("diver", ORANGE, diver, "disc"),
        ]
        return draw_board(layers, background=WHITE)

    return draw


def maze(env: Any) -> Any:
    """The rooms, the agent, and the goal."""
    walls = np.asarray(env.occupied_map) > 0

    def draw(env_state: Any, params: Any) -> np.ndarray:
        layers = [
            Layer("wall", DARK, walls, "block"),
            Layer("goal", GREEN, one_cell(walls.shape, *env_state.goal)),
            Layer("agent", ORANGE, one_cell(walls.shape, *env_state.pos), "disc"),
        ]
        return draw_board(layers, background=LIGHT)

    return draw


def frozen_lake(env: Any) -> Any:
    """The ice, its holes, and the goal."""
    tiles = np.asarray(env.desc)
    names = (("start", LIGHT), ("ice", SKY), ("hole", DARK), ("goal", GREEN))

    def draw(env_state: Any, params: Any) -> np.ndarray:
        agent = one_cell(tiles.shape, *divmod(int(env_state.position), env.ncol))
        layers = [Layer(name, colour, tiles == i) for i, (name, colour) in enumerate(names)]
        return draw_board([*layers, Layer("agent", ORANGE, agent, "disc")], background=WHITE)

    return draw
