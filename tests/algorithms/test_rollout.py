"""Rollouts against a replay of the same environments in plain Python, one step at a time."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxdrl
from jaxdrl import PPOConfig
from jaxdrl.algorithms import rollout
from jaxdrl.config.settings import with_settings
from probe_environments import (
    action_reward,
    constant_reward,
    continuous_target,
    counter,
    delayed_reward,
    random_observation,
)

CONFIG = PPOConfig(num_envs=16, num_steps=8, num_epochs=1, num_minibatches=1, gamma=0.9)
# Half the time to compile.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
BOUNDS = np.array([-1.0, 0.0], np.float32), np.array([3.0, 1.0], np.float32)
SCENARIOS = {
    "cartpole": (
        partial(jaxdrl.make, "CartPole-v1", max_steps_in_episode=20),
        {"num_steps": 32},
    ),
    "counter": (
        partial(counter, 4),
        {"normalize_observations": True, "normalize_rewards": True},
    ),
    "continuous": (partial(continuous_target, *BOUNDS, (2,)), {"num_steps": 4}),
}


class Linear(nn.Module):
    """A network that is quick to compile and easy to repeat in NumPy."""

    num_outputs: int
    continuous: bool

    @nn.compact
    def __call__(self, obs):
        """`(policy outputs, value)`."""
        dense = partial(nn.Dense, kernel_init=nn.initializers.normal(0.5))
        outputs, value = dense(self.num_outputs, name="policy")(obs), dense(1, name="value")(obs)
        if self.continuous:
            log_std = self.param("log_std", nn.initializers.constant(-0.3), (self.num_outputs,))
            outputs = outputs, jnp.broadcast_to(log_std, outputs.shape)
        return outputs, value[:, 0]


@pytest.fixture(scope="module", params=SCENARIOS)
def recorded(request):
    """Two updates: the states, the trajectory and metrics of each, and the replay of both."""
    make, changes = SCENARIOS[request.param]
    env = make()
    config = with_settings(PPOConfig(), **{**vars(CONFIG), **changes})
    agent = jaxdrl.ppo(env, config, network=Linear(2, continuous=request.param == "continuous"))

    @jit
    def update(state):  # the train_step, with what lies between its halves
        actor, trajectory = agent.rollout(state.learner, state.actor)
        learner, metrics = agent.learn(state.learner, trajectory)
        state = state.replace(learner=learner, actor=actor)
        return map_keys(jax.random.key_data, actor), trajectory, state, metrics

    state = jit(agent.init)(jax.random.key(0))
    start, learners, trajectories, metrics = map_keys(jax.random.clone, state.actor), [], [], []
    for _ in range(2):
        learners.append(jax.device_get(state.learner.replace(key=None)))
        actor, trajectory, state, of_update = update(state)
        trajectories.append(jax.device_get(trajectory))
        metrics.append(jax.device_get(of_update))
    actions = np.concatenate([trajectory.action for trajectory in trajectories])
    return SimpleNamespace(
        config=config,
        learners=learners,
        actor=actor,
        trajectories=trajectories,
        metrics=metrics,
        replay=replay(env, config, start, actions),
    )


def map_keys(function, tree):
    """`tree` with `function` of its typed keys, for the key-reuse checker's sake."""

    def only_keys(x):
        return function(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    return jax.tree.map(only_keys, tree)


def replay(env, config, actor, actions):
    """Plays `actions [T, N]` from where `actor` stands, environment by environment.

    Gives arrays `[T, N, ...]`, and `keys [T, N, 2]` of the actions.
    """

    @jax.jit
    def one_step(key, env_state, action):
        next_key, action_key, step_key, reset_key = jax.random.split(key, 4)
        stepped = env.step(step_key, env_state, action, env.default_params)[:5]
        return next_key, jax.random.key_data(action_key), reset_key, stepped

    reset = jax.jit(partial(env.reset, params=env.default_params))
    columns = []
    for i in range(config.num_envs):
        start = (actor.key, actor.obs, actor.env_state)
        key, obs, env_state = jax.tree.map(lambda x, i=i: x[i], start)
        rows, episode_return, episode_length, discounted_return = [], 0.0, 0, 0.0
        for action in actions[:, i]:
            key, action_key, reset_key, stepped = one_step(key, env_state, to_env(action))
            final_obs, env_state, reward, terminated, truncated = stepped
            episode_return += float(reward)
            episode_length += 1
            discounted_return = float(reward) + config.gamma * discounted_return
            row = {
                "obs": obs,
                "final_obs": final_obs,
                "reward": reward,
                "terminated": terminated,
                "truncated": truncated,
                "episode_return": episode_return,
                "episode_length": episode_length,
                "discounted_return": discounted_return,
                "action_key": action_key,
            }
            rows.append({name: np.asarray(x) for name, x in row.items()})
            obs = final_obs
            if terminated or truncated:
                obs, env_state = reset(reset_key)
                episode_return, episode_length, discounted_return = 0.0, 0, 0.0
            rows[-1]["next_obs"] = np.asarray(obs)
        columns.append({name: np.stack([row[name] for row in rows]) for name in rows[0]})
    return {name: np.stack([column[name] for column in columns], 1) for name in columns[0]}


def to_env(action):
    """Continuous actions are in half-widths about the middle, and clipped to the bounds."""
    if action.dtype == np.int32:
        return action
    low, high = BOUNDS
    return np.clip((low + high) / 2 + (high - low) / 2 * action, low, high)


def network(learner, obs):
    """`(policy outputs, value)` of `obs [..., n]` in NumPy, double precision."""
    params = jax.tree.map(np.float64, learner.params)
    if learner.obs_statistics is not None:
        mean, variance = learner.obs_statistics.mean, learner.obs_statistics.variance
        obs = np.clip((obs - np.float64(mean)) / np.sqrt(np.float64(variance) + 1e-8), -10, 10)

    def dense(layer):
        return obs @ layer["kernel"] + layer["bias"]

    return dense(params["policy"]), dense(params["value"])[..., 0]


def updates(recorded):
    """`(learner, trajectory, replay)` of each of the two updates."""
    num_steps = recorded.config.num_steps
    for i, trajectory in enumerate(recorded.trajectories):
        part = {name: x[i * num_steps :][:num_steps] for name, x in recorded.replay.items()}
        yield recorded.learners[i], trajectory, part


close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)


def test_experience_is_that_of_the_replay(recorded):
    for _, trajectory, expected in updates(recorded):
        for name in ("terminated", "truncated", "episode_length"):
            np.testing.assert_array_equal(getattr(trajectory, name), expected[name], err_msg=name)
        for name in ("obs", "reward", "episode_return", "discounted_return"):
            close(getattr(trajectory, name), expected[name], err_msg=name)
        dtypes = (trajectory.reward.dtype, trajectory.terminated.dtype, trajectory.truncated.dtype)
        assert dtypes == (np.float32, np.bool, np.bool)
        assert trajectory.episode_length.dtype == np.int32
    ended = recorded.replay["terminated"] | recorded.replay["truncated"]
    assert ended.any(axis=0).all()  # every environment began at least a second episode
    assert np.isfinite(recorded.replay["reward"]).all()  # the actions kept to their bounds


def test_both_kinds_of_end_occur(recorded):
    assert recorded.replay["terminated"].sum() > 5
    assert recorded.replay["truncated"].sum() > 5 or recorded.trajectories[0].action.ndim == 3


def test_episode_sums_in_the_metrics_are_those_of_the_replay(recorded):
    for metrics, (_, _, expected) in zip(recorded.metrics, updates(recorded), strict=True):
        ended = expected["terminated"] | expected["truncated"]
        close(metrics["episode_return_sum"], expected["episode_return"][ended].sum())
        assert metrics["episode_length_sum"] == expected["episode_length"][ended].sum()
        assert metrics["num_episodes"] == ended.sum() > 0


def test_actions_are_samples_of_the_policy_with_the_keys_of_the_environments(recorded):
    for learner, trajectory, expected in updates(recorded):
        outputs, _ = network(learner, trajectory.obs)
        keys = jax.random.wrap_key_data(expected["action_key"])
        if trajectory.action.dtype == np.int32:
            draw = jax.vmap(jax.vmap(jax.random.categorical))
            actions = draw(keys, jnp.asarray(outputs, jnp.float32))
            np.testing.assert_array_equal(trajectory.action, actions)
        else:
            draw = jax.vmap(jax.vmap(lambda key: jax.random.normal(key, (2,))))
            noise = np.asarray(draw(keys))
            close(trajectory.action, outputs + np.exp(learner.params["log_std"]) * noise)


def test_log_probabilities_and_values_are_those_of_the_network(recorded):
    for learner, trajectory, _ in updates(recorded):
        outputs, value = network(learner, trajectory.obs)
        close(trajectory.value, value)
        close(trajectory.log_prob, log_prob(learner, outputs, trajectory.action))


def log_prob(learner, outputs, action):
    if action.dtype == np.int32:
        log_total = np.log(np.exp(outputs).sum(axis=-1, keepdims=True))
        return np.take_along_axis(outputs - log_total, action[..., None], axis=-1)[..., 0]
    std = np.exp(np.float64(learner.params["log_std"]))
    density = np.exp(-0.5 * ((action - outputs) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    return np.log(density).sum(axis=-1)


def test_next_values_are_those_of_the_true_successors(recorded):
    for learner, trajectory, expected in updates(recorded):
        # Where an episode was truncated the successor is its final observation, elsewhere what
        # the policy saw next; after the last step that is what the actor holds.
        truncated = expected["truncated"]
        successor = np.where(truncated[..., None], expected["final_obs"], expected["next_obs"])
        _, value = network(learner, successor)
        matters = ~expected["terminated"]
        close(trajectory.next_value[matters], value[matters])
        assert matters[-1].any() or trajectory.action.ndim == 3
        inside = matters[:-1] & ~truncated[:-1]
        np.testing.assert_array_equal(
            trajectory.next_value[:-1][inside], trajectory.value[1:][inside]
        )


def test_final_and_next_observations_differ_enough_to_tell(recorded):
    """Else the test above would not notice which of them was taken."""
    for learner, trajectory, expected in updates(recorded):
        truncated = expected["truncated"]
        if truncated.any():
            _, final = network(learner, expected["final_obs"])
            _, following = network(learner, expected["next_obs"])
            assert (np.abs(final - following)[truncated] > 1e-4).mean() > 0.9
            assert trajectory.next_value.std() > 1e-2


def test_the_actor_is_left_where_the_replay_is(recorded):
    actor, last = recorded.actor, {name: x[-1] for name, x in recorded.replay.items()}
    ended = last["terminated"] | last["truncated"]
    np.testing.assert_array_equal(actor.episode_start, ended)
    close(actor.obs, last["next_obs"])
    for name in ("episode_return", "episode_length", "discounted_return"):
        close(getattr(actor, name), np.where(ended, 0, last[name]), err_msg=name)


# A hand-made network with a memory: it counts the observations of the episode.


def apply_counting(carry, obs, episode_start):
    carry = jnp.where(episode_start, jnp.zeros_like(carry), carry) + 1
    return 100.0 * carry.astype(jnp.float32) + obs[:, 0], carry


def test_final_values_come_from_the_memory_and_only_where_truncated():
    env, num_envs, num_steps, limit = counter(5), 24, 12, 5
    evaluated = []

    def decide(carry, obs, episode_start, keys):
        value, carry = apply_counting(carry, obs, episode_start)
        action = jax.vmap(env.action_space.sample)(keys)
        return rollout.Decision(action, action, jnp.zeros_like(value), value, carry)

    def value_of(carry, obs, episode_start):
        jax.debug.callback(lambda x: evaluated.append(len(x)), obs)
        return apply_counting(carry, obs, episode_start)[0]

    @jit
    def run(keys):
        actor = rollout.init_actor(env, partial(jnp.zeros, dtype=jnp.int32), keys)
        return rollout.collect(env, decide, value_of, actor, num_steps=num_steps, gamma=0.9)

    actor, trajectory = jax.device_get(run(jax.random.split(jax.random.key(0), num_envs)))
    jax.effects_barrier()
    length = trajectory.episode_length
    close(trajectory.value, 100.0 * length + (length - 1) / limit)
    close(trajectory.obs[..., 0], (length - 1) / limit)
    successor = 100.0 * (length + 1) + length / limit
    ended = trajectory.terminated | trajectory.truncated
    truncated = trajectory.truncated
    close(trajectory.next_value[truncated], successor[truncated])
    close(trajectory.next_value[~ended], successor[~ended])
    np.testing.assert_array_equal(actor.carry, length[-1])
    # One pass over all for what follows the last step, and chunks of 8 of the truncated ones.
    per_step = truncated.sum(axis=1)
    assert truncated.any()
    assert (per_step == 0).any() or per_step.max() > 8
    chunks = int(np.ceil(per_step / 8).sum())
    assert sorted(evaluated) == [8] * chunks + [num_envs]


def test_a_truncated_episode_bootstraps_and_a_terminated_one_does_not_matter():
    """Every value is the index of the lit time, so the successor can be read off."""

    def value_of(carry, obs, episode_start):
        del carry, episode_start
        return jnp.argmax(obs, axis=-1).astype(jnp.float32) + 1.0

    def decide(carry, obs, episode_start, keys):
        action = jax.random.key_data(keys)[:, 0].astype(jnp.int32)
        value = value_of(carry, obs, episode_start)
        return rollout.Decision(action, action, jnp.zeros_like(value), value, carry)

    env = constant_reward(3, "truncated")

    @jit
    def run(keys):
        actor = rollout.init_actor(env, lambda num_envs: (), keys)
        return rollout.collect(env, decide, value_of, actor, num_steps=5, gamma=0.5)

    _, trajectory = jax.device_get(run(jax.random.split(jax.random.key(0), 2)))
    assert trajectory.value[:, 0].tolist() == [1, 2, 3, 1, 2]
    assert trajectory.next_value[:, 0].tolist() == [2, 3, 1, 2, 3]
    assert trajectory.truncated[:, 0].tolist() == [False, False, True, False, False]
    assert trajectory.discounted_return[:, 0].tolist() == [1, 1.5, 1.75, 1, 1.5]


def test_each_environment_starts_from_the_key_it_is_given():
    env, keys = counter(5), jax.random.split(jax.random.key(0), 8)
    init = jit(partial(rollout.init_actor, env, lambda num_envs: ()))
    actor, of_some = init(keys), init(jax.random.clone(keys)[jnp.array([6, 1])])
    np.testing.assert_array_equal(of_some.obs, actor.obs[jnp.array([6, 1])])
    key_data = [jax.random.key_data(x) for x in (keys, actor.key, actor.env_state.key)]
    assert len(np.unique(np.concatenate(key_data), axis=0)) == 3 * 8  # none is used twice
    assert len(np.unique(actor.env_state.draw)) == 8
    assert actor.episode_start.all()
    for zero in (actor.episode_return, actor.episode_length, actor.discounted_return):
        assert not zero.any()


# What does not depend on the random numbers is the same on all devices, and its type says so.
CONSTANTS = {
    "obs at reset": delayed_reward,
    "obs and flags": action_reward,
    "flags": random_observation,
    "reward": partial(constant_reward, 3, "truncated"),
    "loop inside": partial(jaxdrl.make, "Asterix-MinAtar"),
    "bandit": partial(jaxdrl.make, "SimpleBandit-bsuite"),
    "time limit": lambda: jaxdrl.time_limit(action_reward(), 3),
}


@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize("make", CONSTANTS.values(), ids=CONSTANTS)
def test_constants_in_an_environment_do_not_hinder_a_mesh(make, reproducible):
    config = with_settings(PPOConfig(), **{**vars(CONFIG), "reproducible": reproducible})
    agent = jaxdrl.ppo(make(), config, mesh=jaxdrl.make_mesh(8))
    state = jax.eval_shape(agent.init, jax.eval_shape(lambda: jax.random.key(0)))
    after, trajectory = jax.eval_shape(agent.rollout, state.learner, state.actor)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state.actor
    )
    assert trajectory.reward.shape == (8, 16)
