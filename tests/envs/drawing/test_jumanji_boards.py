"""Pictures of Jumanji's tasks, by where the state says that things are."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("jumanji")

import matplotlib
from jumanji.environments.commons.graph_view_utils import spring_layout
from jumanji.environments.routing.maze.types import Position
from jumanji.environments.routing.maze.types import State as MazeState
from jumanji.environments.routing.snake.types import Position as SnakePosition
from jumanji.environments.routing.snake.types import State as SnakeState
from matplotlib import pyplot

import jaxdrl
from jaxdrl.envs.drawing import canvas, jumanji_boards
from jaxdrl.envs.suites import jumanji

RED, GREEN = (255, 0, 0), (0, 255, 0)
FRUIT, BODY = (240, 128, 128), (34, 139, 34)  # matplotlib's lightcoral and forestgreen


def rgb(colour):
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def is_colour(picture, colour):
    return (picture == colour).all(-1)


def snake(head, fruit):
    """A snake of length 1 on 12 by 12 cells."""
    body = np.zeros((12, 12), np.int32)
    body[head] = 1
    places = [SnakePosition(*np.int32(place)) for place in (head, fruit)]
    return SnakeState(
        key=np.zeros(2, np.uint32),
        body=body > 0,
        body_state=body,
        head_position=places[0],
        tail=body > 0,
        fruit_position=places[1],
        length=np.int32(1),
        step_count=np.int32(0),
        action_mask=np.ones(4, bool),
    )


def draw_snake(state):
    env = jaxdrl.make("jumanji/Snake-v1", max_episode_steps=None)
    return env.draw(state, ())


def cell_of(picture, colour):
    """Row and column of the middle of all that has a colour, between the lines of the board."""
    edges = np.argwhere(is_colour(picture, (0, 0, 0)))
    low, high = edges.min(0), edges.max(0)
    middle = np.argwhere(is_colour(picture, colour)).mean(0)
    return tuple(np.floor(12 * (middle - low) / (high - low)).astype(int).tolist())


@pytest.mark.parametrize(("head", "fruit"), [((2, 7), (9, 1)), ((11, 0), (0, 11))])
def test_the_head_of_the_snake_and_the_fruit_are_where_the_state_says(head, fruit):
    picture = draw_snake(snake(head, fruit))
    assert picture.dtype == np.uint8 and picture.shape == (480, 480, 3)
    assert (cell_of(picture, BODY), cell_of(picture, FRUIT)) == (head, fruit)


def test_a_maze_has_its_walls_its_agent_and_its_target():
    walls = np.random.default_rng(0).random((10, 10)) < 0.5
    walls[3, 8] = walls[6, 2] = False
    agent, target = (Position(row=row, col=col) for row, col in ((3, 8), (6, 2)))
    state = MazeState(
        agent_position=agent,
        target_position=target,
        walls=walls,
        action_mask=np.ones(4, bool),
        key=np.zeros(2, np.uint32),
        step_count=0,
    )
    picture = jaxdrl.make("jumanji/Maze-v0", max_episode_steps=None).draw(state, ())
    inside = np.argwhere(is_colour(picture, (0, 0, 0)))  # a wall is all around
    (top, left), (bottom, right) = inside.min(0), inside.max(0)
    rows = np.linspace(top, bottom, 25)[3:-2:2].astype(int)
    columns = np.linspace(left, right, 25)[3:-2:2].astype(int)
    expected = np.where(walls[..., None], (0, 0, 0), (255, 255, 255))
    expected[3, 8], expected[6, 2] = GREEN, RED
    np.testing.assert_array_equal(picture[rows[:, None], columns], expected)


def cells(picture, shape):
    """Colours in the middle of the cells of a board, `[rows, columns, 3]`."""
    side = 260 / max(shape)
    left = 10 + (260 - side * shape[1]) / 2
    rows = (10 + side * (np.arange(shape[0]) + 0.5)).astype(int)
    columns = (left + side * (np.arange(shape[1]) + 0.5)).astype(int)
    return picture[rows[:, None], columns]


@pytest.mark.parametrize("frightened", [0, 5])
def test_pac_man_shows_what_is_left_to_eat_and_who_eats(frightened):
    grid = np.ones((31, 28), int)
    grid[0] = 0
    state = SimpleNamespace(
        grid=grid,
        pellet_locations=np.array([[4, 20], [0, 0]]),  # column and row; one is eaten
        power_up_locations=np.array([[6, 22]]),
        ghost_locations=np.array([[8, 24], [9, 25]]),
        frightened_state_time=np.int32(frightened),
        player_locations=SimpleNamespace(x=26, y=10),  # row and column
    )
    found = cells(jumanji_boards.draw_task("PacMan-v1", None, state), (31, 28))
    expected = np.full((31, 28, 3), rgb(canvas.DARK))
    expected[0] = rgb(canvas.BLUE)
    expected[20, 4], expected[22, 6] = rgb(canvas.LIGHT), rgb(canvas.ORANGE)
    expected[[24, 25], [8, 9]] = rgb(canvas.SKY if frightened else canvas.VERMILLION)
    expected[26, 10] = rgb(canvas.YELLOW)
    np.testing.assert_array_equal(found, expected)


def test_the_agents_of_the_spanning_trees_are_at_their_nodes():
    adjacency = np.zeros((5, 5), np.int32)
    adjacency[[0, 1, 2, 3], [1, 2, 3, 4]] = adjacency[[1, 2, 3, 4], [0, 1, 2, 3]] = 1
    state = SimpleNamespace(
        adj_matrix=adjacency,
        connected_nodes=np.array([[0, 1, -1], [4, -1, -1]]),
        nodes_to_connect=np.array([[0, 2], [3, 4]]),
        positions=np.array([1, 4]),
    )
    picture = jumanji_boards.draw_task("MMST-v0", None, state)
    x, y = np.array(spring_layout(adjacency, 5)).T
    rows, columns = (270 - 260 * y).astype(int), (150 - 130 + 260 * x).astype(int)
    colours = [tuple(colour) for colour in picture[rows, columns].tolist()]
    first, second = rgb(canvas.ORANGE), rgb(canvas.SKY)
    assert colours == [first, first, first, second, second]
    is_dark = is_colour(picture, (0, 0, 0))
    nodes = zip(rows, columns, strict=True)
    rings = [is_dark[r - 12 : r + 13, c - 12 : c + 13].any() for r, c in nodes]
    assert rings == [False, True, False, False, True]


def test_a_picture_changes_with_the_board_alone():
    env = jaxdrl.make("jumanji/Game2048-v1")
    _, state = jax.eval_shape(env.reset, jax.random.key(0), ())
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)
    board = state.board.copy()
    board[1, 2] = 3
    pictures = [env.draw(state.replace(board=jnp.asarray(b)), ()) for b in (state.board, board)]
    changed = np.argwhere((pictures[0] != pictures[1]).any(-1))
    rows, columns = changed.min(0), changed.max(0)
    assert 0 < len(changed) < 480**2 / 16 and (columns - rows < 130).all()
    np.testing.assert_array_equal(env.draw(state, ()), pictures[0])


def test_nothing_is_left_open_or_changed(monkeypatch):
    """Not even where the user's figures want a display that is not there."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    figure = pyplot.figure()
    try:
        monkeypatch.setitem(matplotlib.rcParams, "backend", "tkagg")
        before = {k: v for k, v in matplotlib.rcParams.items() if k != "backend"}
        draw_snake(snake((1, 1), (2, 2)))
        assert {k: v for k, v in matplotlib.rcParams.items() if k != "backend"} == before
        assert pyplot.get_fignums() == [figure.number] and pyplot.gcf() is figure
    finally:
        pyplot.close(figure)


def test_the_backend_of_the_user_comes_back_and_nothing_is_shown(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":99")  # to show a figure of Agg would be a warning
    pyplot.switch_backend("svg")
    try:
        draw_snake(snake((1, 1), (2, 2)))
        assert matplotlib.get_backend() == "svg"
    finally:
        pyplot.switch_backend("agg")


@pytest.mark.slow
@pytest.mark.parametrize("task", jumanji.list_tasks())
def test_every_task_is_drawn(task):
    env = jaxdrl.make(f"jumanji/{task}")
    _, state = jax.device_get(jax.jit(env.reset)(jax.random.key(0), ()))
    picture = env.draw(state, ())
    assert picture.dtype == np.uint8 and picture.shape in ((480, 480, 3), (280, 400, 3))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2
    assert not pyplot.get_fignums()
