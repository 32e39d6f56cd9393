"""Pictures of MuJoCo models, by where their parts are known to be."""

import numpy as np
import pytest

pytest.importorskip("mujoco")

import mujoco

from jaxdrl.envs.drawing.mujoco_outlines import draw_model

WHITE = (255, 255, 255)
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def model_of(bodies):
    return mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{bodies}</worldbody></mujoco>")


def size_of(picture, colour):
    """Width and height of all that has that colour, and its middle, in pixels."""
    rows, columns = np.nonzero((picture == colour).all(axis=-1))
    assert rows.size, f"nothing is {colour}"
    middle = (float(columns.mean()), float(rows.mean()))
    return np.ptp(columns) + 1, np.ptp(rows) + 1, middle


SHAPES = {  # type, size, extent along x and z in MuJoCo's own terms
    "sphere": ("0.5", 1.0, 1.0),
    "box": ("0.5 9 0.25", 1.0, 0.5),
    "ellipsoid": ("0.5 0.1 0.2", 1.0, 0.4),
    "capsule": ("0.2 0.3", 0.4, 1.0),
    "cylinder": ("0.2 0.3", 0.4, 0.6),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_as_wide_and_high_as_it_is_and_turns_with_its_joint(shape):
    size, width, height = SHAPES[shape]
    model = model_of(
        f"<body><joint type='hinge' axis='0 1 0'/><geom type='{shape}' size='{size}' "
        "rgba='1 0 0 1'/></body><body pos='2 0 0'><joint type='slide' axis='1 0 0' limited='true' "
        "range='-1 1'/><geom size='0.5' rgba='0 0 1 1'/></body>"
    )
    upright, turned = (draw_model(model, [angle, 0.0]) for angle in (0.0, np.pi / 2))
    unit, also_unit, _ = size_of(upright, BLUE)  # a sphere of diameter 1
    assert abs(unit - also_unit) <= 1
    found = np.array([size_of(upright, RED)[:2], size_of(turned, RED)[1::-1]])
    np.testing.assert_allclose(found / unit, [[width, height]] * 2, atol=2.5 / unit)


def test_what_is_nearer_hides_what_is_behind_it():
    model = model_of(
        "<body pos='0 1 0'><joint axis='0 1 0'/><geom size='1' rgba='1 0 0 1'/></body>"
        "<body pos='0 -1 0'><joint axis='0 1 0'/><geom size='0.9' rgba='0 0 1 1'/></body>"
    )
    picture = draw_model(model, [0.0, 0.0])
    height, width = picture.shape[:2]
    assert tuple(picture[height // 2, width // 2]) == BLUE


def test_a_pole_that_hangs_down_is_seen_whole():
    model = model_of(
        "<body pos='0 0 3'><joint axis='0 1 0'/>"
        "<geom type='capsule' fromto='0 0 0 0 0 1' size='0.1' rgba='1 0 0 1'/></body>"
    )
    up, down = (size_of(draw_model(model, [angle]), RED) for angle in (0.0, np.pi))
    assert abs(up[1] - down[1]) <= 1 and down[2][1] - up[2][1] > 50


@pytest.mark.parametrize("limited", ["true", "false"])
def test_the_picture_goes_along_with_what_travels_without_end(limited):
    model = model_of(
        f"<body><joint type='slide' axis='1 0 0' limited='{limited}' range='-9 9'/>"
        "<geom size='0.5' rgba='1 0 0 1'/></body><geom type='plane' size='0 0 1' pos='0 0 -0.6'/>"
    )
    places = [size_of(draw_model(model, [x]), RED)[2][0] for x in (0.0, 0.3)]
    assert (places[1] - places[0] > 10) == (limited == "true")


def test_what_moves_in_the_plane_is_seen_from_above():
    model = model_of(
        "<body><joint axis='0 0 1'/><geom pos='0 1 0' size='0.2' rgba='1 0 0 1'/></body>"
        "<body mocap='true' pos='0 0 0'><geom size='0.2' rgba='0 1 0 1'/></body>"
    )
    picture = draw_model(model, [0.0], [[0.0, -1.0, 0.0]])
    (x, y), (their_x, their_y) = (size_of(picture, colour)[2] for colour in (RED, GREEN))
    assert abs(x - their_x) < 1 and y < their_y  # rows go down
