"""Drawings of gymnax's tasks: what is where, found in the pixels by its colour."""

import math
from types import SimpleNamespace

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from jaxdrl.analysis.render import draw_state
from jaxdrl.config.presets import TASKS
from jaxdrl.core.dtype_promotion import default_promotion
from jaxdrl.envs import from_gymnax
from jaxdrl.envs.drawing import canvas, gymnax_boards, gymnax_scenes
from jaxdrl.envs.drawing.canvas import (
    BLUE,
    DARK,
    GREEN,
    ORANGE,
    SKY,
    VERMILLION,
    YELLOW,
    make_canvas,
)

CHAINS_AND_BANDITS = {
    "DiscountingChain-bsuite",
    "MemoryChain-bsuite",
    "UmbrellaChain-bsuite",
    "SimpleBandit-bsuite",
    "BernoulliBandit-misc",
    "GaussianBandit-misc",
}


def rgb(colour):
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def where(picture, colour):
    """`(x, y)` of the pixels of a colour, each `[n]`, y upwards."""
    rows, columns = np.nonzero((picture == rgb(colour)).all(-1))
    assert len(rows), f"nothing is {colour}"
    return columns, -rows


def ends(picture, colour):
    """Vector from the lower to the upper end of a line that is not level."""
    x, y = where(picture, colour)
    upper, lower = y > y.max() - 4, y < y.min() + 4
    return x[upper].mean() - x[lower].mean(), float(y.max() - y.min())


def make_gymnax(name):
    with default_promotion():
        return gymnax.make(name)


def draw(name, env_state, **params):
    make_drawing = gymnax_scenes.DRAWINGS[name]
    env, default = make_gymnax(name)
    picture = make_drawing(env)(SimpleNamespace(**env_state), default.replace(**params))
    assert picture.dtype == np.uint8
    return picture


def test_all_tasks_but_chains_and_bandits_are_drawn():
    assert set(TASKS) - set(gymnax_scenes.DRAWINGS) == CHAINS_AND_BANDITS
    assert set(gymnax_scenes.DRAWINGS) <= set(TASKS)
    assert jaxdrl.make("MemoryChain-bsuite").draw is None


@pytest.mark.parametrize("name", sorted(set(gymnax_scenes.DRAWINGS) - set(gymnax_boards.CHANNELS)))
def test_states_of_every_such_task_can_be_drawn(name):
    env = jaxdrl.make(name)
    _, env_state = jax.device_get(env.reset(jax.random.key(0), env.default_params))
    picture = env.draw(env_state, jax.device_get(env.default_params))
    assert picture.dtype == np.uint8 and picture.shape in [(280, 400, 3), (220, 400, 3)]
    shades = len(np.unique(picture.reshape(-1, 3), axis=0))
    assert shades > 10
    np.testing.assert_array_equal(picture, env.draw(env_state, env.default_params))


@pytest.mark.parametrize("theta", [-0.2, 0.0, 0.2])
@pytest.mark.parametrize("length", [0.25, 0.5, 2.0])
def test_the_pole_leans_as_far_as_its_angle_says_and_is_as_long(theta, length):
    picture = draw("CartPole-v1", {"x": 0.5, "theta": theta}, length=length)
    across, up = ends(picture, ORANGE)
    marks, _ = where(picture, VERMILLION)
    unit = (marks.max() - marks.min()) / (2 * 2.4)  # from one end of the track to the other
    assert across == pytest.approx(2 * length * unit * math.sin(theta), abs=4)
    assert up == pytest.approx(2 * length * unit * math.cos(theta), abs=7)
    cart, _ = where(picture, BLUE)
    assert (cart.mean() - (marks.max() + marks.min()) / 2) / unit == pytest.approx(0.5, abs=0.05)


def test_a_heavier_cart_is_larger():
    light, heavy = (
        len(where(draw("CartPole-v1", {"x": 0.0, "theta": 0.0}, masscart=m), BLUE)[0])
        for m in (1.0, 2.0)
    )
    assert heavy / light == pytest.approx(2, rel=0.15)


@pytest.mark.parametrize("theta", [0.0, 1.0, math.pi, -2.0])
@pytest.mark.parametrize("length", [0.7, 1.0])
def test_the_pendulum_is_where_its_angle_says(theta, length):
    """Counter-clockwise from the top, as in Gymnasium."""
    picture = draw("Pendulum-v1", {"theta": theta, "last_u": 0.0}, l=length)
    x, y = where(picture, ORANGE)
    unit = 280 / 2.3
    # The middle of the rod; what is black hides a little of its beginning.
    assert x.mean() - 199.5 == pytest.approx(-length / 2 * unit * math.sin(theta), abs=6)
    assert y.mean() + 139.5 == pytest.approx(length / 2 * unit * math.cos(theta), abs=6)


@pytest.mark.parametrize(("torque", "side"), [(2.0, -1), (-1.0, 1), (0.0, 0)])
def test_the_arc_turns_as_the_torque_does(torque, side):
    picture = draw("Pendulum-v1", {"theta": math.pi, "last_u": torque})[:200]  # without the legend
    if side == 0:
        assert not (picture == rgb(BLUE)).all(-1).any()
    else:
        x, _ = where(picture, BLUE)
        assert np.sign(x.mean() - 199.5) == side


def test_links_hang_down_and_turn_to_the_right():
    hanging = draw("Acrobot-v1", {"joint_angle1": 0.0, "joint_angle2": 0.0})
    right = draw("Acrobot-v1", {"joint_angle1": math.pi / 2, "joint_angle2": math.pi / 2})
    for picture, first, second in ((hanging, (0, -0.5), (0, -1.5)), (right, (0.5, 0), (1, 0.5))):
        unit = 280 / 4.32
        for colour, expected in ((BLUE, first), (ORANGE, second)):
            x, y = where(picture, colour)
            found = (x.mean() - 199.5) / unit, (y.mean() + 139.5) / unit
            assert found == pytest.approx(expected, abs=0.07)


def test_the_height_to_reach_is_that_of_the_task():
    """At equal lengths the tip is above the line where the episode ends, whatever they are."""
    for length in (1.0, 0.5):
        state = {"joint_angle1": 2.0, "joint_angle2": 0.3}
        lengths = {"link_length_1": length, "link_length_2": length}
        picture = draw("Acrobot-v1", state, **lengths)[:240]
        tip = where(picture, ORANGE)[1].max()
        assert tip > where(picture, GREEN)[1].max()  # -cos(2) - cos(2.3) = 1.08 > 1
        picture = draw("Acrobot-v1", {**state, "joint_angle1": 1.8}, **lengths)[:240]
        assert where(picture, ORANGE)[1].max() < where(picture, GREEN)[1].min()  # 0.73
    unequal = draw("Acrobot-v1", {"joint_angle1": 2.0, "joint_angle2": 0.3}, link_length_1=2.0)
    assert not (unequal == rgb(GREEN)).all(-1).any()


@pytest.mark.parametrize("name", ["MountainCar-v0", "MountainCarContinuous-v0"])
def test_the_car_is_on_the_hill_and_under_the_flag_at_the_goal(name):
    goal = float(gymnax.make(name)[1].goal_position)
    valley = draw(name, {"position": -math.pi / 6})
    at_goal = draw(name, {"position": goal})
    (x0, y0), (x1, y1) = where(valley, BLUE), where(at_goal, BLUE)
    assert y0.mean() < y1.mean() - 100
    flag, _ = where(at_goal, GREEN)
    assert abs(flag.max() - x1.mean()) < 5
    unit = (x1.mean() - x0.mean()) / (goal + math.pi / 6)
    left = draw(name, {"position": -1.0})
    assert where(left, BLUE)[0].mean() - x0.mean() == pytest.approx(
        unit * (math.pi / 6 - 1), abs=12
    )
    assert where(left, BLUE)[1].mean() > y0.mean()


def cells(picture, shape):
    """Colours in the middle of the cells of a board, `[rows, columns, 3]`."""
    side = 260 / max(shape)
    top, left = 10 + (260 - side * shape[0]) / 2, 10 + (260 - side * shape[1]) / 2
    rows = (top + side * (np.arange(shape[0]) + 0.5)).astype(int)
    columns = (left + side * (np.arange(shape[1]) + 0.5)).astype(int)
    return picture[rows[:, None], columns]


def is_colour(found, colour):
    return (found == rgb(colour)).all(-1)


def expected_colours(name, obs):
    found = np.broadcast_to(rgb(DARK), (10, 10, 3)).copy()
    for channel, _, colour, _ in gymnax_boards.CHANNELS[name]:
        found[obs[:, :, channel] > 0] = rgb(colour)
    return found


@pytest.mark.parametrize("name", gymnax_boards.CHANNELS)
def test_a_cell_of_a_game_has_the_colour_of_its_topmost_channel(name):
    obs = np.random.default_rng(0).random((10, 10, 10)) < 0.1
    env = SimpleNamespace(name=name, get_obs=lambda env_state, params: env_state)
    found = cells(gymnax_boards.channels(env)(obs, None), (10, 10))
    np.testing.assert_array_equal(found, expected_colours(name, obs))


HARD_TO_COMPILE = {"Asterix-MinAtar", "Freeway-MinAtar", "Seaquest-MinAtar"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in HARD_TO_COMPILE else ())
        for name in gymnax_boards.CHANNELS
    ],
)
def test_a_game_is_drawn_as_it_is_observed(name):
    env = jaxdrl.make(name)

    def play(key):
        def one(env_state, key):
            action_key, step_key = jax.random.split(key)
            action = env.action_space.sample(action_key)
            obs, env_state, *_ = env.step(step_key, env_state, action, env.default_params)
            return env_state, obs

        reset_key, play_key = jax.random.split(key)
        _, env_state = env.reset(reset_key, env.default_params)
        env_state, seen = jax.lax.scan(one, env_state, jax.random.split(play_key, 12))
        return seen[-1], env_state

    obs, env_state = jax.device_get(jax.jit(play)(jax.random.key(1)))
    found = cells(env.draw(env_state, env.default_params), (10, 10))
    np.testing.assert_array_equal(found, expected_colours(name, obs))
    assert len(np.unique(found.reshape(-1, 3), axis=0)) > 2


def test_every_channel_is_drawn_or_says_what_another_says():
    left_out = {"SpaceInvaders-MinAtar": {2, 3}}  # which way the aliens go
    for name, channels in gymnax_boards.CHANNELS.items():
        num = jaxdrl.make(name).observation_space.shape[-1]
        drawn = {channel for channel, *_ in channels}
        assert drawn == set(range(num)) - left_out.get(name, set())
        looks = [(colour, shape) for _, _, colour, shape in channels]
        assert len(set(looks)) == len(looks)


def test_pong():
    state = {
        "paddle_centers": [7.0, 20.0],
        "ball_position": [15.0, 30.0],
        "last_ball_position": [15.0, 26.0],
    }
    picture = draw("Pong-misc", state)
    found = cells(picture, (30, 40))
    assert np.argwhere(is_colour(found, SKY)).tolist() == [[i, 0] for i in range(5, 10)]
    assert np.argwhere(is_colour(found, VERMILLION)).tolist() == [[i, 39] for i in range(18, 23)]
    assert [15, 30] in np.argwhere(is_colour(found, YELLOW)).tolist()


def test_catch():
    state = {"ball_x": 1, "ball_y": 3, "paddle_x": 4, "paddle_y": 9}
    found = cells(draw("Catch-bsuite", state), (10, 5))
    assert np.argwhere(is_colour(found, YELLOW)).tolist() == [[3, 1]]
    assert np.argwhere(is_colour(found, SKY)).tolist() == [[9, 4]]


def test_the_diver_and_the_treasure_of_deep_sea():
    found = cells(draw("DeepSea-bsuite", {"row": 3, "column": 2}), (9, 8))
    assert np.argwhere(is_colour(found, ORANGE)).tolist() == [[3, 2]]
    assert np.argwhere(is_colour(found, YELLOW)).tolist() == [[7, 7]]
    at_the_end = cells(draw("DeepSea-bsuite", {"row": 8, "column": 7}), (9, 8))
    assert np.argwhere(is_colour(at_the_end, ORANGE)).tolist() == [[8, 7]]


@pytest.mark.parametrize("name", ["FourRooms-misc", "MetaMaze-misc"])
def test_mazes(name):
    env, _ = make_gymnax(name)
    walls = np.asarray(env.occupied_map) > 0
    row, column = np.argwhere(~walls)[5]
    goal = np.argwhere(~walls)[-1]
    found = cells(draw(name, {"pos": jnp.array([row, column]), "goal": goal}), walls.shape)
    np.testing.assert_array_equal(is_colour(found, DARK), walls)
    assert np.argwhere(is_colour(found, ORANGE)).tolist() == [[row, column]]
    assert np.argwhere(is_colour(found, GREEN)).tolist() == [goal.tolist()]


def test_the_frozen_lake():
    found = cells(draw("FrozenLake-misc", {"position": 6}), (4, 4))
    assert np.argwhere(is_colour(found, ORANGE)).tolist() == [[1, 2]]
    assert np.argwhere(is_colour(found, GREEN)).tolist() == [[3, 3]]
    assert np.argwhere(is_colour(found, DARK)).tolist() == [[1, 1], [1, 3], [2, 3], [3, 0]]


def centre(picture, colour):
    x, y = where(picture[:, 90:], colour)  # right of the legend
    return np.array([(x.max() + x.min()) / 2 + 90, (y.max() + y.min()) / 2])


def test_point_robot_and_how_large_its_goal_is():
    def picture(pos, **params):
        return draw("PointRobot-misc", {"pos": pos, "goal": [0.6, 0.8]}, **params)

    unit = 320 / 2.8  # from -1.4 to 1.4
    found = picture([-0.3, 0.2])
    away = (centre(found, ORANGE) - centre(found, SKY)) / unit
    assert away == pytest.approx([-0.9, -0.6], abs=0.02)
    for radius in (0.1, 0.3):
        x, _ = where(picture([-0.3, 0.2], goal_radius=radius)[:, 90:], SKY)
        assert (x.max() - x.min()) / unit / 2 == pytest.approx(radius, abs=0.02)
    lost = picture([5.0, 0.2])  # a ring at the edge
    x, _ = where(lost[:, 90:], ORANGE)
    assert x.max() + 90 > 390
    assert len(x) < len(where(found[:, 90:], ORANGE)[0])


def test_the_arm_reaches_where_its_angles_say():
    goal = [-1.0, -0.5]
    picture = draw("Reacher-misc", {"angles": [0.5, 2.0], "goal_xy": goal})
    tip = np.cos([0.5, 2.0]).sum(), np.sin([0.5, 2.0]).sum()
    away = (centre(picture, ORANGE) - centre(picture, SKY)) / (280 / 4.4)
    assert away == pytest.approx(np.array(tip) - goal, abs=0.04)


def test_the_swimmer():
    state = {"xy": [0.5, -0.5], "goal_xy": [-0.5, 0.5], "urchin_xys": np.zeros((5, 2))}
    picture = draw("Swimmer-misc", state)
    away = (centre(picture, ORANGE) - centre(picture, SKY)) / (280 / 2.4)
    assert away == pytest.approx([1.0, -1.0], abs=0.03)
    covered = draw("Swimmer-misc", {**state, "urchin_xys": np.full((5, 2), [-0.5, 0.5])})
    assert centre(covered, SKY) == pytest.approx(centre(picture, SKY), abs=1)


# Wrappers


CARTPOLE = jaxdrl.make("CartPole-v1")


def test_a_time_limit_hands_the_drawing_on():
    limited = jaxdrl.time_limit(CARTPOLE, 5)
    _, env_state = limited.reset(jax.random.key(0), limited.default_params)
    np.testing.assert_array_equal(
        limited.draw(env_state, limited.default_params),
        CARTPOLE.draw(env_state.inner, CARTPOLE.default_params),
    )
    assert jaxdrl.time_limit(CARTPOLE._replace(draw=None), 5).draw is None


def test_drawn_parameters_are_seen():
    robust = jaxdrl.randomize(CARTPOLE, {"length": (0.9, 1.0)})
    _, env_state = robust.reset(jax.random.key(0), robust.default_params)
    longer = jaxdrl.make("CartPole-v1", length=float(env_state.drawn["length"]))
    picture = robust.draw(env_state, robust.default_params)
    np.testing.assert_array_equal(picture, longer.draw(env_state.inner, longer.default_params))
    assert (picture != CARTPOLE.draw(env_state.inner, CARTPOLE.default_params)).any()
    assert jaxdrl.randomize(CARTPOLE._replace(draw=None), {"length": (0.9, 1.0)}).draw is None


def test_a_drawing_of_ones_own_gets_the_state_of_the_environment_itself():
    def pole(env_state, params):
        return np.full((8, 8, 3), [255 * params.length, 0, env_state.time], np.uint8)

    limited = jaxdrl.time_limit(jaxdrl.randomize(CARTPOLE, {"length": (0.1, 0.4)}), 5)
    _, env_state = limited.reset(jax.random.key(0), limited.default_params)
    drawn = env_state.inner.drawn["length"]
    states = jax.tree.map(lambda x: np.asarray(x)[None], jax.device_get(env_state))
    moment = SimpleNamespace(env_state=states)
    before = jaxdrl.time_limit(CARTPOLE._replace(draw=pole), 5)
    for env in (limited._replace(draw=pole), before):
        picture = draw_state(env, env.default_params, moment, 0)
        np.testing.assert_array_equal(picture[0, 0], [int(255 * drawn), 0, 0])
    assert draw_state(limited, limited.default_params, moment, 0).shape[2] == 3


def test_an_environment_of_anybody_else_is_not_taken_for_that_of_gymnax():
    env, params = gymnax.make("CartPole-v1")
    assert from_gymnax(env, params).draw is not None

    class Other(type(env)):
        """Its name is CartPole-v1, too."""

    assert from_gymnax(Other(), params).draw is None


# The tools


def test_a_line_goes_from_one_point_to_the_other():
    canvas = make_canvas((0, 4), (0, 2), size=(80, 40))
    canvas.line([(1, 0.5), (3, 1.5)], BLUE, 3)
    x, y = where(canvas.array(), BLUE)
    assert (x.min(), x.max()) == (pytest.approx(20, abs=2), pytest.approx(60, abs=2))
    assert (y.min(), y.max()) == (pytest.approx(-30, abs=2), pytest.approx(-10, abs=2))
    assert y[x < 30].mean() < y[x > 50].mean()  # y goes upwards


def test_what_fits_the_box_is_in_its_middle():
    canvas = make_canvas((-1, 1), (-1, 1), size=(100, 60), box=(40, 0, 100, 60))
    canvas.disc((0, 0), 1.0, BLUE)
    x, y = where(canvas.array(), BLUE)
    assert (x.min(), x.max(), -y.max(), -y.min()) == pytest.approx((40, 99, 0, 59), abs=1)


def test_later_layers_are_on_top_and_in_the_legend():
    everywhere = np.ones((2, 3), bool)
    corner = canvas.one_cell((2, 3), 5, -1)  # clipped to the board
    assert np.argwhere(corner).tolist() == [[1, 0]]
    layers = [canvas.Layer("below", BLUE, everywhere), canvas.Layer("above", GREEN, corner)]
    picture = canvas.draw_board(layers)
    found = cells(picture, (2, 3))
    np.testing.assert_array_equal(is_colour(found, GREEN), corner)
    np.testing.assert_array_equal(is_colour(found, BLUE), ~corner)
    legend = picture[:, 282:]
    assert where(legend, GREEN)[1].mean() > where(legend, BLUE)[1].mean()
