"""Pendulum-v1: continuous actions, observations and rewards normalised by running statistics."""

from jaxdrl import make_experiment
from jaxdrl.cli.main import run_script

EXPERIMENT = make_experiment("Pendulum-v1")


def main() -> None:
    """Trains with the flags of the command line laid over the settings of the task."""
    run_script(EXPERIMENT, __doc__)


if __name__ == "__main__":
    main()
