"""Which sizes of a replay buffer and its minibatches fit each other."""

import re

import pytest

from jaxdrl import DQNConfig, with_settings
from jaxdrl.config.replay_sizes import capacity
from jaxdrl.errors import ConfigError

SMALL = with_settings(
    DQNConfig(), num_envs=16, num_steps=4, buffer_size=640, batch_size=32, learning_starts=64
)


@pytest.mark.parametrize(
    ("changes", "field", "works"),
    [
        ({"num_envs": 30}, "num_envs", "multiple of num_shards = 8; .* 24 or 32"),
        ({"num_envs": 4}, "num_envs", "multiple of num_shards = 8; .* 8"),
        ({"batch_size": 30}, "batch_size", "multiple of num_shards = 8; .* 24 or 32"),
        (
            {"buffer_size": 63, "n_step": 10, "learning_starts": 176},
            "buffer_size",
            "at least 176, to hold n_step . 1 = 11 steps of each of 16 env",
        ),
        (
            {"buffer_size": 2**36},
            "buffer_size",
            "at most 34359738304, 2147483647 steps",
        ),
        ({"learning_starts": 31}, "learning_starts", "at least 32, .*before which nothing"),
        ({"learning_starts": 641}, "learning_starts", "at most 640, the steps that"),
        (
            {"num_accumulation_steps": 3},
            "num_accumulation_steps",
            "must divide batch_size / num_shards = 4; .* 2 or 4",
        ),
        ({"num_steps": 2**31}, "num_steps", "at most 134217727 with num_envs = 16$"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_those_that_do(changes, field, works):
    with pytest.raises(ConfigError, match=rf"^{field} = .*{works}"):
        with_settings(SMALL, **changes)
    named = re.findall(r"\d+", works.rpartition("* ")[2]) if "; .*" in works else []
    named += re.findall(r"at least (\d+)", works)
    named += re.findall(r"at most (\d+),", works)
    for number in named:
        with_settings(SMALL, **changes | {field: int(number)})


@pytest.mark.parametrize(("size", "expected"), [(640, 40), (641, 44), (1, 4), (64, 4)])
def test_the_buffer_holds_whole_rollouts(size, expected):
    changes = {"learning_starts": 32, "n_step": 1}
    assert capacity(with_settings(SMALL, buffer_size=size, **changes)) == expected
