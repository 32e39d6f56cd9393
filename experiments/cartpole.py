"""CartPole-v1 with an MLP: solved within seconds of training on two CPU cores."""

from jaxdrl import make_experiment
from jaxdrl.cli.main import run_script

EXPERIMENT = make_experiment("CartPole-v1")


def main() -> None:
    """Trains with the flags of the command line laid over the settings of the task."""
    run_script(EXPERIMENT, __doc__)


if __name__ == "__main__":
    main()
