"""Experiments as JSON has them."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from jaxdrl import ExecutionConfig, Experiment, PPOConfig, Sweep, hyperparameter, with_settings
from jaxdrl.config.stored import from_json, to_json
from jaxdrl.errors import ConfigError


@dataclass(frozen=True)
class OwnConfig:
    """Settings of an algorithm that jaxdrl does not have."""

    num_envs: int = 16
    rate: float = hyperparameter(0.5)
    execution: ExecutionConfig = ExecutionConfig(num_shards=4)

    @property
    def env_steps_per_update(self):
        """Three steps of each environment."""
        return 3 * self.num_envs


PPO = with_settings(PPOConfig(), gamma=0.5, hidden_sizes=(8, 9), reproducible=True)
EXPERIMENTS = {
    "plain": Experiment("CartPole-v1"),
    "full": Experiment(
        "a/B-v0",
        env_params={"length": 0.5, "mode": "hard"},
        randomize=("gravity=9:11",),
        run_dir=Path("runs/a"),
        track=("tensorboard",),
        algorithm=PPO,
        sweep=Sweep({"gamma": "0.9:0.99"}, shapes={"num_steps": "8,16"}),
    ),
}


def through_json(experiment):
    return json.loads(json.dumps(to_json(experiment)))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_comes_back_as_it_was(name):
    content = through_json(EXPERIMENTS[name])
    assert content["algorithm"]["kind"] == "ppo"
    assert from_json(content, "config.json: ") == EXPERIMENTS[name]


def test_settings_of_an_own_algorithm_come_back_where_their_type_is_known():
    experiment = Experiment("CartPole-v1", algorithm=OwnConfig(num_envs=32, rate=0.25))
    content = through_json(experiment)
    assert content["algorithm"]["kind"] == "OwnConfig"
    assert from_json(content, "", OwnConfig) == experiment


def test_they_are_enough_to_look_at_a_run_where_it_is_not():
    experiment = Experiment("CartPole-v1", total_env_steps=1000, algorithm=OwnConfig())
    found = from_json(through_json(experiment), "")
    assert found.num_updates == experiment.num_updates == 21
    assert found.algorithm.num_envs == 16
    assert found.algorithm.execution == ExecutionConfig(num_shards=4)
    assert through_json(found) == through_json(experiment)


def test_settings_of_another_type_are_refused():
    content = through_json(Experiment("CartPole-v1", algorithm=OwnConfig()))
    content["algorithm"]["kind"] = "OtherConfig"
    with pytest.raises(ConfigError, match="'OtherConfig': make_algorithm takes OwnConfig; give"):
        from_json(content, "config.json: ", OwnConfig)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": None}, "algorithm: has no kind"),
        ({"kind_num_envs": 0}, r"algorithm.kind_num_envs = 0: must be of type int"),
        ({"kind_env_steps_per_update": "9"}, "kind_env_steps_per_update = '9': must be of type"),
        ({"execution": {"num_shards": "4"}}, "execution.num_shards = '4': must be of type int"),
    ],
)
def test_damaged_settings_of_an_own_algorithm_are_refused(changes, message):
    content = through_json(Experiment("CartPole-v1", algorithm=OwnConfig()))
    content["algorithm"] |= changes
    with pytest.raises(ConfigError, match=message):
        from_json(content, "config.json: ")
