"""Settings by their own names."""

import dataclasses

import jax
import pytest

from jaxdrl import ExecutionConfig, Experiment, NetworkConfig, PPOConfig, Sweep, with_settings
from jaxdrl.config.settings import flat_settings, hyperparameters, settings_of, value_of
from jaxdrl.errors import ConfigError


def leaves(config):
    """The names of all fields that are not configs themselves, by a walk of their own."""
    names = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        names += leaves(value) if dataclasses.is_dataclass(value) else [field.name]
    return names


def test_no_two_settings_of_an_experiment_have_the_same_name():
    experiment = Experiment("CartPole-v1", sweep=Sweep({"gamma": "0.9:0.99"}))
    names = leaves(experiment)
    assert len(set(names)) == len(names)
    assert set(settings_of(experiment)) == set(names)


def test_settings_are_changed_wherever_they_lie_and_everything_else_is_kept():
    before = Experiment("CartPole-v1", seed=3)
    after = with_settings(before, seed=4, num_envs=64, memory="gru", reproducible=True)
    config = after.algorithm
    found = after.seed, config.num_envs, config.network.memory, config.execution.reproducible
    assert found == (4, 64, "gru", True)
    unchanged = flat_settings(before).keys() - {"seed", "num_envs", "memory", "reproducible"}
    assert all(value_of(before, name) == value_of(after, name) for name in unchanged)
    assert with_settings(after, **flat_settings(before)) == before


def test_what_works_only_together_is_changed_together():
    small = PPOConfig(num_envs=8, num_steps=1, num_minibatches=1)
    changed = with_settings(small, num_shards=4, num_envs=12, num_minibatches=3)
    assert (changed.execution.num_shards, changed.num_envs) == (4, 12)


def test_a_nested_config_may_be_given_as_a_whole():
    network = NetworkConfig(hidden_sizes=(8,))
    assert with_settings(PPOConfig(), network=network, num_envs=64).network == network


@dataclasses.dataclass(frozen=True)
class OwnConfig:
    """Of another algorithm, with a setting that PPO does not have."""

    rate: float = 0.5
    num_envs: int = 8
    env_steps_per_update: int = 8
    execution: ExecutionConfig = ExecutionConfig()


def test_settings_are_those_of_the_config_that_is_given_beside_them():
    before = Experiment("CartPole-v1")
    after = with_settings(before, rate=0.25, algorithm=OwnConfig(num_envs=16), seed=3)
    assert (after.algorithm, after.seed) == (OwnConfig(rate=0.25, num_envs=16), 3)
    with pytest.raises(ConfigError, match="gamma: there is no such setting"):
        with_settings(before, algorithm=OwnConfig(), gamma=0.9)


def test_traced_values_are_taken():
    def rate(value):
        config = with_settings(PPOConfig(), learning_rate=value, initial_log_std=value)
        return config.learning_rate + config.network.initial_log_std

    assert jax.jit(rate)(0.25) == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rte": 1.0}, "learning_rte: there is no such setting; the nearest: learning_r"),
        ({"hidden_size": 8}, "hidden_size: there is no such setting; the nearest: hidden_sizes"),
        ({"num_envs": 100}, "num_envs = 100: must be a multiple of num_shards = 8; "),
        ({"memory": "gruu"}, "memory = 'gruu': must be one of none, gru, lstm; the nearest: gru"),
        ({"num_shards": 0}, "num_shards = 0: must be an integer of at least 1"),
        ({"network": 3}, "network = 3: must be a jaxdrl.NetworkConfig, such as NetworkConfig("),
    ],
)
def test_what_does_not_work_is_refused_by_its_own_name(settings, message):
    with pytest.raises(ConfigError) as caught:
        with_settings(PPOConfig(), **settings)
    assert str(caught.value).startswith(message)


def test_hyperparameters_are_the_fields_that_say_so():
    names = hyperparameters(PPOConfig())
    assert {"learning_rate", "gamma", "target_kl", "initial_log_std"} <= set(names)
    assert not {"num_envs", "hidden_sizes", "reproducible"} & set(names)
