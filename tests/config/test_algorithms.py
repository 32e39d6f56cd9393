"""Algorithms by name, and the settings of one's own."""

from dataclasses import dataclass

import pytest

from jaxdrl import ExecutionConfig, Experiment, PPOConfig
from jaxdrl.config.algorithms import ALGORITHMS, kind_of, require_algorithm
from jaxdrl.errors import ConfigError


@dataclass(frozen=True)
class OwnConfig:
    """Settings of an algorithm of one's own."""

    num_envs: object = 16
    env_steps_per_update: object = 48
    execution: object = ExecutionConfig()


def test_every_algorithm_is_known_by_its_name():
    assert list(ALGORITHMS) == ["ppo", "impala", "pqn", "dqn", "sac", "td3"]
    assert [kind_of(config()) for config in ALGORITHMS.values()] == list(ALGORITHMS)
    assert kind_of(OwnConfig()) == "OwnConfig"
    for name in ALGORITHMS:
        require_algorithm(name)
    with pytest.raises(ConfigError, match=r"^algorithm = 'PPPO': unknown; the nearest: ppo; "):
        require_algorithm("PPPO")


def test_an_experiment_takes_settings_of_an_own_algorithm():
    experiment = Experiment("CartPole-v1", total_env_steps=100, algorithm=OwnConfig())
    assert experiment.num_updates == 3


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PPOConfig, "algorithm = <class 'jaxdrl.config.ppo.PPOConfig'>: must be the settings"),
        ({"num_envs": 64}, "algorithm = {'num_envs': 64}: must be the settings of an algorithm"),
        (OwnConfig(num_envs=0), "algorithm.num_envs = 0: must be an integer of at least 1"),
        (OwnConfig(num_envs=None), "algorithm.num_envs = None: must be an integer"),
        (OwnConfig(env_steps_per_update=2.5), "algorithm.env_steps_per_update = 2.5: must be an"),
        (OwnConfig(execution=None), "algorithm.execution = None: must be a jaxdrl.ExecutionConf"),
    ],
)
def test_what_a_run_cannot_go_by_is_refused(config, message):
    with pytest.raises(ConfigError) as caught:
        Experiment("CartPole-v1", algorithm=config)
    assert str(caught.value).startswith(message)


@dataclass(frozen=True)
class SeededConfig(OwnConfig):
    """Has a setting that an experiment has already."""

    seed: int = 0


def test_a_setting_that_an_experiment_has_already_is_refused():
    with pytest.raises(ConfigError) as caught:
        Experiment("CartPole-v1", algorithm=SeededConfig())
    assert str(caught.value) == (
        "seed: Experiment and SeededConfig both have a setting of this name; rename one"
    )


def test_only_an_algorithm_that_has_a_schedule_can_anneal():
    with pytest.raises(ConfigError, match="anneal_learning_rate = True: is for algorithms that"):
        Experiment("CartPole-v1", anneal_learning_rate=True, algorithm=OwnConfig())
