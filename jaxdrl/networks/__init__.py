"""Networks: actor-critics, with and without memory, and a place for your own."""

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
