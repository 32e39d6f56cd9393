"""Breakout-MinAtar with settings of one's own, a small CNN: some minutes on two CPU cores.

The shipped settings, `jaxdrl train Breakout-MinAtar`, go further in more steps.
"""

from jaxdrl import Experiment, PPOConfig, with_settings
from jaxdrl.cli.main import run_script

EXPERIMENT = Experiment(
    env="Breakout-MinAtar",
    total_env_steps=2_000_000,
    anneal_learning_rate=True,
    algorithm=with_settings(
        PPOConfig(),
        num_envs=64,
        num_steps=64,
        num_epochs=4,
        num_minibatches=8,
        learning_rate=1e-3,
        entropy_coef=0.03,
        hidden_sizes=(128,),
        activation="relu",
        shared_torso=True,
    ),
)


def main() -> None:
    """Trains with the flags of the command line laid over the config above."""
    run_script(EXPERIMENT, __doc__)


if __name__ == "__main__":
    main()
