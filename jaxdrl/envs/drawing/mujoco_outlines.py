"""Pictures of MuJoCo models, drawn with Pillow: outlines of their geoms from the side or above."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from jaxdrl.envs.drawing.canvas import GREY, WHITE, make_canvas

ANGLES = np.linspace(0.0, 2 * np.pi, 48, endpoint=False)
GEOM = mujoco.mjtGeom


def draw_model(model: Any, qpos: Any, mocap_pos: Any = None) -> np.ndarray:
    """The model in one position, uint8 `[height, width, 3]`; a moving model stays in the middle.

    The view is from the side, with x to the right and z upwards, or from above, with x and y, if
    all joints turn about z or slide along x and y.

    Args:
      model: `mujoco.MjModel`.
      qpos: positions of the joints, `[nq]`.
      mocap_pos: positions of the mocap bodies, `[nmocap, 3]`; None takes those in the model.
    """
    data = mujoco.MjData(model)
    up, depth = (1, 2) if _is_flat(model) else (2, 1)
    limbs = model.geom_bodyid > 0
    mujoco.mj_kinematics(model, data)  # in its initial position, so that the scale never changes
    middle = data.xpos[model.jnt_bodyid[0]].copy()  # the point about which the model swings
    reach = np.linalg.norm(data.geom_xpos - middle, axis=1) + model.geom_rbound
    half = 1.5 * float(reach[limbs].max())
    data.qpos[:] = qpos
    if mocap_pos is not None:
        data.mocap_pos[:] = mocap_pos
    mujoco.mj_kinematics(model, data)
    if _travels(model):
        middle[:2] = data.xpos[model.jnt_bodyid[0], :2]
    x, y = float(middle[0]), float(middle[up])
    canvas = make_canvas((x - half, x + half), (y - 0.7 * half, y + 0.7 * half), background=WHITE)
    is_plane = model.geom_type == GEOM.mjGEOM_PLANE.value
    for z in data.geom_xpos[is_plane, 2] if up == 2 else ():
        canvas.line([(x - 2 * half, z), (x + 2 * half, z)], GREY)
        for tick in np.arange(np.floor(x - 2 * half), x + 2 * half):  # so that motion shows
            canvas.line([(tick, z), (tick - half / 20, z - half / 20)], GREY)
    toward = 1 if up == 1 else -1  # nearer geoms are drawn later
    for i in np.argsort(toward * data.geom_xpos[:, depth], kind="stable"):
        if not is_plane[i]:
            canvas.polygon(_outline(model, data, i, up), _colour(model, i))
    return canvas.array()


def _is_flat(model: Any) -> bool:
    """Whether every joint turns about z or slides along x and y."""
    is_hinge = model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE.value
    is_slide = model.jnt_type == mujoco.mjtJoint.mjJNT_SLIDE.value
    z = np.abs(model.jnt_axis[:, 2])
    return bool(((is_hinge & (z > 0.99)) | (is_slide & (z < 0.01))).all())


def _travels(model: Any) -> bool:
    """Whether the model can leave the picture: a joint is free, or slides along x without limit."""
    is_free = model.jnt_type == mujoco.mjtJoint.mjJNT_FREE.value
    is_slide = model.jnt_type == mujoco.mjtJoint.mjJNT_SLIDE.value
    along_x = is_slide & (np.abs(model.jnt_axis[:, 0]) > 0.99) & (model.jnt_limited == 0)
    return bool((is_free | along_x).any())


def _outline(model: Any, data: Any, geom: int, up: int) -> list[tuple[float, float]]:
    """The outline of a convex geom: its farthest point in each direction of the picture."""
    directions = np.zeros((len(ANGLES), 3))
    directions[:, 0], directions[:, up] = np.cos(ANGLES), np.sin(ANGLES)
    size, turn = model.geom_size[geom], data.geom_xmat[geom].reshape(3, 3)
    local = directions @ turn
    kind = GEOM(int(model.geom_type[geom]))
    if kind == GEOM.mjGEOM_BOX:
        farthest = np.sign(local) * size
    elif kind == GEOM.mjGEOM_ELLIPSOID:
        farthest = local * size**2 / np.linalg.norm(local * size, axis=1, keepdims=True)
    elif kind in (GEOM.mjGEOM_CAPSULE, GEOM.mjGEOM_CYLINDER):
        round_part = local.copy()
        if kind == GEOM.mjGEOM_CYLINDER:
            round_part[:, 2] = 0.0
        length = np.linalg.norm(round_part, axis=1, keepdims=True)
        farthest = size[0] * round_part / np.maximum(length, 1e-9)
        farthest[:, 2] += np.sign(local[:, 2]) * size[1]
    else:  # a sphere, or the bounding sphere of any other geom
        farthest = local * (size[0] if kind == GEOM.mjGEOM_SPHERE else model.geom_rbound[geom])
    points = data.geom_xpos[geom] + farthest @ turn.T
    return [(float(point[0]), float(point[up])) for point in points]


def _colour(model: Any, geom: int) -> str:
    material = model.geom_matid[geom]
    rgba = model.geom_rgba[geom] if material < 0 else model.mat_rgba[material]
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in rgba[:3])
