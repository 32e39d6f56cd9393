"""Agents that learn together: each is a row of the batch."""

from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from jaxdrl import IMPALAConfig, PPOConfig, PQNConfig
from jaxdrl.algorithms.build import build
from jaxdrl.config.algorithms import ALGORITHMS
from jaxdrl.config.settings import with_settings
from jaxdrl.core.returns import gae
from jaxdrl.errors import ConfigError
from jaxdrl.runs.metrics_log import sha256
from probe_agents import last_move_wins, team
from probe_environments import action_reward

SMALL = {"num_envs": 16, "num_steps": 10, "num_minibatches": 2, "hidden_sizes": (8,)}
PPO = with_settings(PPOConfig(), **SMALL, num_epochs=2)


def with_a_ghost():
    """Its last agent is never alive, so that its rewards are in the advantage of no other step."""
    return team(dies_after=0)


@lru_cache
def made(config=PPO, env=team, num_devices=None):
    mesh = None if num_devices is None else jaxdrl.make_mesh(num_devices)
    return build(env(), config, mesh=mesh)


@lru_cache
def rolled_out(config=PPO, env=team):
    """`(algorithm, learner, trajectory)` of the first rollout."""
    algorithm = made(config, env)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    _, trajectory = jax.jit(algorithm.rollout)(state.learner, state.actor)
    return algorithm, state.learner, trajectory


def learned(algorithm, learner, trajectory):
    """`(learner, metrics)`; each call has a key of its own with the same bits."""
    learn = jax.jit(algorithm.learn)
    return learn(replace(learner, key=jax.random.key(5)), jax.tree.map(jnp.asarray, trajectory))


def by_agent(x, num_agents):
    """`[T, N * A, ...]` as `[T, N, A, ...]`."""
    return np.asarray(x).reshape(x.shape[0], -1, num_agents, *x.shape[2:])


def test_the_rows_of_an_environment_are_its_agents():
    _, _, trajectory = rolled_out()
    obs = by_agent(trajectory.obs, 3)
    assert obs.shape == (10, 16, 3, 11)
    np.testing.assert_array_equal(obs[..., :3], np.broadcast_to(np.eye(3), (10, 16, 3, 3)))
    drawn = obs[..., 9]
    assert (drawn == drawn[:, :, :1]).all()
    assert len(np.unique(drawn)) == 32  # two episodes each


def test_every_agent_draws_actions_and_is_paid_by_itself():
    _, _, trajectory = rolled_out()
    action, reward = (by_agent(x, 3) for x in (trajectory.action, trajectory.reward))
    alive = by_agent(trajectory.obs, 3)[..., -1] > 0
    np.testing.assert_array_equal(reward, alive & (action == np.arange(3) % 2))
    assert 0.3 < (action[..., 0] == action[..., 1]).mean() < 0.7


def test_an_episode_begins_and_ends_for_all_agents():
    _, _, trajectory = rolled_out()
    for name in ("episode_start", "truncated", "terminated", "episode_length"):
        flags = by_agent(getattr(trajectory, name), 3)
        assert (flags == flags[:, :, :1]).all()
    truncated = by_agent(trajectory.truncated, 3)[:, 0, 0]
    np.testing.assert_array_equal(np.flatnonzero(truncated), [4, 9])


def test_a_truncated_team_bootstraps_from_the_last_observation_of_each_agent():
    algorithm, learner, trajectory = rolled_out()
    final = np.array(trajectory.obs[4])
    final[:, 3:9] = np.eye(6)[5]  # the time after the last step, which is in no other observation
    value_of = algorithm.acting.value_of
    expected = value_of(learner, (), jnp.asarray(final), jnp.zeros(48, jnp.bool))
    np.testing.assert_allclose(trajectory.next_value[4], expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(trajectory.next_value[4], trajectory.value[5], atol=1e-3)


def test_memory_is_reset_by_the_episode_and_not_by_a_death():
    algorithm, learner, trajectory = rolled_out(with_settings(PPO, memory="gru", memory_size=4))
    carry, values = algorithm.policy.initial_carry(48), []
    for t in range(10):
        start = jnp.full(48, t in (0, 5))  # the last agent dies after 2 steps of 5
        keys = jax.random.split(jax.random.key(t), 48)
        decision = algorithm.acting.decide(learner, carry, trajectory.obs[t], start, keys)
        carry = decision.carry
        values.append(decision.value)
    np.testing.assert_allclose(trajectory.value, values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        PPO,
        with_settings(PPO, standardize_advantages=False, target_kl=1.0),
        with_settings(PPO, correction="vtrace"),
        with_settings(IMPALAConfig(), **SMALL),
    ],
    ids=["ppo", "not-standardised", "corrected", "impala"],
)
def test_the_policy_does_not_learn_from_inactive_agents(config):
    """Without a loss of the value, what they do and what it brings changes no bit of the params."""
    config = with_settings(config, value_coef=0.0)
    algorithm, learner, trajectory = rolled_out(config, with_a_ghost)
    inactive = np.asarray(trajectory.obs[..., -1]) == 0
    assert np.isclose(inactive.mean(), 1 / 3)
    params = sha256(learned(algorithm, learner, trajectory)[0].params)

    def params_of_others(of):
        changed = replace(
            trajectory,
            action=np.where(of, 1 - trajectory.action, trajectory.action),
            log_prob=np.where(of, np.float32(-2.0), trajectory.log_prob),
            reward=np.where(of, np.float32(7.0), trajectory.reward),
        )
        return sha256(learned(algorithm, learner, changed)[0].params)

    assert params_of_others(inactive) == params
    assert params_of_others(~inactive) != params


def test_the_value_learns_from_inactive_agents():
    algorithm, learner, trajectory = rolled_out(PPO)
    inactive = trajectory.obs[..., -1] == 0
    paid = replace(trajectory, reward=jnp.where(inactive, 7.0, trajectory.reward))
    _, metrics = learned(algorithm, learner, trajectory)
    _, of_paid = learned(algorithm, learner, paid)
    assert of_paid["value_loss"] > metrics["value_loss"] + 1.0


def test_agents_without_influence_on_each_other_learn_as_that_many_environments():
    single = action_reward()

    def reset(key, params):
        return jax.vmap(single.reset, (0, None))(jax.random.split(key, 3), params)

    def step(key, env_state, action, params):
        mapped = jax.vmap(single.step, (0, 0, 0, None))
        obs, env_state, reward, terminated, truncated, _ = mapped(
            jax.random.split(key, 3), env_state, action, params
        )
        return obs, env_state, reward, terminated.any(), truncated.any(), {}

    together = single._replace(reset=reset, step=step, num_agents=3)
    config = with_settings(PPO, num_envs=8)
    algorithm = build(together, config)
    alone = build(single, with_settings(config, num_envs=24))
    state = jax.jit(algorithm.init)(jax.random.key(0))
    _, trajectory = jax.jit(algorithm.rollout)(state.learner, state.actor)
    learner, metrics = learned(algorithm, state.learner, trajectory)
    expected, of_alone = learned(alone, state.learner, trajectory)
    assert sha256(learner) == sha256(expected)
    assert metrics["num_episodes"] * 3 == of_alone["num_episodes"]
    np.testing.assert_allclose(metrics["episode_return_sum"] * 3, of_alone["episode_return_sum"])
    ended = np.asarray(trajectory.terminated | trajectory.truncated)
    returns = by_agent(np.where(ended, trajectory.episode_return, 0.0), 3).sum(axis=(0, 1))
    np.testing.assert_allclose([metrics[f"agent_{i}_return_sum"] for i in range(3)], returns)


def test_the_last_move_of_the_loser_gets_its_loss_in_a_game_of_turns():
    """Three moves; agent 0 makes the first and the last, and wins. Worked out by hand."""
    _, _, trajectory = rolled_out(PPO, last_move_wins)
    reward = by_agent(trajectory.reward, 2)[:3, 0]
    np.testing.assert_array_equal(reward, [[0, 0], [0, 0], [1, -1]])
    zeros = jnp.zeros_like(trajectory.reward)
    flags = (trajectory.terminated, trajectory.truncated)
    advantage = gae(trajectory.reward, zeros, zeros, *flags, gamma=0.5, gae_lambda=1.0)
    found = by_agent(advantage, 2)[:3, 0]
    # Agent 0 moves at times 0 and 2, agent 1 at time 1: its loss follows one step later.
    np.testing.assert_allclose(found, [[0.25, -0.25], [0.5, -0.5], [1.0, -1.0]])
    on_turn = by_agent(trajectory.obs, 2)[:3, 0, :, 0]
    np.testing.assert_array_equal(on_turn, [[1, 0], [0, 1], [1, 0]])
    waiting = by_agent(trajectory.action, 2)[:3, 0][on_turn == 0]
    np.testing.assert_array_equal(waiting, 0)


def test_q_learning_works_with_agents_too():
    config = with_settings(PQNConfig(), **SMALL)
    algorithm = build(team(), config)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    _, metrics = jax.jit(algorithm.train_step)(state)
    assert metrics["num_episodes"] == 32
    assert np.isfinite(metrics["td_loss"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_agents": 4}, r"array of shape \(3, 11\), but num_agents = 4; stack"),
        ({"num_agents": 0}, "num_agents = 0; must be an integer of at least 1"),
        ({"num_agents": 2.0}, r"num_agents = 2\.0; must be an integer"),
        ({"num_agents": None}, "active is set, but num_agents is None; say how many"),
        ({"active": lambda obs: obs["alive"]}, "active cannot be computed from the observation"),
        ({"active": lambda obs: obs[:2] > 0}, r"active has shape \(2,\) .* scalar of bool"),
        ({"active": lambda obs: obs[0]}, "active has shape .* float32; must be a scalar of bool"),
        ({"action_mask": lambda obs: obs["mask"]}, "action_mask cannot be computed from"),
    ],
)
def test_bad_agents_are_refused(change, words):
    with pytest.raises(ConfigError, match=f"^team: .*{words}"):
        build(team()._replace(**change), PPO)


def test_agents_whose_observations_have_other_shapes_are_refused():
    env = team()

    def reset(key, params):
        obs, env_state = env.reset(key, params)
        return (obs[0], obs[1, :4], obs[2]), env_state

    with pytest.raises(ConfigError, match=r"stack the observations of all agents .*\[3, ...\]"):
        build(env._replace(reset=reset), PPO)


def test_a_reward_for_all_agents_together_is_refused():
    env = team()

    def step(*args):
        obs, env_state, reward, *rest = env.step(*args)
        return obs, env_state, reward.sum(), *rest

    with pytest.raises(
        ConfigError, match=r"reward has shape \(\) .*\[3\], a number for each agent"
    ):
        build(env._replace(step=step), PPO)


@pytest.mark.parametrize("algorithm", ["dqn", "sac", "td3"])
def test_algorithms_with_a_replay_buffer_refuse_several_agents(algorithm):
    with pytest.raises(ConfigError, match=r"num_agents = 3: .*take ppo, impala or pqn"):
        build(team(), ALGORITHMS[algorithm]())
