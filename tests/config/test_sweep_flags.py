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
        ("--run-dir a:b --num-envs 8", {}, "--run-dir a:b --num-envs 8"),
        ("--gamma", {}, "--gamma"),
    ],
)
def test_ranges_are_taken_out_of_the_arguments_and_values_stay(args, ranges, left):
    args = args.split()
    assert take_ranges(args, PPOConfig()) == ranges
    assert " ".join(args) == left


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--num-envs 8:16", "shapes the program, .* and --shape num_envs=CHOICE,CHOICE tries"),
        ("--hidden-sizes=8:16", "shapes the program, .* and --shape hidden_sizes=CHOICE,CHOICE"),
        ("--num-shards 4:8", "does not change what is learned; --num-shards takes one value"),
    ],
)
def test_a_range_of_a_setting_that_cannot_vary_is_refused_with_what_to_do(flag, says):
    with pytest.raises(ConfigError, match=says):
        take_ranges(flag.split(), PPOConfig())


def test_nothing_that_varies_is_refused():
    with pytest.raises(ConfigError, match="nothing varies; give at least one range, such as --le"):
        SweepFlags().to_sweep()
