"""The tuned settings of PPO for games of two agents; `presets.py` makes experiments of them."""

from __future__ import annotations

from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.settings import with_settings

# Advantages are in units of the reward, so that the entropy bonus is a temperature: moves of equal
# worth stay equally likely, and no reply becomes so rare that the answer to it is not learned.
_TIC_TAC_TOE = with_settings(
    PPOConfig(),
    num_envs=256,
    num_steps=16,
    gamma=1.0,
    entropy_coef=0.2,
    standardize_advantages=False,
    hidden_sizes=(128, 128),
    activation="relu",
    torso="mlp",
)
# A kernel of 4 by 4 sees a whole line of four at once, wherever it is.
_CONNECT_FOUR = with_settings(
    _TIC_TAC_TOE,
    num_steps=32,
    num_minibatches=8,
    entropy_coef=0.08,
    hidden_sizes=(256, 256),
    shared_torso=True,
    torso="cnn",
    cnn_channels=(64,),
    cnn_kernel_sizes=(4,),
)

GAME_TASKS = {
    "pgx/tic_tac_toe": (1_000_000, _TIC_TAC_TOE),
    "pgx/connect_four": (4_000_000, _CONNECT_FOUR),
}
"""Environment steps and settings, by the name of the environment."""
