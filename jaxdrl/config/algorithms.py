"""Which algorithms there are, by name. Importing this module imports neither jax nor gymnax."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any, Protocol

from jaxdrl.checks import require
from jaxdrl.config.dqn import DQNConfig
from jaxdrl.config.execution import ExecutionConfig
from jaxdrl.config.impala import IMPALAConfig
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.pqn import PQNConfig
from jaxdrl.config.sac import SACConfig
from jaxdrl.config.td3 import TD3Config
from jaxdrl.errors import ConfigError

ALGORITHMS: dict[str, type] = {
    "ppo": PPOConfig,
    "impala": IMPALAConfig,
    "pqn": PQNConfig,
    "dqn": DQNConfig,
    "sac": SACConfig,
    "td3": TD3Config,
}
"""The settings of each algorithm of jaxdrl, by its name."""

DEFAULT = next(iter(ALGORITHMS))
"""The algorithm of an experiment that names none."""


ACTOR_CRITICS = ("ppo", "impala")
"""Algorithms whose parameters mean the same: a policy and the value of an observation."""


class AlgorithmConfig(Protocol):
    """What a run asks of the settings of any algorithm, which are a frozen dataclass."""

    @property
    def num_envs(self) -> int:
        """Environments stepped in parallel, over all devices."""

    @property
    def execution(self) -> ExecutionConfig:
        """How the step is computed; the number of devices divides its `num_shards`."""

    @property
    def env_steps_per_update(self) -> int:
        """Environment steps in one update, over all environments."""


@dataclasses.dataclass(frozen=True)
class StoredConfig:
    """Settings of an algorithm that jaxdrl does not have, as a file has them.

    They are enough to look at a run; to train or play needs `make_algorithm`.

    Attributes:
      kind: name of their type.
      settings: as JSON has them.
      num_envs: as in `AlgorithmConfig`.
      env_steps_per_update: likewise.
      execution: likewise.
    """

    kind: str
    settings: dict[str, Any]
    num_envs: int
    env_steps_per_update: int
    execution: ExecutionConfig


def kind_of(config: Any) -> str:
    """The name of an algorithm by its settings; that of one's own is the name of their type."""
    if isinstance(config, StoredConfig):
        return config.kind
    names = {kind: name for name, kind in ALGORITHMS.items()}
    return names.get(type(config), type(config).__name__)


def can_start_from(here: str, there: str) -> bool:
    """Whether an algorithm can begin with the parameters of another, both as `kind_of` names them.

    Of algorithms of one's own this is not known, and not refused.
    """
    is_own = here not in ALGORITHMS or there not in ALGORITHMS
    return here == there or is_own or (here in ACTOR_CRITICS and there in ACTOR_CRITICS)


def require_algorithm(name: str) -> None:
    """Refuses the name of an algorithm that there is not, with the nearest."""
    if name not in ALGORITHMS:
        (close,) = difflib.get_close_matches(str(name).lower(), ALGORITHMS, n=1, cutoff=0)
        have = f"there are {', '.join(ALGORITHMS)}" if len(ALGORITHMS) > 1 else "there is no other"
        raise ConfigError(f"algorithm = {name!r}: unknown; the nearest: {close}; {have}")


def require_config(config: Any) -> None:
    """Refuses what are not the settings of an algorithm.

    Raises:
      ConfigError: saying what is missing.
    """
    is_config = dataclasses.is_dataclass(config) and not isinstance(config, type)
    example = "such as jaxdrl.PPOConfig(num_envs=64), or a frozen dataclass of your own"
    require(is_config, "algorithm", config, f"must be the settings of an algorithm, {example}")
    for name in ("num_envs", "env_steps_per_update"):
        value = getattr(config, name, None)
        is_count = type(value) is int and value >= 1
        works = "must be an integer of at least 1, which a run goes by"
        require(is_count, f"algorithm.{name}", value, works)
    execution = getattr(config, "execution", None)
    works = "must be a jaxdrl.ExecutionConfig, which says into how many shards environments are cut"
    require(isinstance(execution, ExecutionConfig), "algorithm.execution", execution, works)
