"""PPO, IMPALA and PQN learn what they should: probe environments with known answers, and the
scripts' tasks."""

import runpy
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxdrl
import probe_environments as probes
from jaxdrl import IMPALAConfig, PPOConfig, PQNConfig
from jaxdrl.algorithms.build import build
from jaxdrl.config.settings import with_settings
from jaxdrl.core.spaces import Discrete
from jaxdrl.errors import ConfigError

SCRIPTS = Path(__file__).parents[2] / "experiments"

CONFIG = with_settings(
    PPOConfig(),
    num_envs=32,
    num_steps=10,
    num_epochs=4,
    num_minibatches=4,
    learning_rate=1e-2,
    gamma=0.9,
    hidden_sizes=(32,),
)


IMPALA = with_settings(
    IMPALAConfig(),
    num_envs=32,
    num_steps=10,
    num_minibatches=4,
    learning_rate=1e-2,
    gamma=0.9,
    entropy_coef=0.0,
    hidden_sizes=(32,),
)
"""As many gradient steps a rollout as PPO takes in one epoch."""


PQN = with_settings(
    PQNConfig(),
    num_envs=32,
    num_steps=10,
    num_epochs=4,
    num_minibatches=4,
    learning_rate=1e-2,
    gamma=0.9,
    exploration_env_steps=5_000.0,
    hidden_sizes=(32,),
)


by_each = pytest.mark.parametrize("start", [CONFIG, IMPALA, PQN], ids=["ppo", "impala", "pqn"])


def trained_alone(env, num_updates, start=CONFIG, **changes):
    """`(agent, state)`."""
    config = with_settings(start, **changes)
    num_updates *= 4 if isinstance(config, IMPALAConfig) else 1
    config = replace(config, anneal_env_steps=float(num_updates * config.env_steps_per_update))
    agent = build(env, config)
    state = jaxdrl.train(agent, jax.jit(agent.init)(jax.random.key(0)), num_updates=num_updates)
    return agent, state


def trained(env, num_updates, start=CONFIG, **changes):
    """`(agent, state, trajectory of the trained policy)`."""
    agent, state = trained_alone(env, num_updates, start, **changes)
    _, trajectory = jax.jit(agent.rollout)(state.learner, state.actor)
    return agent, state, jax.device_get(trajectory)


def greedy_return(env, agent, state):
    key = jax.random.key(1)
    return jaxdrl.evaluate(env, agent.policy, state.learner, key, num_episodes=64).mean_return


EXACT = 1e-3


@by_each
def test_a_time_limit_is_no_death(start):
    """Reward 1 for ever is worth 1 / (1 - 0.9) = 10, wherever the limit of 5 cuts it."""
    _, _, trajectory = trained(probes.constant_reward(5, "truncated"), 150, start)
    assert trajectory.truncated.any()
    np.testing.assert_allclose(trajectory.value, 10.0, rtol=EXACT if start is PQN else 0.05)


@by_each
def test_a_death_is_one(start):
    """With k steps to go the value is 1 + 0.9 + ... + 0.9^(k - 1)."""
    _, _, trajectory = trained(probes.constant_reward(5, "terminated"), 60, start)
    left = 5 - trajectory.obs.argmax(axis=-1)
    expected = sum(np.where(left > i, 0.9**i, 0.0) for i in range(5))
    assert trajectory.terminated.any()
    np.testing.assert_allclose(trajectory.value, expected, rtol=EXACT if start is PQN else 0.05)


@by_each
def test_the_value_follows_the_observation(start):
    _, _, trajectory = trained(probes.random_observation(), 40, start)
    np.testing.assert_allclose(trajectory.value, trajectory.obs[..., 0], atol=0.05)


@by_each
def test_the_value_looks_ahead_to_a_delayed_reward(start):
    _, _, trajectory = trained(probes.delayed_reward(), 60, start)
    expected = np.where(trajectory.obs[..., 0] == 0, 0.9, 1.0)
    np.testing.assert_allclose(trajectory.value, expected, atol=0.05)


@by_each
@pytest.mark.parametrize(
    "make", [probes.action_reward, probes.observation_action_reward, probes.multi_discrete]
)
def test_discrete_actions(make, start):
    env = make()
    if start is PQN and not isinstance(env.action_space, Discrete):
        with pytest.raises(ConfigError, match="ppo or impala can learn this task"):
            trained_alone(env, 40, start)
        return
    agent, state = trained_alone(env, 40, start)
    assert greedy_return(env, agent, state) == 1.0


BOUNDED = [
    ("normal", -1.0, 1.0, (2,)),
    ("normal", -4.0, 1.0, (1,)),
    ("tanh_normal", -4.0, 1.0, (1,)),
    ("tanh_normal", 0.5, 3.0, ()),
]
# IMPALA does not standardise advantages, so that rewards far from 1 are better normalised.
SCALED = replace(IMPALA, normalize_rewards=True)


@pytest.mark.parametrize(
    ("kind", "low", "high", "shape", "start"),
    [
        *((*row, CONFIG) for row in BOUNDED),
        *(pytest.param(*row, SCALED, marks=pytest.mark.slow) for row in BOUNDED[:3]),
        (*BOUNDED[3], SCALED),
    ],
)
def test_continuous_actions_within_their_bounds(kind, low, high, shape, start):
    """The reward is NaN outside the bounds, so one violation would show in the return."""
    env = probes.continuous_target(low, high, shape)
    agent, state, trajectory = trained(env, 60, start, action_distribution=kind)
    assert np.isfinite(trajectory.reward).all()
    half = (high - low) / 2
    assert greedy_return(env, agent, state) > -0.05 * half**2


OVER_IMAGES = [CONFIG, pytest.param(IMPALA, marks=pytest.mark.slow), PQN]  # four times the updates


@pytest.mark.parametrize("start", OVER_IMAGES, ids=["ppo", "impala", "pqn"])
def test_images_of_bytes_through_a_cnn(start):
    env = probes.image()
    agent, state, trajectory = trained(env, 40, start, cnn_channels=(8,), activation="relu")
    assert trajectory.obs.dtype == np.uint8
    assert greedy_return(env, agent, state) == 1.0


def test_normalised_rewards_give_values_in_their_unit():
    """All of nearly all episodes is a reward of 1: V is 1 over the deviation of the returns."""
    env = probes.observation_action_reward()
    options = {"standardize_advantages": False, "max_grad_norm": None}
    normalised = {"normalize_observations": True, "normalize_rewards": True}
    agent, state, trajectory = trained(env, 40, **options, **normalised)
    assert greedy_return(env, agent, state) == 1.0
    unit = np.sqrt(state.learner.return_statistics.variance)
    assert unit < 0.8
    np.testing.assert_allclose(trajectory.value * unit, 1.0, atol=0.1)


def test_the_entropy_bonus_tempers_the_policy_by_as_much_as_it_says():
    """The best policy under a bonus c has probabilities like exp(reward / c), here 0.881."""
    env = probes.observation_action_reward()
    options = {"shared_torso": True, "value_clip_epsilon": 0.2, "target_kl": 0.02}
    tempered = {"entropy_coef": 1.0, "standardize_advantages": False}
    _, _, trajectory = trained(env, 60, **options, **tempered)
    taken = np.exp(trajectory.log_prob)
    right = np.where(trajectory.reward > 0, taken, 1.0 - taken)
    best = 1.0 / (1.0 + np.exp(-2.0))
    np.testing.assert_allclose(right, best, atol=0.03)
    np.testing.assert_allclose(trajectory.value, 2.0 * best - 1.0, atol=0.15)


# The scripts, with their own defaults: the seeds that the README speaks of.


def score_of(script, seed, run_dir):
    """Mean greedy return that a script's experiment reaches with `seed`."""
    experiment = runpy.run_path(str(SCRIPTS / f"{script}.py"))["EXPERIMENT"]
    run = jaxdrl.run(replace(experiment, seed=seed, devices=2, run_dir=run_dir / "run"))
    assert run.evaluation.num_episodes >= 256
    return run.evaluation.mean_return


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_cartpole_script_solves_it(seed, tmp_path):
    assert score_of("cartpole", seed, tmp_path) >= 475


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("algorithm", "env", "least"),
    [
        ("impala", "CartPole-v1", 495),
        ("pqn", "CartPole-v1", 495),
        ("pqn", "Acrobot-v1", -85),
        ("pqn", "MemoryChain-bsuite", 0.95),
    ],
)
def test_a_preset_solves_its_task(algorithm, env, least, seed, tmp_path):
    experiment = jaxdrl.make_experiment(env, algorithm, seed=seed)
    assert experiment.total_env_steps == 500_000
    run = jaxdrl.run(replace(experiment, devices=2, run_dir=tmp_path / "run"))
    assert run.evaluation.mean_return >= least


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_pendulum_script_swings_it_up(seed, tmp_path):
    assert score_of("pendulum", seed, tmp_path) >= -200


@pytest.mark.slow
def test_the_breakout_script_plays_well(tmp_path):
    scores = [score_of("breakout", seed, tmp_path / str(seed)) for seed in range(2)]
    assert np.mean(scores) >= 15
