"""Which networks SAC and TD3 refuse, and which bounds of TD3."""

import pytest

from jaxdrl import SACConfig, TD3Config, with_settings
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.presets import adapted
from jaxdrl.errors import ConfigError


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (SACConfig, {"memory": "gru"}, "memory = 'gru': must be 'none': sequences are not learnt"),
        (TD3Config, {"memory": "lstm"}, "memory = 'lstm': must be 'none'"),
        (SACConfig, {"shared_torso": True}, "shared_torso = True: must be False"),
        (SACConfig, {"action_distribution": "normal"}, "'normal': must be 'tanh_normal'"),
        (TD3Config, {"action_distribution": "tanh_normal"}, "'tanh_normal': must be 'normal'"),
        (TD3Config, {"min_exploration_noise": 0.3}, "max_exploration_noise = 0.1: must be at leas"),
        (TD3Config, {"v_min": 300.0}, "v_max = 250.0: must be above v_min = 300"),
    ],
)
def test_what_does_not_work_is_refused(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        with_settings(config(), **changes)


def test_a_task_whose_critic_sees_more_is_learnt_by_action_values_without_it():
    task = with_settings(PPOConfig(), critic_only=("world_state",))
    for name, names in (("sac", ("world_state",)), ("pqn", ()), ("dqn", ())):
        assert adapted(task, name).network.critic_only == names


def test_the_network_of_a_task_keeps_its_body_and_gets_the_size_that_they_learn_with():
    task = with_settings(PPOConfig(), torso="mlp", hidden_sizes=(32,), gamma=0.9)
    for name, config in (("sac", SACConfig), ("td3", TD3Config)):
        expected = with_settings(config(), torso="mlp", gamma=0.9)
        assert adapted(task, name) == expected
