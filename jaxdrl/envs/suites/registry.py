"""Suites of environments by name: `brax/ant` is the task `ant` of the suite `brax`.

Each suite is a module with a `SUITE`, which is imported only when it is used. Other packages add
suites by entry points of the group `jaxdrl.suites`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from jaxdrl.checks import require_count
from jaxdrl.envs.protocol import Environment
from jaxdrl.envs.suites.gymnax import make_gymnax, nearest, task_names
from jaxdrl.errors import ConfigError

GROUP = "jaxdrl.suites"
"""Each entry point of this group names a `Suite`."""


class Suite(NamedTuple):
    """A suite of environments.

    Attributes:
      make: `(task, **params) -> Environment` whose name is `suite/task`; raises ConfigError for an
        unknown task or parameter, naming the nearest ones (`require_task`, `fit_params`).
      list_tasks: `() -> names` of all tasks that `make` takes, without making any of them.
      on_host: whether its environments are those of the host.
    """

    make: Callable[..., Environment]
    list_tasks: Callable[[], Sequence[str]]
    on_host: bool = False


class BuiltIn(NamedTuple):
    """A suite that jaxdrl has an adapter for.

    Attributes:
      module: the adapter, which has a `SUITE` and imports the suite's package.
      package: the name by which Python imports that package.
      condition: a condition for `pip install 'jaxdrl[...]'`, in words; empty if there is none.
      on_host: whether its environments are those of the host.
    """

    module: str
    package: str
    condition: str = ""
    on_host: bool = False


GYMNAX = Suite(make=make_gymnax, list_tasks=task_names)
"""The suite whose environments are named without a prefix."""

BUILT_IN = {
    "ale": BuiltIn("jaxdrl.envs.host.ale", "ale_py", on_host=True),
    "brax": BuiltIn("jaxdrl.envs.suites.brax", "brax"),
    "craftax": BuiltIn("jaxdrl.envs.suites.craftax", "craftax"),
    "envpool": BuiltIn("jaxdrl.envs.host.envpool", "envpool", on_host=True),
    "gymnasium": BuiltIn("jaxdrl.envs.host.gymnasium", "gymnasium", on_host=True),
    "jaxmarl": BuiltIn("jaxdrl.envs.suites.jaxmarl", "jaxmarl"),
    "jumanji": BuiltIn("jaxdrl.envs.suites.jumanji", "jumanji"),
    "navix": BuiltIn("jaxdrl.envs.suites.navix", "navix", " (on Python 3.12 or later)"),
    "pgx": BuiltIn("jaxdrl.envs.suites.pgx", "pgx"),
    "playground": BuiltIn("jaxdrl.envs.suites.playground", "mujoco_playground"),
    "xminigrid": BuiltIn("jaxdrl.envs.suites.xminigrid", "xminigrid"),
}
"""The suites that jaxdrl has adapters for; each is an optional dependency of the same name."""


def names() -> list[str]:
    """Every suite: those of jaxdrl, installed or not, and those of other packages."""
    return sorted({*BUILT_IN, *_entry_points()})


def missing(name: str) -> str | None:
    """The command that installs one of jaxdrl's suites; None if nothing is missing."""
    built_in = BUILT_IN.get(name)
    if built_in is None or name in _entry_points():
        return None
    if importlib.util.find_spec(built_in.package) is not None:
        return None
    return f"pip install 'jaxdrl[{name}]'{built_in.condition}"


def load(name: str) -> Suite:
    """Imports the suite called `name`.

    Raises:
      ConfigError: if there is none, or it is not installed or cannot be imported.
    """
    points = _entry_points()
    if name not in BUILT_IN and name not in points:
        raise ConfigError(
            f"suite = {name!r}: unknown; {nearest(name, ['gymnax', *names()])}; "
            "gymnax environments have no prefix, such as CartPole-v1"
        )
    command = missing(name)
    if command is not None:
        raise ConfigError(f"suite = {name!r}: is not installed; install it with: {command}")
    try:
        if name in points:
            suite = points[name].load()
        else:
            suite = importlib.import_module(BUILT_IN[name].module).SUITE
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"suite = {name!r}: cannot be imported: {error}") from error
    if not isinstance(suite, Suite):
        raise ConfigError(
            f"suite = {name!r}: the entry point {points[name].value} is a {type(suite).__name__}; "
            "must be a jaxdrl.envs.suites.registry.Suite"
        )
    return suite


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def split(name: str) -> tuple[str | None, str]:
    """`(suite, task)` of an environment's name; the suite of a gymnax environment is None.

    >>> split("brax/ant"), split("CartPole-v1")
    (('brax', 'ant'), (None, 'CartPole-v1'))
    """
    suite, slash, task = name.partition("/")
    return (suite, task) if slash else (None, name)


def is_on_host(name: str) -> bool:
    """Whether the environment called `name` is one of the host; suites of jaxdrl stay unimported.

    Raises:
      ConfigError: as `load`, where another package has the suite.
    """
    suite, _ = split(name)
    if suite is None:
        return False
    points = _entry_points()
    if suite in BUILT_IN and suite not in points:
        return BUILT_IN[suite].on_host
    return load(suite).on_host


def require_task(suite: str, task: str, tasks: Sequence[str]) -> None:
    """Refuses a task that the suite does not have.

    Raises:
      ConfigError: naming the nearest ones.
    """
    if task not in tasks:
        raise ConfigError(f"env = '{suite}/{task}': unknown; {nearest(task, list(tasks))}")


def episode_limit(max_episode_steps: Any, default: int | None) -> int | None:
    """The step limit to set: `default` for "default", None for no limit, otherwise a whole number.

    Raises:
      ConfigError: for anything else.
    """
    if max_episode_steps is None or max_episode_steps == "default":
        return None if max_episode_steps is None else default
    if isinstance(max_episode_steps, float) and max_episode_steps.is_integer():
        max_episode_steps = int(max_episode_steps)  # the command line reads numbers as floats
    require_count("max_episode_steps", max_episode_steps)
    return int(max_episode_steps)


def fit_params(name: str, params: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of an environment: the defaults, with `params` converted to their types.

    The command line reads every number as a float. A whole number becomes an int if the default is
    an int or None, and 0 or 1 becomes a bool if the default is a bool.

    Args:
      name: name of the environment, for messages.
      params: the parameters from the user.
      defaults: all parameters of the environment with their defaults.

    Raises:
      ConfigError: for an unknown name, with the nearest ones, and for a value of the wrong type.
    """
    found = dict(defaults)
    for param, value in params.items():
        if param not in defaults:
            known = nearest(param, sorted(defaults)) if defaults else "it has none"
            raise ConfigError(
                f"env_params.{param} = {value!r}: {name} has no such parameter; {known}"
            )
        found[param] = _fit(param, value, defaults[param])
    return found


def _fit(param: str, value: Any, default: Any) -> Any:
    is_number = isinstance(value, int | float)
    if isinstance(default, bool):
        if not is_number or value not in (0, 1):
            raise ConfigError(f"env_params.{param} = {value!r}: must be 0 or 1")
        return bool(value)
    is_whole = is_number and float(value).is_integer()
    if isinstance(default, int) or default is None:
        if isinstance(default, int) and not is_whole:
            raise ConfigError(f"env_params.{param} = {value!r}: must be a whole number")
        return int(value) if is_whole else value
    if isinstance(default, float):
        if not is_number:
            raise ConfigError(f"env_params.{param} = {value!r}: must be a number")
        return float(value)
    if isinstance(default, str) and not isinstance(value, str):
        raise ConfigError(f"env_params.{param} = {value!r}: must be a string, such as {default!r}")
    return value
