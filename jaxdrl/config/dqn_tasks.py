"""The tuned settings of DQN for known tasks; `presets.py` makes experiments of them."""

from __future__ import annotations

from jaxdrl.config.dqn import DQNConfig
from jaxdrl.config.settings import with_settings

_CARTPOLE = with_settings(
    DQNConfig(),
    num_steps=32,
    num_gradient_steps=128,
    buffer_size=50_000,
    n_step=3,
    learning_rate=1e-3,
    reward_scale=0.1,
    target_update_every=128,
    final_epsilon=0.04,
    exploration_env_steps=8_000.0,
    normalize_observations=True,
    hidden_sizes=(128, 128),
    activation="relu",
)
_ACROBOT = with_settings(
    _CARTPOLE,
    num_steps=16,
    num_gradient_steps=64,
    target_update_every=250,
    final_epsilon=0.05,
    exploration_env_steps=20_000.0,
)

DQN_TASKS = {
    "CartPole-v1": (50_000, _CARTPOLE),
    "Acrobot-v1": (100_000, _ACROBOT),
}
"""`(total_env_steps, settings)` by the name of the environment."""
