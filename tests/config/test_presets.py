"""Settings of the known tasks, and defaults for all others."""

import gymnax
import jax
import pytest

import jaxdrl
import probe_environments as probes
from jaxdrl.algorithms.build import build
from jaxdrl.config import presets
from jaxdrl.core.spaces import Box
from jaxdrl.envs.suites.gymnax import DOWNLOADS
from jaxdrl.errors import ConfigError


def test_every_task_of_gymnax_is_known_but_those_that_download():
    assert set(presets.TASKS) == set(gymnax.registered_envs) - set(DOWNLOADS)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for kind in presets.PRESETS
        for name in presets.PRESETS[kind]
        if name not in presets.SUITE_TASKS  # which need what may not be installed
    ],
)
def test_the_settings_of_a_task_fit_its_environment(name, kind):
    experiment = jaxdrl.make_experiment(name, kind)
    assert experiment.env == name
    agent = build(jaxdrl.make(name), jaxdrl.make_config(name, kind))
    state = jax.eval_shape(agent.init, jax.eval_shape(lambda: jax.random.key(0)))
    after, _ = jax.eval_shape(agent.train_step, state)
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_an_algorithm_without_a_preset_has_what_is_known_of_the_task():
    own = jaxdrl.make_experiment("CartPole-v1", "impala")
    assert own.algorithm == jaxdrl.make_config("CartPole-v1", "impala") != jaxdrl.IMPALAConfig()
    assert own.total_env_steps == 500_000
    other = jaxdrl.make_experiment("MountainCar-v0", "impala", num_envs=64)
    task = jaxdrl.make_experiment("MountainCar-v0")
    assert (other.env, other.total_env_steps) == (task.env, task.total_env_steps)
    assert isinstance(other.algorithm, jaxdrl.IMPALAConfig)
    assert (other.algorithm.gamma, other.algorithm.num_envs) == (task.algorithm.gamma, 64)
    assert other.algorithm.normalize_observations
    assert jaxdrl.make_config("MemoryChain-bsuite", "impala").network.memory == "gru"
    values = jaxdrl.make_config("FourRooms-misc", "pqn").network
    assert values.layer_norm  # which it needs, and PPO's preset does not have
    unknown = jaxdrl.make_config(probes.continuous_target(-1.0, 1.0, (2,)), "impala")
    assert unknown == jaxdrl.IMPALAConfig(normalize_observations=True, normalize_rewards=True)


def test_an_environment_is_known_by_its_name():
    env = jaxdrl.make("MemoryChain-bsuite", memory_length=9)
    assert jaxdrl.make_config(env) == jaxdrl.make_config("MemoryChain-bsuite")
    assert jaxdrl.make_config(env).network.memory == "gru"


def test_an_unknown_environment_gets_defaults_by_its_spaces():
    discrete = jaxdrl.make_config(probes.action_reward())
    assert not discrete.normalize_observations
    continuous = jaxdrl.make_config(probes.continuous_target(-1.0, 1.0, (2,)))
    assert continuous.normalize_observations
    assert continuous.normalize_rewards
    image = jaxdrl.make_config(probes.image())
    assert (image.network.torso, image.network.activation) == ("auto", "relu")
    for config in (discrete, continuous, image):
        assert config.network.memory == "none"


def test_an_environment_with_names_of_its_own_learns_by_the_defaults():
    env = probes.continuous_target(-1.0, 1.0, (1,))
    assert isinstance(env.action_space, Box)
    agent = jaxdrl.ppo(env, jaxdrl.make_config(env))
    state = jaxdrl.train(agent, jax.jit(agent.init)(jax.random.key(0)), num_updates=10)
    key = jax.random.key(1)
    result = jaxdrl.evaluate(env, agent.policy, state.learner, key, num_episodes=64)
    assert result.mean_return > -0.05


def test_a_name_that_nobody_knows_is_refused():
    with pytest.raises(ConfigError, match="unknown; the nearest: CartPole-v1"):
        jaxdrl.make_config("CartPole-v2")
