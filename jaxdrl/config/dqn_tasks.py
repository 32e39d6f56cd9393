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
# With a gradient step for every environment step: half as many ended 5 lower.
_ACROBOT = with_settings(
    _CARTPOLE,
    num_steps=16,
    target_update_every=250,
    final_epsilon=0.05,
    exploration_env_steps=20_000.0,
)
# Random actions never reach the goal in 200 steps. Values find it: they begin at 0, above those of
# states that were seen, so that the greedy action goes where it has not been. That needs tanh: with
# relu the goal was found late or not at all, and with 3-step returns late in one run of ten.
_MOUNTAIN_CAR = with_settings(
    DQNConfig(),
    num_steps=8,
    num_gradient_steps=64,
    buffer_size=20_000,
    learning_rate=1e-3,
    gamma=0.98,
    target_update_every=100,
    exploration_env_steps=4_000.0,
    normalize_observations=True,
    hidden_sizes=(64, 64),
    activation="tanh",
)

DQN_TASKS = {
    "CartPole-v1": (50_000, _CARTPOLE),
    "Acrobot-v1": (100_000, _ACROBOT),
    "MountainCar-v0": (120_000, _MOUNTAIN_CAR),
}
"""`(total_env_steps, settings)` by the name of the environment."""
