"""Drawings of gymnax's tasks: those that move in a plane, and the table of all.

gymnax's own drawings need gymnasium with pygame for classic control, and a new figure for every
picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdrl.envs.drawing import gymnax_boards as boards
from jaxdrl.envs.drawing.canvas import (
    BLACK,
    BLUE,
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
    Canvas,
    make_canvas,
)

Draw = Callable[[Any, Any], np.ndarray]


def cart_pole(env: Any) -> Draw:
    """Cart and pole between the ends of the track, to scale; a heavier cart is larger."""

    def draw(env_state: Any, params: Any) -> np.ndarray:
        x, theta, end = float(env_state.x), float(env_state.theta), float(params.x_threshold)
        pole = 2 * float(params.length)  # `length` is half the pole
        size = min(max(float(params.masscart), 0.2), 5.0) ** 0.5
        half_width, height = 0.2 * size, 0.24 * size
        # Wider than the track, because at the end of an episode the cart may be outside.
        across, up = (-1.15 * end, 1.15 * end), (-0.3, height + 1.1 * pole + 0.1)
        canvas = make_canvas(across, up, size=(WIDTH, 220))
        canvas.line([(-2 * end, 0), (2 * end, 0)], GREY)
        for mark in (-end, end):
            canvas.line([(mark, -0.15), (mark, 0.15)], VERMILLION, 3)
        canvas.rectangle((x - half_width, height), (x + half_width, 0.01), BLUE)
        hinge = (x, height)
        tip = (x + pole * math.sin(theta), hinge[1] + pole * math.cos(theta))
        canvas.line([hinge, tip], ORANGE, 6)
        canvas.disc(hinge, 3 / canvas.scale, BLACK)
        return canvas.array()

    return draw


def pendulum(env: Any) -> Draw:
    """The rod, upright at an angle of 0, and the torque as an arc in its direction."""

    def draw(env_state: Any, params: Any) -> np.ndarray:
        theta, length = float(env_state.theta), float(params.l)
        reach = max(1.0, length) * 1.15
        canvas = make_canvas((-reach, reach), (-reach, reach))
        canvas.disc((0, 0), length, WHITE, LIGHT)
        canvas.line([(0, 0), (-length * math.sin(theta), length * math.cos(theta))], ORANGE, 10)
        canvas.disc((0, 0), 4 / canvas.scale, BLACK)
        share = float(np.clip(env_state.last_u / params.max_torque, -1, 1))
        draw_turn(canvas, 0.3, share)
        canvas.legend([("torque", BLUE, "cell")], 10, HEIGHT - 30)
        return canvas.array()

    return draw


def draw_turn(canvas: Canvas, radius: float, share: float) -> None:
    """An arc about the origin from its top; `share` from -1 to 1, positive counter-clockwise."""
    if abs(share) < 0.02:
        return
    angles = math.pi / 2 + np.linspace(0, 0.75 * math.pi * share, 24)
    points = [(radius * math.cos(a), radius * math.sin(a)) for a in angles]
    canvas.line(points, BLUE, 3)
    forward = angles[-1] + math.copysign(math.pi / 2, share)
    (x, y), size = points[-1], 9 / canvas.scale
    canvas.polygon(
        [
            (x + size * math.cos(forward + a) * r, y + size * math.sin(forward + a) * r)
            for a, r in ((0, 1.2), (math.pi / 2, 0.7), (-math.pi / 2, 0.7))
        ],
        BLUE,
    )


def acrobot(env: Any) -> Draw:
    """Both links, which hang down at angles of 0, and the height to reach if they are equally long.

    The task depends on the angles only, which correspond to a height only then.
    """

    def draw(env_state: Any, params: Any) -> np.ndarray:
        lengths = float(params.link_length_1), float(params.link_length_2)
        first = float(env_state.joint_angle1)
        angles = first, first + float(env_state.joint_angle2)
        reach = sum(lengths) * 1.08
        canvas = make_canvas((-reach, reach), (-reach, reach))
        if lengths[0] == lengths[1]:
            canvas.line([(-2 * reach, lengths[0]), (2 * reach, lengths[0])], GREEN)
            canvas.legend([("goal", GREEN, "cell")], 10, HEIGHT - 30)
        joints = [(0.0, 0.0)]
        for length, angle in zip(lengths, angles, strict=True):
            x, y = joints[-1]
            joints.append((x + length * math.sin(angle), y - length * math.cos(angle)))
        canvas.line(joints[:2], BLUE, 9)
        canvas.line(joints[1:], ORANGE, 9)
        for joint in joints[:2]:
            canvas.disc(joint, 4 / canvas.scale, BLACK)
        return canvas.array()

    return draw


def mountain_car(env: Any) -> Draw:
    """The hill, the car on it, and the flag at the goal."""

    def height(x: float) -> float:
        return 0.45 * math.sin(3 * x) + 0.55

    def draw(env_state: Any, params: Any) -> np.ndarray:
        low, high = float(params.min_position), float(params.max_position)
        x, goal = float(env_state.position), float(params.goal_position)
        canvas = make_canvas((low - 0.05, high + 0.05), (-0.08, 1.3))
        xs = np.linspace(low - 1.0, high + 1.0, 200).tolist()
        canvas.polygon(
            [(low - 1.0, -2.0), *((v, height(v)) for v in xs), (high + 1.0, -2.0)], LIGHT
        )
        canvas.line([(goal, height(goal)), (goal, height(goal) + 0.22)], BLACK)
        top = height(goal) + 0.22
        canvas.polygon([(goal, top), (goal - 0.12, top - 0.04), (goal, top - 0.08)], GREEN)
        slope = math.atan(1.35 * math.cos(3 * x))
        along = math.cos(slope), math.sin(slope)

        def on_car(forward: float, up: float) -> tuple[float, float]:
            return (
                x + forward * along[0] - up * along[1],
                height(x) + forward * along[1] + up * along[0],
            )

        corners = ((-0.07, 0.03), (0.07, 0.03), (0.06, 0.1), (-0.06, 0.1))
        canvas.polygon([on_car(*corner) for corner in corners], BLUE)
        for forward in (-0.04, 0.04):
            canvas.disc(on_car(forward, 0.025), 0.025, BLACK)
        return canvas.array()

    return draw


def point_robot(env: Any) -> Draw:
    """The agent, and the half circle on which the goal lies, which the agent does not observe."""

    def draw(env_state: Any, params: Any) -> np.ndarray:
        r = float(params.circle_radius)
        box = (80, 0, WIDTH, HEIGHT)
        canvas = make_canvas((-1.4 * r, 1.4 * r), (-0.45 * r, 1.4 * r), box=box)
        angles = np.linspace(0, math.pi, 60).tolist()
        canvas.line([(r * math.cos(a), r * math.sin(a)) for a in angles], GREY)
        canvas.disc(env_state.goal, float(params.goal_radius), SKY)
        draw_marker(canvas, env_state.pos)
        canvas.legend([("agent", ORANGE, "disc"), ("goal", SKY, "disc")], 10, HEIGHT - 52)
        return canvas.array()

    return draw


def draw_marker(canvas: Canvas, position: Any) -> None:
    """The agent as a disc; if it has left the picture, a hollow one at the edge."""
    (x, y), scale = canvas.origin, canvas.scale
    low = np.array([-x, y - HEIGHT]) / scale
    high = np.array([WIDTH - x, y]) / scale
    position, margin = np.asarray(position), 9 / scale
    seen = np.clip(position, low + margin, high - margin)
    inside = bool((seen == position).all())
    canvas.disc(tuple(seen.tolist()), 7 / scale, ORANGE if inside else WHITE, ORANGE)


def reacher(env: Any) -> Draw:
    """The links of the arm, each of length 1, and the goal for its tip."""

    def draw(env_state: Any, params: Any) -> np.ndarray:
        reach = env.num_joints * 1.1
        canvas = make_canvas((-reach, reach), (-reach, reach))
        canvas.disc(env_state.goal_xy, 10 / canvas.scale, SKY)
        joints = [(0.0, 0.0)]
        for angle in np.asarray(env_state.angles).tolist():
            x, y = joints[-1]
            joints.append((x + math.cos(angle), y + math.sin(angle)))
        for i in range(env.num_joints):
            canvas.line(joints[i : i + 2], (BLUE, PURPLE)[i % 2], 7)
            canvas.disc(joints[i], 4 / canvas.scale, BLACK)
        canvas.disc(joints[-1], 5 / canvas.scale, ORANGE)
        canvas.legend([("tip", ORANGE, "disc"), ("goal", SKY, "disc")], 10, HEIGHT - 52)
        return canvas.array()

    return draw


def swimmer(env: Any) -> Draw:
    """The agent, its goal, and the urchins, which reduce the reward near them."""

    def draw(env_state: Any, params: Any) -> np.ndarray:
        canvas = make_canvas((-1.2, 1.2), (-1.2, 1.2), box=(100, 0, WIDTH, HEIGHT))
        urchins = np.asarray(env_state.urchin_xys).tolist()
        for urchin in urchins:
            # At this distance half of the reward is lost.
            canvas.disc(urchin, math.sqrt(math.log(2) / 30), "#c9b3c4")
        canvas.disc(env_state.goal_xy, 12 / canvas.scale, SKY)
        for urchin in urchins:
            canvas.disc(urchin, 4 / canvas.scale, BLACK)
        draw_marker(canvas, env_state.xy)
        entries = [("agent", ORANGE, "disc"), ("goal", SKY, "disc"), ("urchin", BLACK, "disc")]
        canvas.legend(entries, 10, HEIGHT - 75)  # type: ignore[arg-type]
        return canvas.array()

    return draw


DRAWINGS: dict[str, Callable[[Any], Draw]] = {
    "CartPole-v1": cart_pole,
    "Pendulum-v1": pendulum,
    "Acrobot-v1": acrobot,
    "MountainCar-v0": mountain_car,
    "MountainCarContinuous-v0": mountain_car,
    **dict.fromkeys(boards.CHANNELS, boards.channels),
    "Pong-misc": boards.pong,
    "Catch-bsuite": boards.catch,
    "DeepSea-bsuite": boards.deep_sea,
    "FourRooms-misc": boards.maze,
    "MetaMaze-misc": boards.maze,
    "FrozenLake-misc": boards.frozen_lake,
    "PointRobot-misc": point_robot,
    "Reacher-misc": reacher,
    "Swimmer-misc": swimmer,
}
"""The functions that make a drawing, by the name of the gymnax environment."""


def drawing_of(env: Any) -> Draw | None:
    """The drawing of a gymnax environment; None for chains, bandits, and other people's classes."""
    make_drawing = DRAWINGS.get(env.name)
    is_of_gymnax = type(env).__module__.startswith("gymnax.")
    return make_drawing(env) if make_drawing and is_of_gymnax else None
