"""Pictures of Craftax: the player's view in the suite's own tiles, and the player's inventory.

The tiles are read from the PNG files of the installed package. Craftax's own renderer reads them
from a pickle, which is never loaded here.
"""

from __future__ import annotations

import functools
import importlib
import importlib.resources
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image, ImageDraw

from jaxdrl.envs.drawing.canvas import DARK, WHITE, font

TILE = 32
"""Size of a tile in pixels; each pixel of the file becomes two by two."""

COLUMNS, CELL, ICON = 6, 26, 20
"""Layout of the inventory: items in a row, and pixels of a row and of an icon."""

ASSETS = "craftax.craftax"
"""The package whose `assets` contain every tile; those of Classic are the same files."""

FILES = {
    "CRAFTING_TABLE": "table",
    "PLANT": "plant_on_grass",
    "RIPE_PLANT": "ripe_plant_on_grass",
    "WALL": "wall2",
}
"""Tiles whose names differ from those of their blocks."""

PLAIN = {"INVALID": (128, 128, 128), "OUT_OF_BOUNDS": (128, 128, 128), "DARKNESS": (0, 0, 0)}
"""Colours of blocks that have no tile."""

ITEMS = ("", "torch_in_inventory", "ladder_down", "ladder_up", "ladder_down_blocked")
PLAYER = ("left", "right", "up", "down")

MELEE = [
    "zombie",
    "gnome_warrior",
    "orc_soldier",
    "lizard",
    "knight",
    "troll",
    "pigman",
    "frost_troll",
]
PASSIVE = ["cow", "bat", "snail"]
RANGED = [
    "skeleton",
    "gnome_archer",
    "orc_mage",
    "kobold",
    "knight_archer",
    "deep_thing",
    "fire_elemental",
    "ice_elemental",
]
PROJECTILES = [
    "arrow-up",
    "dagger",
    "fireball",
    "iceball",
    "arrow-up",
    "slimeball",
    "fireball",
    "iceball",
]
"""Tiles by the type of a mob or projectile."""

MATERIALS = ("", "wood", "stone", "iron", "diamond")
ARMOUR = ("helmet", "chestplate", "pants", "boots")
POTIONS = ("red", "green", "blue", "pink", "cyan", "yellow")
ENCHANTMENTS = ("", "fire_enchantment", "ice_enchantment")

LEAST_LIGHT = 0.05
"""Craftax's observation leaves out tiles that are darker than this."""


class Window(NamedTuple):
    """The visible part of the world: its first row and column, and the numbers of both."""

    top: int
    left: int
    rows: int
    columns: int


class Thing(NamedTuple):
    """Something that stands in the world: its tile, its position, and its rotation in degrees."""

    tile: str
    row: int
    column: int
    angle: float = 0.0


class Item(NamedTuple):
    """An item of the inventory, or a vital sign of the player.

    Attributes:
      tiles: pictures, one over the other.
      amount: how much of it the player has; an item is not shown at 0.
      always: whether it is shown even at 0.
    """

    tiles: tuple[str, ...]
    amount: Any
    always: bool = False


def draw_classic(state: Any) -> np.ndarray:
    """Seven by nine tiles of Classic and the player's inventory, uint8 `[332, 288, 3]`.

    Args:
      state: `EnvState` of Craftax-Classic.
    """
    state = jax.device_get(state)
    window = _window(state.player_position, 7, 9)
    image = _draw_blocks("craftax.craftax_classic", state.map, window)
    things = [_player(state)]
    for tile, mobs in (
        ("zombie", state.zombies),
        ("cow", state.cows),
        ("skeleton", state.skeletons),
    ):
        things += _standing([tile] * len(mobs.mask), mobs.mask, mobs.position)
    arrows = state.arrows
    tiles = ["arrow-up"] * len(arrows.mask)
    things += _standing(tiles, arrows.mask, arrows.position, state.arrow_directions)
    _draw_things(image, things, window)
    inventory = vars(state.inventory)
    items = [
        *_vitals(state, ("health", "food", "drink", "energy")),
        *(Item((name,), inventory[name]) for name in inventory),
    ]
    light = np.full((window.rows, window.columns), _daylight(state))
    return _compose(image, light, items, _achievements(state))


def draw_full(state: Any) -> np.ndarray:
    """Nine by eleven tiles of the full game and the player's inventory, uint8 `[474, 352, 3]`.

    Args:
      state: `EnvState` of Craftax.
    """
    state = jax.device_get(state)
    level, window = int(state.player_level), _window(state.player_position, 9, 11)
    image = _draw_blocks("craftax.craftax", state.map[level], window)
    things = [*_fixtures(state, level), _player(state)]
    for kinds, mobs, directions in (
        (MELEE, state.melee_mobs, None),
        (PASSIVE, state.passive_mobs, None),
        (RANGED, state.ranged_mobs, None),
        (PROJECTILES, state.mob_projectiles, state.mob_projectile_directions[level]),
        (PROJECTILES, state.player_projectiles, state.player_projectile_directions[level]),
    ):
        tiles = [kinds[min(kind, len(kinds) - 1)] for kind in mobs.type_id[level].tolist()]
        things += _standing(tiles, mobs.mask[level], mobs.position[level], directions)
    _draw_things(image, things, window)
    seen = _cells(state.light_map[level], window, 0.0)
    # Visible tiles are never drawn so dark that nobody could make them out in a film.
    light = np.where(seen > LEAST_LIGHT, 0.35 + 0.65 * seen, 0.0) * _daylight(state, level)
    words = f"floor {level}, {_achievements(state)}"
    return _compose(image, light, list(_inventory(state)), words)


def _fixtures(state: Any, level: int) -> list[Thing]:
    """Torches and ladders; a ladder down is blocked until enough monsters are killed."""
    constants = importlib.import_module("craftax.craftax.constants")
    is_blocked = state.monsters_killed[level] < constants.MONSTERS_KILLED_TO_CLEAR_LEVEL
    tiles = [*ITEMS[:2], ITEMS[4] if is_blocked else ITEMS[2], *ITEMS[3:]]
    items = state.item_map[level]
    return [Thing(tiles[items[row, column]], row, column) for row, column in np.argwhere(items)]


def _inventory(state: Any) -> Iterator[Item]:
    """The inventory of the player in the full game, in the order in which it is shown."""
    had, enchanted = state.inventory, state.armour_enchantments
    yield from _vitals(state, ("health", "food", "drink", "energy", "mana", "xp"))
    yield from _vitals(state, ("dexterity", "strength", "intelligence"))
    for name, tile in (("torches", "torch_in_inventory"), ("books", "book"), ("bow", "bow")):
        yield Item((tile,), getattr(had, name))
    for name in ("wood", "stone", "coal", "iron", "diamond", "sapphire", "ruby", "sapling"):
        yield Item((name,), getattr(had, name))
    fire = ENCHANTMENTS[state.bow_enchantment]
    yield Item(("arrow-up", fire and f"arrow_{fire}"), had.arrows)
    yield Item((f"{MATERIALS[had.pickaxe]}_pickaxe",), min(had.pickaxe, 1))
    fire = ENCHANTMENTS[state.sword_enchantment]
    yield Item((f"{MATERIALS[had.sword]}_sword", fire and f"sword_{fire}"), min(had.sword, 1))
    for spell, learnt in zip(("fireball", "iceball"), state.learned_spells, strict=True):
        yield Item((spell,), int(learnt))
    for part, kind, enchantment in zip(ARMOUR, had.armour, enchanted, strict=True):
        metal, fire = ("", "iron", "diamond")[kind], ENCHANTMENTS[enchantment]
        yield Item((f"{metal}_{part}", fire and f"{part}_{fire}"), min(kind, 1))
    for colour, amount in zip(POTIONS, had.potions, strict=True):
        yield Item((f"potion_{colour}",), amount)


def _vitals(state: Any, names: Sequence[str]) -> list[Item]:
    # In the full game health has fractions, and a player with any health is alive.
    return [Item((name,), np.ceil(getattr(state, f"player_{name}")), True) for name in names]


def _achievements(state: Any) -> str:
    return f"{int(state.achievements.sum())} of {state.achievements.size} achievements"


def _daylight(state: Any, level: int = 0) -> float:
    """How bright it is: by the time of day above ground, and darker while the player sleeps."""
    by_day = 0.45 + 0.55 * float(state.light_level) if level == 0 else 1.0
    return by_day * (0.65 if state.is_sleeping else 1.0)


def _player(state: Any) -> Thing:
    name = "sleep" if state.is_sleeping else PLAYER[state.player_direction - 1]
    return Thing(f"player-{name}", state.player_position[0], state.player_position[1])


def _standing(tiles: Sequence[str], mask: Any, places: Any, directions: Any = None) -> list[Thing]:
    """The existing mobs or projectiles; projectiles point in the direction of their flight."""
    angles = np.zeros(len(mask))
    if directions is not None:  # counter-clockwise from upwards, as the tiles point
        angles = np.degrees(np.arctan2(-directions[:, 1], -directions[:, 0]))
    there = np.flatnonzero(mask).tolist()
    return [Thing(tiles[i], places[i][0], places[i][1], angles[i]) for i in there]


def _window(centre: Any, rows: int, columns: int) -> Window:
    return Window(int(centre[0]) - rows // 2, int(centre[1]) - columns // 2, rows, columns)


def _cells(world: np.ndarray, window: Window, outside: Any) -> np.ndarray:
    """The cells of a window, `[rows, columns]`."""
    margin = max(window.rows, window.columns)
    padded = np.pad(world, margin, constant_values=outside)
    top, left = window.top + margin, window.left + margin
    return padded[top : top + window.rows, left : left + window.columns]


def _draw_blocks(package: str, world: np.ndarray, window: Window) -> Image.Image:
    """The blocks of a window."""
    kinds = importlib.import_module(f"{package}.constants").BlockType
    image = Image.new("RGB", (TILE * window.columns, TILE * window.rows))
    cells = _cells(world, window, kinds.OUT_OF_BOUNDS.value)
    for (row, column), block in np.ndenumerate(cells):
        name, x, y = kinds(int(block)).name, TILE * column, TILE * row
        if name in PLAIN:
            image.paste(PLAIN[name], (x, y, x + TILE, y + TILE))
        else:
            image.paste(_tile(FILES.get(name, name.lower()), TILE), (x, y))
    return image


def _draw_things(image: Image.Image, things: Sequence[Thing], window: Window) -> None:
    """Adds the things in a window; all others lie outside the image."""
    for thing in things:
        tile = _tile(thing.tile, TILE).rotate(thing.angle)
        at = TILE * (int(thing.column) - window.left), TILE * (int(thing.row) - window.top)
        image.paste(tile, at, tile)


@functools.cache
def _tile(name: str, pixels: int) -> Image.Image:
    """A tile of Craftax with its transparency."""
    path = importlib.resources.files(ASSETS) / "assets" / f"{name}.png"
    with path.open("rb") as file, Image.open(file, formats=["PNG"]) as image:
        return image.convert("RGBA").resize((pixels, pixels), Image.Resampling.NEAREST)


def _compose(
    image: Image.Image, light: np.ndarray, items: Sequence[Item], words: str
) -> np.ndarray:
    """The map under its light, `[rows, columns]` from 0 to 1, above the inventory."""
    bright = light.repeat(TILE, 0).repeat(TILE, 1)[..., None]
    top = (np.asarray(image) * bright).round().astype(np.uint8)
    rows = -(-len(items) // COLUMNS)
    panel = Image.new("RGB", (image.width, CELL * (rows + 1) + 4), DARK)
    pen = ImageDraw.Draw(panel)
    for i, item in enumerate(items):
        if not item.always and item.amount <= 0:
            continue
        x, y = 4 + i % COLUMNS * (image.width // COLUMNS), 4 + i // COLUMNS * CELL
        for name in filter(None, item.tiles):
            tile = _tile(name, ICON)
            panel.paste(tile, (x, y), tile)
        amount = str(max(0, int(item.amount)))
        pen.text((x + ICON + 4, y + ICON / 2), amount, WHITE, font(13), anchor="lm")
    pen.text((4, panel.height - CELL / 2), words, WHITE, font(13), anchor="lm")
    return np.concatenate([top, np.asarray(panel)])
