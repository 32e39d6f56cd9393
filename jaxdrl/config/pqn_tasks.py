"""The tuned settings of PQN for known tasks; `presets.py` makes experiments of them."""

from __future__ import annotations

from jaxdrl.config.pqn import PQNConfig
from jaxdrl.config.settings import with_settings

_CARTPOLE = with_settings(
    PQNConfig(),
    num_envs=64,
    num_epochs=4,
    learning_rate=2.5e-4,
    q_lambda=0.95,
    final_epsilon=0.2,
    exploration_env_steps=100_000.0,
    reward_scale=0.1,
    hidden_sizes=(256, 256),
)
_ACROBOT = with_settings(
    _CARTPOLE, learning_rate=1e-3, q_lambda=0.85, final_epsilon=0.07, hidden_sizes=(128, 128)
)
_MEMORY_CHAIN = with_settings(
    PQNConfig(),
    num_envs=64,
    num_epochs=4,
    num_minibatches=8,
    learning_rate=1e-3,
    q_lambda=0.9,
    memory="gru",
)
# As in the paper, but with the MLP of PPO's presets.
_PIXELS = with_settings(
    PQNConfig(),
    num_minibatches=32,
    exploration_env_steps=1_000_000.0,
    torso="mlp",
    hidden_sizes=(256, 256),
)

PQN_TASKS = {
    "CartPole-v1": (500_000, _CARTPOLE),
    "Acrobot-v1": (500_000, _ACROBOT),
    "Asterix-MinAtar": (10_000_000, _PIXELS),
    "Breakout-MinAtar": (10_000_000, _PIXELS),
    "Freeway-MinAtar": (5_000_000, _PIXELS),
    "SpaceInvaders-MinAtar": (10_000_000, _PIXELS),
    "MemoryChain-bsuite": (500_000, _MEMORY_CHAIN),
}
"""Environment steps and settings, by the name of the environment."""
