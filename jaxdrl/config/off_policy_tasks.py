"""The tuned settings of SAC and TD3 by task; `presets.py` makes experiments of them."""

from __future__ import annotations

from jaxdrl.config.sac import SACConfig
from jaxdrl.config.settings import with_settings
from jaxdrl.config.td3 import TD3Config

_SAC_SMALL = with_settings(
    SACConfig(),
    buffer_size=32_000,
    hidden_sizes=(64, 64),
    learning_rate=1e-3,
    critic_learning_rate=1e-3,
    temperature_learning_rate=1e-3,
)
# Noise that differs from step to step does not reach the goal.
_SAC_MOUNTAIN_CAR = with_settings(
    _SAC_SMALL,
    **{"num_steps": 16, "num_gradient_steps": 64, "buffer_size": 65_536, "learning_starts": 2_000},
    n_step=3,
    final_learning_rate=2e-4,
    hold_noise=True,
    normalize_observations=True,
)
_SAC_BRAX = with_settings(
    _SAC_SMALL,
    **{"num_envs": 16, "num_steps": 8, "num_gradient_steps": 32, "buffer_size": 131_072},
    normalize_observations=True,
)
_TD3_PENDULUM = with_settings(
    TD3Config(),
    buffer_size=32_000,
    hidden_sizes=(64, 64),
    **{"learning_rate": 1e-3, "critic_learning_rate": 1e-3, "final_learning_rate": 2e-4},
    target_update_rate=0.01,
    max_exploration_noise=0.8,
)

SAC_TASKS = {
    "Pendulum-v1": (20_000, _SAC_SMALL, 2048),
    "MountainCarContinuous-v0": (50_000, _SAC_MOUNTAIN_CAR, 256),
    "brax/inverted_pendulum": (100_000, _SAC_BRAX, 128),
}
"""Environment steps, settings and episodes of an evaluation, by the name of the environment."""

TD3_TASKS = {"Pendulum-v1": (20_000, _TD3_PENDULUM, 2048)}
"""The same of TD3."""
