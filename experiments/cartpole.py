"""CartPole-v1 with an MLP: solved within seconds of training on two CPU cores."""

from jaxdrl import Experiment, PPOConfig
from jaxdrl.cli import run_script

EXPERIMENT = Experiment(
    env="CartPole-v1",
    total_env_steps=500_000,
    anneal_learning_rate=True,
    ppo=PPOConfig(num_envs=256, num_steps=32, num_minibatches=16, learning_rate=2.5e-3),
)


def main() -> None:
    """Trains with the flags of the command line laid over the config above."""
    run_script(EXPERIMENT, __doc__)


if __name__ == "__main__":
    main()
