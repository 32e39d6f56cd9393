"""The tuned presets: the settings with which each known task is trained.

They were chosen by measurement: `experiments/learning_table.py` trains every task with them, and
`experiments/results/learning_table.md` lists the returns that they reach.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxdrl.config.algorithms import ALGORITHMS, DEFAULT
from jaxdrl.config.dqn import DQNConfig
from jaxdrl.config.dqn_tasks import DQN_TASKS
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.game_tasks import GAME_TASKS
from jaxdrl.config.impala import IMPALAConfig
from jaxdrl.config.off_policy_tasks import SAC_TASKS, TD3_TASKS
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.pqn import PQNConfig
from jaxdrl.config.pqn_tasks import PQN_TASKS
from jaxdrl.config.sac import SACConfig
from jaxdrl.config.settings import with_settings
from jaxdrl.config.td3 import TD3Config
from jaxdrl.config.team_tasks import RANDOMIZED, TEAM_TASKS

CONTROL = PPOConfig(
    num_envs=64,
    num_steps=64,
    num_epochs=10,
    num_minibatches=8,
    normalize_observations=True,
    normalize_rewards=True,
)
"""Continuous actions, and rewards of any size."""

PIXELS = with_settings(
    PPOConfig(),
    num_envs=128,
    num_steps=64,
    num_epochs=3,
    num_minibatches=8,
    entropy_coef=0.01,
    hidden_sizes=(256, 256),
    activation="relu",
    shared_torso=True,
    torso="mlp",
)
"""The 10 x 10 boards of MinAtar, on which an MLP learned more in the same time than a CNN."""

RECURRENT = with_settings(
    PPOConfig(),
    num_envs=64,
    num_steps=100,
    num_minibatches=8,
    learning_rate=3e-3,
    entropy_coef=0.01,
    memory="gru",
)
"""Tasks that need memory, or in which every episode has to be explored again."""

SMALL = PPOConfig(num_envs=64, num_steps=32, num_minibatches=4, entropy_coef=0.01)
"""Small discrete tasks with short episodes."""


def _task(env: str, total_env_steps: int, algorithm: Any, episodes: int = 256) -> Experiment:
    return Experiment(
        env=env,
        randomize=RANDOMIZED.get(env, ()),
        total_env_steps=total_env_steps,
        anneal_learning_rate=True,
        num_eval_episodes=episodes,
        algorithm=algorithm,
    )


_CARTPOLE = PPOConfig(num_envs=256, num_steps=32, num_minibatches=16, learning_rate=2.5e-3)
_ACROBOT = with_settings(_CARTPOLE, entropy_coef=0.01, normalize_observations=True)
_MOUNTAIN_CAR = with_settings(
    _ACROBOT, num_steps=128, entropy_coef=0.03, normalize_rewards=True, gamma=0.995
)

_PENDULUM = with_settings(
    CONTROL,
    num_envs=128,
    num_steps=200,
    num_minibatches=32,
    learning_rate=3e-4,
    gae_lambda=0.98,
)
_POINT_ROBOT = with_settings(
    RECURRENT,
    num_envs=512,
    learning_rate=2e-3,
    entropy_coef=0.005,
    hidden_sizes=(64,),
    normalize_rewards=True,
)
_GAUSSIAN_BANDIT = with_settings(RECURRENT, num_envs=256, learning_rate=1e-3, entropy_coef=0.05)

TASKS = {
    task.env: task
    for task in (
        # Classic control.
        _task("CartPole-v1", 500_000, _CARTPOLE),
        _task("Acrobot-v1", 1_000_000, _ACROBOT),
        _task("MountainCar-v0", 2_000_000, _MOUNTAIN_CAR),
        _task(
            "MountainCarContinuous-v0",
            1_000_000,
            with_settings(CONTROL, num_envs=256, num_steps=128, initial_log_std=0.5, gamma=0.999),
        ),
        _task("Pendulum-v1", 3_000_000, _PENDULUM, episodes=2048),
        # MinAtar.
        _task("Asterix-MinAtar", 8_000_000, PIXELS),
        # With less entropy it settles on one short game.
        _task("Breakout-MinAtar", 10_000_000, with_settings(PIXELS, entropy_coef=0.05)),
        _task("Freeway-MinAtar", 5_000_000, PIXELS),
        _task("Seaquest-MinAtar", 2_000_000, PIXELS),
        _task("SpaceInvaders-MinAtar", 5_000_000, PIXELS),
        # bsuite.
        _task("Catch-bsuite", 200_000, with_settings(SMALL, torso="mlp")),
        _task("DeepSea-bsuite", 500_000, with_settings(SMALL, entropy_coef=0.05)),
        _task("DiscountingChain-bsuite", 500_000, with_settings(SMALL, num_steps=128, gamma=0.9)),
        _task("MemoryChain-bsuite", 500_000, with_settings(RECURRENT, num_steps=32)),
        _task("UmbrellaChain-bsuite", 500_000, with_settings(SMALL, gamma=1.0), episodes=8192),
        _task("SimpleBandit-bsuite", 200_000, SMALL, episodes=4096),
        # Others.
        _task("FourRooms-misc", 1_000_000, with_settings(SMALL, num_steps=128)),
        _task("MetaMaze-misc", 2_000_000, with_settings(RECURRENT, num_envs=128)),
        _task("PointRobot-misc", 10_000_000, _POINT_ROBOT, episodes=1024),
        _task(
            "BernoulliBandit-misc", 1_000_000, with_settings(RECURRENT, gamma=0.9), episodes=4096
        ),
        _task("GaussianBandit-misc", 3_000_000, _GAUSSIAN_BANDIT, episodes=4096),
        _task("Reacher-misc", 1_000_000, CONTROL),
        _task("Swimmer-misc", 2_000_000, CONTROL),
        _task("Pong-misc", 300_000, with_settings(PIXELS, hidden_sizes=(64, 64))),
        _task("FrozenLake-misc", 500_000, with_settings(SMALL, num_steps=128), episodes=4096),
    )
}
"""The experiment of each known task of gymnax, by the name of its environment."""

GRID = with_settings(
    PPOConfig(),
    num_envs=64,
    num_steps=64,
    num_minibatches=8,
    entropy_coef=0.01,
    activation="relu",
    torso="mlp",
)
"""Grids, one-hot."""

_NAVIX = with_settings(GRID, num_steps=32, num_minibatches=4)
_BOARD = with_settings(GRID, num_envs=128, hidden_sizes=(256, 256))
_INVERTED_PENDULUM = with_settings(CONTROL, num_minibatches=16)
_ANT = with_settings(
    CONTROL,
    num_envs=4096,
    num_steps=16,
    num_epochs=4,
    num_minibatches=16,
    learning_rate=3e-4,
    gamma=0.97,
    entropy_coef=0.001,
    hidden_sizes=(256, 256),
    activation="silu",
)
_CARTPOLE_BALANCE = with_settings(CONTROL, gamma=0.995)
_ATARI = with_settings(
    PPOConfig(),
    num_envs=64,
    num_steps=64,
    num_epochs=3,
    num_minibatches=8,
    learning_rate=2.5e-4,
    clip_epsilon=0.1,
    entropy_coef=0.01,
    normalize_rewards=True,
    hidden_sizes=(512,),
    activation="relu",
    shared_torso=True,
    torso="cnn",
    cnn_channels=(32, 64, 64),
    cnn_kernel_sizes=(8, 4, 3),
    cnn_strides=(4, 2, 1),
)
# A rate of 1e-3 clips half of the samples, and ends lower.
_CHEETAH = with_settings(
    CONTROL, num_envs=16, num_steps=128, num_minibatches=16, learning_rate=3e-4
)
_CRAFTAX = with_settings(
    _BOARD, num_envs=64, learning_rate=7e-4, entropy_coef=0.005, gamma=0.95, gae_lambda=0.8
)

SUITE_TASKS = {
    task.env: task
    for task in (
        _task("brax/inverted_pendulum", 500_000, _INVERTED_PENDULUM, episodes=128),
        # For a GPU; measured to half of that.
        _task("brax/ant", 40_000_000, _ANT, episodes=128),
        _task("playground/CartpoleBalance", 1_000_000, _CARTPOLE_BALANCE, episodes=128),
        _task("xminigrid/MiniGrid-Empty-8x8", 300_000, GRID, episodes=128),
        _task("xminigrid/MiniGrid-DoorKey-5x5", 600_000, GRID, episodes=128),
        _task("navix/Navix-Empty-5x5-v0", 100_000, _NAVIX, episodes=128),
        _task("jumanji/Snake-v1", 1_500_000, _BOARD, episodes=128),
        _task(
            "jumanji/Game2048-v1",
            1_000_000,
            with_settings(_BOARD, normalize_rewards=True),
            episodes=128,
        ),
        _task("craftax/Craftax-Classic-Symbolic-v1", 2_000_000, _CRAFTAX, episodes=128),
        # Environments of the host, with data that is one update old.
        _task("gymnasium/CartPole-v1", 500_000, _CARTPOLE, episodes=128),
        _task("gymnasium/Acrobot-v1", 1_000_000, _ACROBOT, episodes=128),
        _task("gymnasium/Pendulum-v1", 3_000_000, _PENDULUM, episodes=128),
        _task("gymnasium/HalfCheetah-v5", 1_000_000, _CHEETAH, episodes=32),
        _task("envpool/CartPole-v1", 500_000, _CARTPOLE, episodes=128),
        _task("envpool/HalfCheetah-v5", 1_000_000, _CHEETAH, episodes=32),
        # Games run for 100,000 steps here, and not to a score: that is work for a GPU.
        _task("envpool/Pong-v5", 10_000_000, _ATARI, episodes=16),
        _task("ale/Breakout-v5", 10_000_000, _ATARI, episodes=16),
        _task("ale/Pong-v5", 10_000_000, _ATARI, episodes=16),
    )
}
"""The same of suites."""

SUITE_TASKS |= {
    env: _task(env, *task, episodes=128) for env, task in (GAME_TASKS | TEAM_TASKS).items()
}

_IMPALA_CARTPOLE = IMPALAConfig(num_envs=64, num_steps=32, num_minibatches=8, learning_rate=2e-3)

PRESETS = {
    "ppo": TASKS | SUITE_TASKS,
    "impala": {"CartPole-v1": _task("CartPole-v1", 500_000, _IMPALA_CARTPOLE)},
    "pqn": {env: _task(env, *task) for env, task in PQN_TASKS.items()},
    "dqn": {env: _task(env, *task) for env, task in DQN_TASKS.items()},
    "sac": {env: _task(env, *task) for env, task in SAC_TASKS.items()},
    "td3": {env: _task(env, *task) for env, task in TD3_TASKS.items()},
}
"""All of them, by algorithm and environment."""

OF_TASK = ("gamma", "normalize_observations", "normalize_rewards", "network")
"""Settings that follow from a task more than from an algorithm."""

BODY_OF_TASK = (
    *("torso", "cnn_channels", "cnn_kernel_sizes", "cnn_strides", "memory", "critic_only"),
)
"""Those of the network, for an algorithm that has networks of its own size."""


def find(env: str, algorithm: str) -> Experiment | None:
    """The preset of an environment for an algorithm, None if there is none for the environment.

    Where an algorithm has no preset of its own, it is PPO's with the defaults of the algorithm.
    """
    if env in PRESETS.get(algorithm, {}):
        return PRESETS[algorithm][env]
    task = PRESETS[DEFAULT].get(env)
    return task and with_settings(task, algorithm=adapted(task.algorithm, algorithm))


def adapted(config: Any, algorithm: str) -> Any:
    """The defaults of an algorithm, with what `config` of another one says about the task."""
    kind: Any = ALGORITHMS[algorithm]
    if isinstance(config, kind):
        return config
    own = {field.name for field in dataclasses.fields(kind)}
    known = {name: getattr(config, name) for name in OF_TASK if name in own}
    if kind in (SACConfig, TD3Config):  # which learn with larger networks than PPO
        body = {name: getattr(config.network, name) for name in BODY_OF_TASK}
        return kind(**known | {"network": dataclasses.replace(kind().network, **body)})
    if kind in (PQNConfig, DQNConfig):  # which have no critic
        known["network"] = dataclasses.replace(config.network, critic_only=())
    return with_settings(kind(**known), layer_norm=kind().network.layer_norm)
