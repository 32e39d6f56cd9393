"""Which networks SAC and TD3 learn. Imports no jax."""

from __future__ import annotations

from jaxdrl.checks import require
from jaxdrl.config.network import NetworkConfig


def check_networks(config: NetworkConfig, action_distribution: str) -> None:
    """Refuses a network that an actor with two critics and a replay buffer cannot have.

    Args:
      config: the settings of the network.
      action_distribution: the only one that the algorithm has.

    Raises:
      ConfigError: naming the field, its value and what works.
    """
    works = "must be 'none': sequences are not learnt from a replay buffer; ppo, impala and pqn "
    works += "have memory"
    require(config.memory == "none", "memory", config.memory, works)
    works = "must be False: the actor and each critic have a torso of their own"
    require(not config.shared_torso, "shared_torso", config.shared_torso, works)
    kind, field = config.action_distribution, "action_distribution"
    require(kind == action_distribution, field, kind, f"must be {action_distribution!r}")
