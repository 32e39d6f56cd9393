"""From the settings of an algorithm to the algorithm."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from jax.sharding import Mesh

from jaxdrl.algorithms.dqn import dqn
from jaxdrl.algorithms.impala import impala
from jaxdrl.algorithms.ppo.algorithm import ppo
from jaxdrl.algorithms.pqn import pqn
from jaxdrl.algorithms.sac import sac
from jaxdrl.algorithms.td3 import td3
from jaxdrl.config.algorithms import (
    DQNConfig,
    IMPALAConfig,
    PPOConfig,
    PQNConfig,
    SACConfig,
    StoredConfig,
    TD3Config,
)
from jaxdrl.core.types import Algorithm
from jaxdrl.envs.protocol import Environment
from jaxdrl.errors import ConfigError

MakeAlgorithm = Callable[..., Algorithm]
"""`(env, config, *, mesh=None) -> Algorithm` of an algorithm of one's own.

Its second argument is annotated with the type of its settings, a frozen dataclass. It takes
`network` and `optimizer` as well where it is to be given these.
"""


def build(
    env: Environment,
    config: Any,
    *,
    mesh: Mesh | None = None,
    make_algorithm: MakeAlgorithm | None = None,
    **parts: Any,
) -> Algorithm:
    """The algorithm that `config` describes.

    Args:
      env: the environment.
      config: settings, of an algorithm of jaxdrl or of the one that `make_algorithm` makes.
      mesh: from `jaxdrl.make_mesh`; None computes on one device.
      make_algorithm: makes an algorithm of one's own.
      **parts: `network` and `optimizer`, each of them None where the settings describe it.

    Raises:
      ConfigError: if nobody makes an algorithm of such settings, or it takes no such part.
    """
    if make_algorithm is not None:
        return _own(env, config, mesh, make_algorithm, parts)
    match config:
        case PPOConfig():
            return ppo(env, config, mesh=mesh, **parts)
        case IMPALAConfig():
            return impala(env, config, mesh=mesh, **parts)
        case PQNConfig():
            return pqn(env, config, mesh=mesh, **parts)
        case DQNConfig():
            return dqn(env, config, mesh=mesh, **parts)
        case SACConfig():
            return sac(env, config, mesh=mesh, **parts)
        case TD3Config():
            return td3(env, config, mesh=mesh, **parts)
    kind = config.kind if isinstance(config, StoredConfig) else type(config).__name__
    raise ConfigError(
        f"algorithm: {kind} are not settings of an algorithm of jaxdrl; make_algorithm=... is the "
        "function that makes an algorithm of them"
    )


def _own(
    env: Environment,
    config: Any,
    mesh: Mesh | None,
    make_algorithm: MakeAlgorithm,
    parts: dict[str, Any],
) -> Algorithm:
    kind = config_type(make_algorithm)
    if not isinstance(config, kind):
        raise ConfigError(
            f"make_algorithm: takes a {kind.__name__}, and algorithm is a {type(config).__name__}"
        )
    given = {name: part for name, part in parts.items() if part is not None}
    taken = inspect.signature(make_algorithm).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values())
    for name in given:
        if name not in taken and not takes_any:
            raise ConfigError(f"{name}: make_algorithm has no argument {name}; add it, or leave it")
    algorithm = make_algorithm(env, config, mesh=mesh, **given)
    if not isinstance(algorithm, Algorithm):
        raise ConfigError(
            f"make_algorithm: gives a {type(algorithm).__name__}; must give a jaxdrl.Algorithm"
        )
    return algorithm


def config_type(make_algorithm: MakeAlgorithm) -> type:
    """The type of the settings that an algorithm of one's own takes, by its annotation.

    Raises:
      ConfigError: if its second argument is not annotated with a dataclass.
    """
    works = (
        "must say of what type its settings are: annotate its second argument with a frozen "
        "dataclass, as in def make_algorithm(env, config: MyConfig, *, mesh=None)"
    )
    try:
        second = list(inspect.signature(make_algorithm).parameters)[1]
        hint = get_type_hints(make_algorithm)[second]
    except (IndexError, KeyError, NameError, TypeError, ValueError) as error:
        raise ConfigError(f"make_algorithm = {make_algorithm!r}: {works}") from error
    if not (isinstance(hint, type) and dataclasses.is_dataclass(hint)):
        raise ConfigError(f"make_algorithm = {make_algorithm!r}: {works}")
    return hint
