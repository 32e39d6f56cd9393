"""Pictures of JaxMARL's particles and battles, by where the state says that things are."""

from types import SimpleNamespace

import numpy as np

from jaxdrl.envs.drawing import canvas
from jaxdrl.envs.drawing.jaxmarl_scenes import battle, particles


def rgb(colour):
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def at(picture, place, low, high):
    """The colour at a place of the square from `low` to `high`, in 10 to 270 pixels."""
    x, y = 260 * (np.array(place) - low) / (high - low)
    return tuple(picture[int(270 - y), int(10 + x)].tolist())


GAME = SimpleNamespace(
    agents=["adversary_0", "agent_0"],
    landmarks=["landmark 0", "landmark 1"],
    rad=np.array([0.1, 0.1, 0.2, 0.2]),
    silent=np.array([0, 1]),
)


def particle_state(places, said=(0, 0), goal=None):
    spoken = np.array([said, (1, 0)])
    return SimpleNamespace(p_pos=np.array(places), c=spoken, goal=goal)


def test_particles_are_where_the_state_says():
    places = [(-1, 0.5), (0.8, -0.6), (0, 0), (0.5, 1)]
    picture = particles(GAME, particle_state(places, goal=np.int32(1)))
    assert picture.dtype == np.uint8 and picture.shape == (280, 400, 3)
    found = [at(picture, place, -1.6, 1.6) for place in [*places, (1.2, 0)]]
    colours = [canvas.VERMILLION, canvas.BLUE, canvas.GREY, canvas.GREEN, canvas.LIGHT]
    assert found == [rgb(colour) for colour in colours]


def test_who_is_outside_is_at_the_edge():
    picture = particles(GAME, particle_state([(-9, 0), (0, 7), (0, 0), (1, 1)]))
    assert at(picture, (-1.58, 0), -1.6, 1.6) == rgb(canvas.VERMILLION)
    assert at(picture, (0, 1.58), -1.6, 1.6) == rgb(canvas.BLUE)


def test_words_are_shown_unless_an_agent_is_silent():
    places = [(0, 0)] * 4
    quiet = particles(GAME, particle_state(places))
    first, second = (particles(GAME, particle_state(places, said)) for said in ((1, 0), (0, 1)))
    changed = np.argwhere((first != quiet).any(-1))
    assert len(changed) and (changed[:, 1] > 270).all()
    assert (first != second).any()


def test_the_living_are_filled_as_far_as_they_are_healthy():
    game = SimpleNamespace(
        map_width=32,
        map_height=16,
        num_allies=2,
        unit_type_health=np.array([40.0]),
        unit_type_radiuses=np.array([3.0]),
    )
    places = np.array([(5.0, 8.0), (14.0, 8.0), (24.0, 8.0)])
    state = SimpleNamespace(
        unit_positions=places,
        unit_types=np.zeros(3, np.uint8),
        unit_health=np.array([10.0, 0.0, 40.0]),
        unit_alive=np.array([True, False, True]),
    )
    picture = battle(game, SimpleNamespace(state=state))
    # The map takes 260 by 130 pixels.
    shifted = np.add(places, (0, 8))
    middle = [at(picture, place, 0, 32) for place in shifted]
    assert middle == [rgb(c) for c in (canvas.BLUE, canvas.LIGHT, canvas.VERMILLION)]
    rings = [at(picture, np.add(place, (1.5, 0)), 0, 32) for place in shifted]
    assert rings == [rgb(c) for c in (canvas.WHITE, canvas.LIGHT, canvas.VERMILLION)]
