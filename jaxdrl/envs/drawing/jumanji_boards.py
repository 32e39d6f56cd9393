"""Pictures of Jumanji's tasks: by its own viewers without a display, or here where those fail."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jumanji.environments.commons.graph_view_utils import spring_layout
from matplotlib import pyplot

from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.envs.drawing.canvas import (
    BLACK,
    BLUE,
    DARK,
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
    Layer,
    draw_board,
    make_canvas,
    one_cell,
)

DOTS_PER_INCH = 48
"""Resolution of the figures, which are 10 inches wide."""

WANTS_JAX = {"Maze-v0"}
"""Tasks whose viewers call `.at` on a state; all others are slower with JAX arrays."""

AGENTS = (ORANGE, SKY, GREEN, PURPLE, BLUE, VERMILLION)


def draw_task(task: str, viewed_env: Callable[[], Any], state: Any) -> np.ndarray:
    """The picture of a Jumanji state, uint8 `[height, width, 3]`.

    Args:
      task: name of the task, such as Snake-v1.
      viewed_env: makes Jumanji's environment with its viewer.
      state: a state of that environment.
    """
    drawing = DRAWN_HERE.get(task)
    if drawing is not None:
        return drawing(jax.device_get(state))
    with _offscreen(), default_promotion():
        to_array = jnp.asarray if task in WANTS_JAX else np.asarray
        viewed_env().render(jax.tree.map(to_array, jax.device_get(state)))
        figure = pyplot.gcf()
        try:
            canvas: Any = figure.canvas
            return np.array(canvas.buffer_rgba())[..., :3]
        finally:
            pyplot.close(figure)


@contextlib.contextmanager
def _offscreen() -> Iterator[None]:
    """A context in which figures are drawn into memory, whatever backend the user has."""
    before = matplotlib.get_backend()
    # In a session that is not interactive, viewers would show their figures.
    with matplotlib.rc_context({"interactive": True, "figure.dpi": DOTS_PER_INCH}):
        pyplot.switch_backend("agg")
        try:
            yield
        finally:
            # The user's backend may need a display that does not exist.
            with contextlib.suppress(ImportError):
                pyplot.switch_backend(before)


def pac_man(state: Any) -> np.ndarray:
    """Walls, pellets, ghosts and the player; Jumanji's own viewer takes most of a second.

    Positions are (column, row), except the player's, whose x is the row; eaten pellets are at 0, 0.
    """
    walls = np.asarray(state.grid) == 0

    def cells(places: Any) -> np.ndarray:
        found = np.zeros(walls.shape, bool)
        columns, rows = np.asarray(places).T
        found[rows, columns] = True
        found[0, 0] = False
        return found

    ghosts = cells(state.ghost_locations)
    is_scared = bool(state.frightened_state_time > 0)
    player = state.player_locations
    layers = [
        Layer("wall", BLUE, walls, "block"),
        Layer("pellet", LIGHT, cells(state.pellet_locations), "dot"),
        Layer("power-up", ORANGE, cells(state.power_up_locations), "disc"),
        Layer("ghost", VERMILLION, ghosts & (not is_scared)),
        Layer("scared ghost", SKY, ghosts & is_scared),
        Layer("player", YELLOW, one_cell(walls.shape, player.x, player.y), "disc"),
    ]
    return draw_board(layers)


def spanning_trees(state: Any) -> np.ndarray:
    """The graph, and for each agent its path, its nodes and its position.

    Jumanji's own viewer shows nothing with current versions of matplotlib.
    """
    adjacency = np.asarray(state.adj_matrix)
    places = _layout(adjacency.tobytes(), adjacency.dtype.str, len(adjacency))
    canvas = make_canvas((0, 1), (0, 1), box=(10, 10, WIDTH - 110, HEIGHT - 10))
    for i, j in np.argwhere(np.triu(adjacency)).tolist():
        canvas.line([places[i], places[j]], LIGHT, 1.5)
    colours = [AGENTS[i % len(AGENTS)] for i in range(len(state.positions))]
    for agent, way in enumerate(np.asarray(state.connected_nodes)):
        points = [places[i] for i in way[way >= 0].tolist()]
        if len(points) > 1:
            canvas.line(points, colours[agent], 4)
    radius = 6 / canvas.scale
    for place in places:
        canvas.disc(place, radius / 2, GREY)
    for agent, nodes in enumerate(np.asarray(state.nodes_to_connect)):
        for node in nodes.tolist():
            canvas.disc(places[node], radius, colours[agent], WHITE)
    for agent, node in enumerate(np.asarray(state.positions).tolist()):
        canvas.disc(places[node], 1.5 * radius, BLACK)
        canvas.disc(places[node], radius, colours[agent])
    entries: Any = [(f"agent {i}", colour, "disc") for i, colour in enumerate(colours)]
    canvas.legend([*entries, ("position", DARK, "disc")], WIDTH - 100, 10)
    return canvas.array()


@functools.lru_cache(maxsize=64)
def _layout(adjacency: bytes, dtype: str, num_nodes: int) -> list[tuple[float, float]]:
    graph = np.frombuffer(adjacency, dtype).reshape(num_nodes, num_nodes)
    return spring_layout(graph, num_nodes)


DRAWN_HERE: dict[str, Callable[[Any], np.ndarray]] = {
    "PacMan-v1": pac_man,
    "MMST-v0": spanning_trees,
}
"""Tasks whose viewers are too slow for a film, or show nothing."""
