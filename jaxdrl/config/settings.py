"""Settings by their own names, wherever they lie in a config. Imports neither jax nor gymnax."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

from jaxdrl.checks import hints_of
from jaxdrl.errors import ConfigError

Config = TypeVar("Config")
T = TypeVar("T")

HYPERPARAMETER = "jaxdrl hyperparameter"
"""Key in the metadata of a field that may differ between the members of one program."""


def hyperparameter(default: T) -> T:
    """A field of a config that may vary within one program: a float, which may be a traced value.

    Sweeps and populations vary such fields, as in `learning_rate: float = hyperparameter(3e-4)`.
    """
    return dataclasses.field(default=default, metadata={HYPERPARAMETER: True})


class Setting(NamedTuple):
    """A setting of a config or of the configs in it.

    Attributes:
      name: its own, which is that of its flag too.
      path: names of the fields that lead to the config which has it; `()` for the config itself.
      owner: the dataclass which has it.
      field: its field there.
    """

    name: str
    path: tuple[str, ...]
    owner: type
    field: dataclasses.Field[Any]

    @property
    def hint(self) -> Any:
        """Its annotation, with its bounds."""
        return hints_of(self.owner)[self.name]

    @property
    def varies(self) -> bool:
        """Whether it may vary within one program."""
        return HYPERPARAMETER in self.field.metadata


def settings_of(config: Any) -> dict[str, Setting]:
    """Every setting of a config and of the configs in it, by its own name, in order.

    >>> from jaxdrl import PPOConfig
    >>> settings_of(PPOConfig())["hidden_sizes"].path
    ('network',)

    Raises:
      ConfigError: if two of them have the same name.
    """
    found: dict[str, Setting] = {}
    for setting in _walk(config, ()):
        if setting.name in found:
            owners = f"{found[setting.name].owner.__name__} and {setting.owner.__name__}"
            raise ConfigError(
                f"{setting.name}: {owners} both have a setting of this name; rename one"
            )
        found[setting.name] = setting
    return found


def _walk(config: Any, path: tuple[str, ...]) -> Iterator[Setting]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from _walk(value, (*path, field.name))
        else:
            yield Setting(field.name, path, type(config), field)


def value_of(config: Any, name: str) -> Any:
    """The value of a setting, nested or not.

    Raises:
      ConfigError: if there is none of that name, with the nearest.
    """
    settings = settings_of(config)
    if name not in settings:
        raise unknown(name, settings)
    for part in settings[name].path:
        config = getattr(config, part)
    return getattr(config, name)


def flat_settings(config: Any) -> dict[str, Any]:
    """The value of every setting by its own name; of settings that are not known, as stored."""
    return {name: value_of(config, name) for name in settings_of(config)}


def with_settings(config: Config, **settings: Any) -> Config:
    """`config` with other values of settings, each by its own name, nested or not.

    >>> from jaxdrl import PPOConfig
    >>> config = with_settings(PPOConfig(), num_envs=64, hidden_sizes=(128,), reproducible=True)
    >>> config.num_envs, config.network.hidden_sizes, config.execution.reproducible
    (64, (128,), True)

    Args:
      config: a frozen dataclass, such as `PPOConfig` or `Experiment`.
      **settings: new values by name. A config in it, such as `network`, may be given as a whole.

    Raises:
      ConfigError: for a name that it does not have, with the nearest one, or a value that does not
        work.
    """
    fields = {field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    nested = settings.keys() & fields - settings_of(config).keys()
    whole = {name: settings.pop(name) for name in nested}
    config = dataclasses.replace(config, **whole) if whole else config  # type: ignore[type-var]
    known = settings_of(config)  # of the nested configs that are new
    for name in settings:
        if name not in known:
            raise unknown(name, known)
    return _replaced(config, {(*known[name].path, name): x for name, x in settings.items()})


def _replaced(config: Any, values: dict[tuple[str, ...], Any]) -> Any:
    """`config` with new values at paths; each dataclass is rebuilt once, which checks all."""
    own: dict[str, Any] = {path[0]: value for path, value in values.items() if len(path) == 1}
    inner: dict[str, dict[tuple[str, ...], Any]] = {}
    for path, value in values.items():
        if len(path) > 1:
            inner.setdefault(path[0], {})[path[1:]] = value
    own |= {name: _replaced(getattr(config, name), below) for name, below in inner.items()}
    return dataclasses.replace(config, **own) if own else config


def hyperparameters(config: Any) -> list[str]:
    """The settings that may vary within one program."""
    return [setting.name for setting in settings_of(config).values() if setting.varies]


def unknown(name: str, known: Any) -> ConfigError:
    """The error for a setting that there is not, with the nearest."""
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)
    return ConfigError(f"{name}: there is no such setting; the nearest: {', '.join(nearest)}")
