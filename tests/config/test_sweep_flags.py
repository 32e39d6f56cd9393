"""The flags of `jaxdrl sweep`."""

import pytest

from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.sweep_flags import SweepFlags, take_ranges
from jaxdrl.errors import ConfigError


@pytest.mark.parametrize(
    ("args", "ranges", "left"),
    [
        ("--gamma 0.9:0.99", {"gamma": "0.9:0.99"}, ""),
        ("--gamma=0.9:0.99 --seed 3", {"gamma": "0.9:0.99"}, "--seed 3"),
        ("--learning_rate log:1e-4:1e-2", {"learning_rate": "log:1e-4:1e-2"}, ""),
        ("--gamma 0.9 --gae-lambda 0.9:1", {"gae_lambda": "0.9:1"}, "--gamma 0.9"),
        ("--initial-log-std -1:0.5", {"initial_log_std": "-1:0.5"}, ""),
        ("--run-dir a:b --num-envs 8:9", {}, "--run-dir a:b --num-envs 8:9"),
        ("--gamma", {}, "--gamma"),
    ],
)
def test_ranges_are_taken_out_of_the_arguments_and_values_stay(args, ranges, left):
    args = args.split()
    assert take_ranges(args, PPOConfig()) == ranges
    assert " ".join(args) == left


def test_nothing_that_varies_is_refused():
    with pytest.raises(ConfigError, match="nothing varies; give at least one range, such as --le"):
        SweepFlags().to_sweep()
