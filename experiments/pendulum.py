"""Pendulum-v1: continuous actions, observations and rewards normalised by running statistics."""

from jaxdrl import Experiment, PPOConfig
from jaxdrl.cli import run_script

EXPERIMENT = Experiment(
    env="Pendulum-v1",
    total_env_steps=1_000_000,
    anneal_learning_rate=True,
    ppo=PPOConfig(
        num_envs=64,
        num_steps=64,
        num_epochs=10,
        num_minibatches=8,
        learning_rate=1e-3,
        gamma=0.95,
        normalize_observations=True,
        normalize_rewards=True,
    ),
)


def main() -> None:
    """Trains with the flags of the command line laid over the config above."""
    run_script(EXPERIMENT, __doc__)


if __name__ == "__main__":
    main()
