"""`jaxdrl envs`: lists suites and environments."""

from __future__ import annotations

from typing import Any

from rich.progress import track
from rich.table import Table
from rich.text import Text

from jaxdrl.core import spaces
from jaxdrl.envs.protocol import Environment
from jaxdrl.envs.suites import registry
from jaxdrl.errors import ConfigError
from jaxdrl.io.console import make_console

GYMNAX = "gymnax"


def main(suite: str | None) -> None:
    """Prints the suites, or the environments of one suite with their spaces and limits."""
    console = make_console()
    if suite is None:
        console.print(list_suites())
        return
    loaded = registry.GYMNAX if suite == GYMNAX else registry.load(suite)
    prefix = "" if suite == GYMNAX else f"{suite}/"
    table = make_table("environment", "observations", "actions", "limit")
    tasks = sorted(loaded.list_tasks())
    for task in track(tasks, "making environments", console=console, transient=True):
        table.add_row(f"{prefix}{task}", *map(Text, _row(loaded, task)))
    console.print(table)


def list_suites() -> Table:
    """A table of all suites with the command that lists or installs each; imports none."""
    table = make_table("suite", "")
    for name in (GYMNAX, *registry.names()):
        command = None if name == GYMNAX else registry.missing(name)
        table.add_row(name, Text(f"jaxdrl envs {name}" if command is None else command))
    return table


def make_table(*columns: str) -> Table:
    """A table without lines."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _row(suite: registry.Suite, task: str) -> tuple[str, str, str]:
    try:
        env: Environment = suite.make(task)
    except ConfigError as error:
        return str(error), "", ""
    limit = "none" if env.max_episode_steps is None else f"{env.max_episode_steps:,}"
    agents = "" if env.num_agents is None else f" of each of {env.num_agents} agents"
    masked = ", masked" if env.action_mask is not None else ""
    return in_words(env.observation_space), in_words(env.action_space) + agents + masked, limit


def in_words(space: Any) -> str:
    """A space in short form.

    >>> in_words(spaces.Box(0, 1, (10, 10, 4), "bool")), in_words(spaces.Discrete(3))
    ('bool[10, 10, 4]', '3')
    """
    if isinstance(space, spaces.Dict):
        return "{" + ", ".join(f"{name}: {in_words(part)}" for name, part in space.items) + "}"
    if isinstance(space, spaces.Discrete):
        return str(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return " x ".join(map(str, space.nvec))
    return f"{space.dtype.name}{list(space.shape)}"
