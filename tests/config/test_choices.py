"""Choices of what shapes the program."""

import pytest

from jaxdrl.config.choices import OF_DEVICES, parse_choices, shapes_of
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.settings import hyperparameters, settings_of
from jaxdrl.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("num_steps", "8, 16", [8, 16]),
        ("hidden_sizes", "64x64,256", [(64, 64), (256,)]),
        ("activation", "tanh,relu", ["tanh", "relu"]),
        ("shared_torso", "True,False", [True, False]),
        ("sequence_length", "None,8", [None, 8]),
        ("critic_only", "None,map,map+goal", [(), ("map",), ("map", "goal")]),
    ],
)
def test_choices_are_values_by_their_text(name, text, values):
    assert list(parse_choices(PPOConfig(), name, text).values()) == values


def test_every_setting_is_a_float_a_shape_or_of_devices():
    config = PPOConfig()
    names = sorted([*shapes_of(config), *hyperparameters(config), *OF_DEVICES])
    assert names == sorted(settings_of(config))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("num_stepz", "8,16", "did you mean num_steps"),
        ("gamma", "0.9,0.99", "varies within one program; --gamma LOW:HIGH"),
        ("num_shards", "4,8", "does not change what is learned; --num-shards sets it"),
        ("num_steps", "8", "must have two choices or more"),
        ("num_steps", "8,8", "all different"),
        ("num_steps", "8,None", "num_steps = 'None': must be an integer"),
        ("sequence_length", "8,x", "sequence_length = 'x': must be an integer or None"),
        ("remat", "True,1", "remat = '1': must be True or False"),
        ("hidden_sizes", "64:64,8", "hidden_sizes = '64:64': must be integers with an x between"),
    ],
)
def test_choices_that_are_none_are_refused(name, text, says):
    with pytest.raises(ConfigError, match=says) as error:
        parse_choices(PPOConfig(), name, text)
    assert str(error.value).startswith(f"sweep.shapes.{name}")
