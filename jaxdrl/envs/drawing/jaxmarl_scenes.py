"""Pictures of JaxMARL's games in the plane: particles, and battles of SMAX."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxdrl.envs.drawing.canvas import (
    BLUE,
    GREEN,
    GREY,
    HEIGHT,
    LIGHT,
    ORANGE,
    SKY,
    VERMILLION,
    WHITE,
    YELLOW,
    Shape,
    make_canvas,
)

REACH = 1.6
"""Half the width of what is shown; particles start within 1 and may go anywhere."""

AGENTS = {"adversary": VERMILLION, "leadadversary": ORANGE, "eve": VERMILLION, "speaker": ORANGE}
"""Colours of agents by how their names begin; all others are blue."""

PLACES = {"forest": SKY, "food": YELLOW}
"""Colours of landmarks by how their names begin; all others are grey."""

BOX = (10, 10, HEIGHT - 10, HEIGHT - 10)
"""Left, top, right and bottom of a square picture, in pixels, which leaves room for a legend."""

MESSAGES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def particles(suite_env: Any, state: Any) -> np.ndarray:
    """Agents and landmarks to scale, those outside at the edge, and what the agents say."""
    canvas = make_canvas((-REACH, REACH), (-REACH, REACH), box=BOX)
    canvas.rectangle((-REACH, -REACH), (REACH, REACH), LIGHT)
    places = np.clip(np.asarray(state.p_pos), -REACH, REACH).tolist()
    radii = np.asarray(suite_env.rad)
    names = [*suite_env.agents, *suite_env.landmarks]
    num, kinds = len(suite_env.agents), [_kind(name) for name in names]
    goal = getattr(state, "goal", None)  # a landmark, or one for each agent
    for i in [] if goal is None else np.atleast_1d(goal).tolist():
        kinds[num + i] = ("goal", GREEN)
    order = [*np.argsort(-radii[num:], kind="stable") + num, *range(num)]
    for i in order:  # landmarks below agents, small ones above large ones
        canvas.disc(places[i], float(radii[i]), kinds[i][1], WHITE if i < num else None)
    entries: list[tuple[str, str, Shape]] = [(*kind, "disc") for kind in dict.fromkeys(kinds)]
    for i, said in enumerate(np.asarray(state.c)):
        if said.any() and not suite_env.silent[i]:
            entries.append((f"{i} says {MESSAGES[int(said.argmax())]}", kinds[i][1], "dot"))
    canvas.legend(entries, BOX[2] + 10, 10)
    return canvas.array()


def _kind(name: str) -> tuple[str, str]:
    """What an entity is called in the legend, and its colour."""
    kind = name.replace("_", " ").split()[0]
    is_place = kind in PLACES or kind == "landmark"
    return kind, PLACES.get(kind, GREY) if is_place else AGENTS.get(kind, BLUE)


def battle(suite_env: Any, env_state: Any) -> np.ndarray:
    """Units that are alive, to scale, as discs that are filled as far as the units are healthy."""
    state = env_state.state
    width, height = float(suite_env.map_width), float(suite_env.map_height)
    canvas = make_canvas((0, width), (0, height), box=BOX)
    canvas.rectangle((0, 0), (width, height), LIGHT)
    kinds = np.asarray(state.unit_types)
    health = np.asarray(state.unit_health) / np.asarray(suite_env.unit_type_health)[kinds]
    radii = np.asarray(suite_env.unit_type_radiuses)[kinds].tolist()
    places = np.asarray(state.unit_positions).tolist()
    for i in np.flatnonzero(np.asarray(state.unit_alive)).tolist():
        place, radius = places[i], radii[i]
        colour = BLUE if i < suite_env.num_allies else VERMILLION
        canvas.disc(place, radius, colour)
        canvas.disc(place, 0.8 * radius, WHITE)
        canvas.disc(place, 0.8 * radius * float(health[i]), colour)
    canvas.legend([("ally", BLUE, "disc"), ("enemy", VERMILLION, "disc")], BOX[2] + 10, 10)
    return canvas.array()
