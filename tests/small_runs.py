"""Runs of a second, which several test files start from."""

from jaxdrl.config import PPOConfig
from jaxdrl.experiment import Experiment

PPO = PPOConfig(num_envs=16, num_steps=8, num_epochs=1, num_minibatches=2, hidden_sizes=(8,))
CARTPOLE = Experiment(
    env="CartPole-v1",
    env_params={"max_steps_in_episode": 12},
    total_env_steps=300,  # rounded up to 3 updates of 128
    devices=2,
    anneal_learning_rate=True,
    evaluate_every=2,
    num_eval_episodes=8,
    ppo=PPO,
)
