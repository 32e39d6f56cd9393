"""Pictures of Craftax, against its own PNG files and by where the state says that things are."""

import importlib
import importlib.resources
import pickle
from functools import lru_cache

import jax
import numpy as np
import pytest

pytest.importorskip("craftax")

from matplotlib.image import imread

from jaxdrl import make
from jaxdrl.envs.drawing import craftax_tiles
from jaxdrl.envs.suites import craftax
from jaxdrl.envs.truncation import TimeLimitState

CLASSIC, FULL = craftax.TASKS
SIZES = {CLASSIC: (7, 9), FULL: (9, 11)}
PACKAGES = {CLASSIC: "craftax.craftax_classic", FULL: "craftax.craftax"}
GRASS, AT = 2, (20, 24)
TASKS = pytest.mark.parametrize("task", [CLASSIC, FULL])


@lru_cache
def zeros(task):
    """A state of zeros; nothing is compiled."""
    env = make(f"craftax/{task}", max_episode_steps=None)
    state = jax.eval_shape(env.reset, jax.random.key(0), env.default_params)[1]
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)


def by_day(task, **changes):
    """The player looks up, in the middle of a meadow at noon; of the full game, on floor 3."""
    state = zeros(task)
    light = {} if task == CLASSIC else {"light_map": np.ones_like(state.light_map)}
    floor = {} if task == CLASSIC else {"player_level": np.int32(3)}
    meadow = {"map": np.full_like(state.map, GRASS), "player_position": np.array(AT)}
    usual = {"player_direction": np.int32(3), "light_level": np.float32(1), "player_health": 9}
    return state.replace(**{**light, **floor, **meadow, **usual, **changes})


def draw(task, state):
    env = make(f"craftax/{task}")
    return env.draw(TimeLimitState(inner=state, num_steps=0), env.default_params)


def tiles(task, picture):
    """The tiles of the map, `[rows, columns, 32, 32, 3]`."""
    rows, columns = SIZES[task]
    return picture[: 32 * rows].reshape(rows, 32, columns, 32, 3).swapaxes(1, 2)


def file(task, name):
    """Colours and opacity of a PNG file of the suite in 32 by 32 pixels, each of 0 to 1."""
    with (importlib.resources.files(PACKAGES[task]) / f"assets/{name}.png").open("rb") as png:
        found = imread(png).repeat(2, 0).repeat(2, 1)
    return found[..., :3], found[..., 3:] if found.shape[2] == 4 else 1.0


def over_grass(task, name, turns=0):
    """What stands on grass, turned counter-clockwise by so many right angles."""
    colours, opacity = (np.rot90(x, turns) for x in file(task, name))
    return 255 * (opacity * colours + (1 - opacity) * file(task, "grass")[0])


def check_tile(found, expected):
    np.testing.assert_allclose(found, expected, atol=1.0)  # of 255


def changed(task, *states):
    """Rows and columns of the tiles in which pictures of two states differ."""
    first, second = (tiles(task, draw(task, state)) for state in states)
    return np.argwhere((first != second).any((2, 3, 4))).tolist()


@TASKS
def test_the_blocks_about_the_player_are_those_of_the_map(task):
    names = {3: "water", 4: "stone", 5: "tree", 11: "table", 14: "lava", 16: "ripe_plant_on_grass"}
    blocks = np.random.default_rng(0).choice(list(names), zeros(task).map.shape)
    state = by_day(task, map=blocks)
    picture, (rows, columns) = draw(task, state), SIZES[task]
    assert picture.dtype == np.uint8 and picture.shape[1:] == (32 * columns, 3)
    level = blocks if task == CLASSIC else blocks[3]
    top, left = AT[0] - rows // 2, AT[1] - columns // 2
    found = tiles(task, picture)
    for row, column in np.ndindex(rows, columns):
        if (row, column) != (rows // 2, columns // 2):  # where the player is
            name = names[level[top + row, left + column]]
            check_tile(found[row, column], 255 * file(task, name)[0])


@TASKS
def test_beyond_the_world_there_is_nothing(task):
    """Grey; black in the full game, where the light ends with the world."""
    found = tiles(task, draw(task, by_day(task, player_position=np.array([0, 24]))))
    rows = SIZES[task][0]
    nothing = 128 if task == CLASSIC else 0
    assert (found[: rows // 2] == nothing).all() and (found[rows // 2, 0] != nothing).any()


@TASKS
@pytest.mark.parametrize("direction", ["left", "right", "up", "down", "sleep"])
def test_the_player_is_in_the_middle_and_looks_ahead(task, direction):
    asleep = direction == "sleep"
    number = 1 if asleep else 1 + ["left", "right", "up", "down"].index(direction)
    state = by_day(task, player_direction=np.int32(number), is_sleeping=np.bool(asleep))
    rows, columns = SIZES[task]
    found = tiles(task, draw(task, state))[rows // 2, columns // 2]
    check_tile(found, over_grass(task, f"player-{direction}") * (0.65 if asleep else 1.0))


def test_mobs_and_arrows_of_classic_are_where_they_are():
    state = by_day(CLASSIC)
    mask = np.array([True, True, False])
    near, far, none = (AT[0] + 2, AT[1] - 3), (AT[0] + 4, AT[1]), (AT[0] + 1, AT[1])
    zombies = state.zombies.replace(position=np.array([near, far, none]), mask=mask)
    arrows = state.arrows.replace(position=np.array([(AT[0], AT[1] + 2)] * 3), mask=~mask)
    directions = np.array([[0, 0], [0, 0], [0, 1]])  # to the right
    more = state.replace(zombies=zombies, arrows=arrows, arrow_directions=directions)
    assert changed(CLASSIC, state, more) == [[3, 6], [5, 1]]
    found = tiles(CLASSIC, draw(CLASSIC, more))
    check_tile(found[5, 1], over_grass(CLASSIC, "zombie"))
    check_tile(found[3, 6], over_grass(CLASSIC, "arrow-up", turns=-1))


def test_mobs_and_items_of_the_full_game_are_those_of_the_floor():
    state = by_day(FULL)
    places = np.zeros_like(state.ranged_mobs.position)
    places[3], places[2] = (AT[0], AT[1] - 1), (AT[0], AT[1] + 1)
    ranged = state.ranged_mobs.replace(
        position=places,
        mask=np.ones_like(state.ranged_mobs.mask),
        type_id=np.full_like(state.ranged_mobs.type_id, 3),
    )
    items = np.zeros_like(state.item_map)
    items[3, AT[0] - 1, AT[1]], items[2, AT[0] + 1, AT[1]] = 2, 1  # a ladder down, and elsewhere
    killed = np.zeros_like(state.monsters_killed)
    more = state.replace(ranged_mobs=ranged, item_map=items, monsters_killed=killed)
    assert changed(FULL, state, more) == [[3, 5], [4, 4]]
    found = tiles(FULL, draw(FULL, more))
    check_tile(found[4, 4], over_grass(FULL, "kobold"))
    check_tile(found[3, 5], over_grass(FULL, "ladder_down_blocked"))
    killed = killed + 8
    found = tiles(FULL, draw(FULL, more.replace(monsters_killed=killed)))
    check_tile(found[3, 5], over_grass(FULL, "ladder_down"))


def test_what_the_player_cannot_see_is_black():
    light = np.ones_like(zeros(FULL).light_map)
    light[3, AT[0] - 1, AT[1]], light[3, AT[0] + 1, AT[1]] = 0.05, 0.1
    state = by_day(FULL, light_map=light)
    found = tiles(FULL, draw(FULL, state))
    assert (found[3, 5] == 0).all() and 0 < found[5, 5].mean() < 0.5 * found[5, 6].mean()


@TASKS
def test_nights_are_darker_above_the_ground(task):
    floor = {} if task == CLASSIC else {"player_level": np.int32(0)}
    noon, night = (by_day(task, **floor, light_level=np.float32(x)) for x in (1, 0))
    light, dark = (draw(task, state)[:32].mean() for state in (noon, night))
    assert 0 < dark < 0.6 * light
    if task == FULL:
        below = by_day(task, light_level=np.float32(0))
        assert draw(task, below)[:32].mean() == light


def possessions(task):
    """By name, a state in which the player has one thing more than in `by_day`."""
    state = by_day(task)
    names = [name for name, x in vars(state.inventory).items() if x.ndim == 0]
    states = {n: state.replace(inventory=state.inventory.replace(**{n: 2})) for n in names}
    if task == FULL:
        for name in ("armour", "potions"):
            for i, old in enumerate(getattr(state.inventory, name)):
                one = np.arange(len(getattr(state.inventory, name))) == i
                had = state.inventory.replace(**{name: old + one.astype(np.int32)})
                states[f"{name} {i}"] = state.replace(inventory=had)
        states["spells"] = state.replace(learned_spells=np.array([True, False]))
        for name in ("mana", "xp", "dexterity", "strength", "intelligence"):
            states[name] = state.replace(**{f"player_{name}": 3})
        states["sword"] = states["sword"].replace(sword_enchantment=np.int32(1))
    for name in ("health", "food", "drink", "energy"):
        states[name] = state.replace(**{f"player_{name}": 3})
    reached = np.arange(state.achievements.size) == 1
    return {**states, "achievements": state.replace(achievements=reached)}


@TASKS
def test_what_the_player_has_is_below_the_map_each_in_its_place(task):
    plain, height = draw(task, by_day(task)), 32 * SIZES[task][0]
    places = set()
    for name, state in possessions(task).items():
        differs = (draw(task, state) != plain).any(-1)
        assert differs[height:].any() and not differs[:height].any(), name
        row, column = np.argwhere(differs[height:]).min(0)
        places.add((row // 26, column // (plain.shape[1] // 6)))
    assert len(places) == len(possessions(task))


def test_health_is_none_when_the_player_is_dead_and_not_before():
    pictures = [draw(FULL, by_day(FULL, player_health=np.float32(x))) for x in (-1, 0, 0.5, 1)]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(pictures[2], pictures[3])
    assert (pictures[1] != pictures[2]).any()


@TASKS
def test_there_is_a_tile_for_everything(task):
    for block in importlib.import_module(f"{PACKAGES[task]}.constants").BlockType:
        draw(task, by_day(task, map=np.full_like(zeros(task).map, block.value)))
    drawn = craftax_tiles
    for name in (*drawn.ITEMS[1:], *drawn.MELEE, *drawn.PASSIVE, *drawn.RANGED, *drawn.PROJECTILES):
        assert drawn._tile(name, 32).size == (32, 32)
    enchanted = [(i, j) for i in (1, 2) for j in (0, 1, 2)]
    for metal, enchantment in enchanted if task == FULL else ():
        state = by_day(task, armour_enchantments=np.full(4, enchantment))
        state = state.replace(bow_enchantment=np.int32(enchantment))
        state = state.replace(sword_enchantment=np.int32(enchantment))
        had = state.inventory.replace(
            armour=np.full(4, metal), sword=2 * metal, pickaxe=2, arrows=1
        )
        draw(task, state.replace(inventory=had))


@TASKS
def test_no_pickle_is_loaded(task, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a pickle was loaded")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    craftax_tiles._tile.cache_clear()
    draw(task, by_day(task))
