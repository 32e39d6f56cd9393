"""Pictures of JaxMARL's games on boards: Overcooked, Hanabi and the coin game."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxdrl.envs.drawing.canvas import (
    BLACK,
    BLUE,
    FINE,
    GREEN,
    GREY,
    HEIGHT,
    LIGHT,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    WHITE,
    WIDTH,
    YELLOW,
    Canvas,
    Layer,
    Point,
    Shape,
    draw_board,
    draw_cell,
    font,
    make_canvas,
    one_cell,
)

THINGS = {
    1: ("counter", GREY),
    4: ("serving", GREEN),
    5: ("pot", BLACK),
    6: ("recipe", YELLOW),
    7: ("recipe button", YELLOW),
    9: ("plates", WHITE),
}
"""Names and colours of what fills a cell of the kitchen, by JaxMARL's number."""

FIRST_PILE = 10
"""JaxMARL's number of the pile of the first ingredient; those of others follow it."""

INGREDIENTS = (ORANGE, GREEN, PURPLE, SKY, VERMILLION, YELLOW)
COOKS = (BLUE, VERMILLION, PURPLE, GREEN)

AHEAD = ((0.0, 1.0), (0.0, -1.0), (1.0, 0.0), (-1.0, 0.0))
"""Directions of a cook: up, down, right, left."""

SUITS = {"R": VERMILLION, "Y": YELLOW, "G": GREEN, "W": WHITE, "B": BLUE, "M": PURPLE}
"""Colours of Hanabi's cards."""


def kitchen(suite_env: Any, state: Any) -> np.ndarray:
    """The kitchen, its cooks with what they carry, and the contents of pots and counters."""
    grid = np.asarray(state.grid)
    rows, columns = grid.shape[:2]
    right = WIDTH - 120
    canvas = make_canvas((0, columns), (-rows, 0), box=(10, 10, right, HEIGHT - 10))
    canvas.rectangle((0, 0), (columns, -rows), LIGHT)
    for row, column in np.argwhere(grid[..., 0] > 0).tolist():
        thing, contents, time = (int(x) for x in grid[row, column])
        draw_cell(canvas, row, column, _thing(thing)[1], "cell", 0.03)
        centre = (column + 0.5, -row - 0.5)
        if thing in (6, 7) and (thing == 6 or time):
            contents = int(state.recipe)
        _contents(canvas, centre, contents)
        if thing == 5 and time:
            _write(canvas, (centre[0], centre[1] + 0.28), str(time), WHITE, 0.3)
    cooks = state.agents
    for i, carried in enumerate(np.asarray(cooks.inventory).tolist()):
        centre = (float(cooks.pos.x[i]) + 0.5, -float(cooks.pos.y[i]) - 0.5)
        dx, dy = AHEAD[int(cooks.dir[i])]
        canvas.disc(centre, 0.4, COOKS[i % len(COOKS)])
        canvas.disc((centre[0] + 0.36 * dx, centre[1] + 0.36 * dy), 0.1, BLACK)
        _contents(canvas, centre, int(carried))
    seen = [_thing(thing) for thing in np.unique(grid[..., 0]).tolist() if thing]
    entries: list[tuple[str, str, Shape]] = [(*thing, "cell") for thing in dict.fromkeys(seen)]
    num = len(np.asarray(cooks.dir))
    entries += [(f"cook {i}", COOKS[i % len(COOKS)], "disc") for i in range(num)]
    canvas.legend(entries, right + 10, 10)
    return canvas.array()


def _thing(number: int) -> tuple[str, str]:
    """Name and colour of what fills a cell."""
    if number >= FIRST_PILE:
        i = number - FIRST_PILE
        return f"ingredient {i}", INGREDIENTS[i % len(INGREDIENTS)]
    return THINGS[number]


def _contents(canvas: Canvas, centre: Point, item: int) -> None:
    """A plate, cooked food and up to three ingredients: bits of a number, two per ingredient."""
    x, y = centre
    if item & 1:
        canvas.disc(centre, 0.3, WHITE, GREY)
    if item & 2:
        canvas.disc(centre, 0.22, YELLOW)
    counts = [(item >> (2 + 2 * i)) & 3 for i in range(len(INGREDIENTS))]
    found = [INGREDIENTS[i] for i, count in enumerate(counts) for _ in range(count)]
    for i, colour in enumerate(found):
        canvas.disc((x + 0.24 * (i - (len(found) - 1) / 2), y), 0.11, colour)


def _write(canvas: Canvas, centre: Point, text: str, colour: str, size: float) -> None:
    """Text of a height in units of the canvas."""
    letters = font(max(1, round(FINE * canvas.scale * size)))
    canvas.pen.text(canvas.pixel(centre), text, colour, letters, anchor="mm")


def fireworks(suite_env: Any, state: Any) -> np.ndarray:
    """All hands, whoever sees them, the cards that were played, and what is left."""
    hands = np.asarray(state.player_hands)
    suits = [SUITS.get(name, PURPLE) for name in suite_env.color_map]
    width = max(hands.shape[1], len(suits)) + 2.5
    canvas = make_canvas((0, width), (-len(hands) - 2.2, 0), box=(10, 10, WIDTH - 10, HEIGHT - 10))
    canvas.rectangle((0, 0), (width, -len(hands) - 2.2), LIGHT)
    on_turn = int(np.asarray(state.cur_player_idx).argmax())
    for player, hand in enumerate(hands):
        y = -player - 0.55
        _write(canvas, (1.1, y), f"player {player}", BLACK, 0.28)
        if player == on_turn:
            canvas.disc((0.25, y), 0.1, BLACK)
        for i, card in enumerate(hand):
            if card.any():
                suit, rank = np.argwhere(card)[0].tolist()
                _card(canvas, (2.5 + i, y), suits[suit], str(rank + 1))
    y = -len(hands) - 0.75
    _write(canvas, (1.1, y), "played", BLACK, 0.28)
    for i, played in enumerate(np.asarray(state.fireworks).sum(axis=1).astype(int).tolist()):
        _card(canvas, (2.5 + i, y), suits[i], str(played))
    left = int(np.asarray(state.remaining_deck_size).sum())
    hints, lives = (int(np.asarray(x).sum()) for x in (state.info_tokens, state.life_tokens))
    words = f"{hints} hints, {lives} lives, {left} cards to draw"
    _write(canvas, (width / 2, y - 1.0), words, BLACK, 0.32)
    return canvas.array()


def _card(canvas: Canvas, centre: Point, colour: str, text: str) -> None:
    x, y = centre
    canvas.rectangle((x - 0.36, y + 0.44), (x + 0.36, y - 0.44), GREY)
    canvas.rectangle((x - 0.33, y + 0.41), (x + 0.33, y - 0.41), colour)
    _write(canvas, centre, text, BLACK, 0.5)


def coins(suite_env: Any, state: Any) -> np.ndarray:
    """Both players and their coins."""
    del suite_env
    board = (3, 3)
    layers = [
        Layer("player 0", VERMILLION, one_cell(board, *state.red_pos), "disc"),
        Layer("player 1", BLUE, one_cell(board, *state.blue_pos), "disc"),
        Layer("coin of 0", ORANGE, one_cell(board, *state.red_coin_pos), "dot"),
        Layer("coin of 1", SKY, one_cell(board, *state.blue_coin_pos), "dot"),
    ]
    return draw_board(layers)
