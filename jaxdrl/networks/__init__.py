"""Actor-critic networks, feed-forward and recurrent, and wrappers for modules of your own."""

from jaxdrl.networks.actor_critic import ActorCritic, Torso, from_module, orthogonal
from jaxdrl.networks.recurrent import GRU, LSTM, RecurrentActorCritic, from_recurrent

__all__ = [
    "GRU",
    "LSTM",
    "ActorCritic",
    "RecurrentActorCritic",
    "Torso",
    "from_module",
    "from_recurrent",
    "orthogonal",
]
