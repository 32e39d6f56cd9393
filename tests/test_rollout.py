"""Rollouts against a replay of the same environments in plain Python, one step at a time."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from jaxdrl import PPOConfig, rollout
from probe_environments import constant_reward, continuous_target, counter

CONFIG = PPOConfig(
    num_envs=16, num_steps=8, num_epochs=1, num_minibatches=1, hidden_sizes=(8,), gamma=0.9
)
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


@pytest.fixture(scope="module", params=SCENARIOS)
def recorded(request):
    """Two updates: the states, the trajectory and metrics of each, and the replay of both."""
    make, changes = SCENARIOS[request.param]
    env = make()
    config = PPOConfig(**{**vars(CONFIG), **changes})
    agent = jaxdrl.ppo(env, config)
    collect, train_step = jax.jit(agent.rollout), jax.jit(agent.train_step)
    states, actors, trajectories, metrics = [jax.jit(agent.init)(jax.random.key(0))], [], [], []
    for _ in range(2):
        after, trajectory = collect(clone(states[-1]))
        actors.append(after.actor)
        trajectories.append(jax.device_get(trajectory))
        state, of_update = train_step(clone(states[-1]))
        states.append(state)
        metrics.append(jax.device_get(of_update))
    learners = [jax.device_get(state.learner.replace(key=())) for state in states]
    actions = np.concatenate([trajectory.action for trajectory in trajectories])
    return SimpleNamespace(
        config=config,
        learners=learners,
        actor=actors[-1],
        trajectories=trajectories,
        metrics=metrics,
        replay=replay(env, config, actions),
    )


def clone(state):
    """The same state for the key-reuse checker to see as another one."""

    def copy(x):
        return jax.random.clone(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    return jax.tree.map(copy, state)


def replay(env, config, actions):
    """Plays `actions [T, N]` as `rollout.py` says, environment by environment.

    Gives arrays `[T, N, ...]`, and `keys [T, N, 2]` of the actions.
    """

    @jax.jit
    def one_step(key, env_state, action):
        next_key, action_key, step_key, reset_key = jax.random.split(key, 4)
        stepped = env.step(step_key, env_state, action, env.default_params)[:5]
        return next_key, jax.random.key_data(action_key), reset_key, stepped

    reset = jax.jit(partial(env.reset, params=env.default_params))
    _, env_key, _ = jax.random.split(jax.random.key(0), 3)
    columns = []
    for i in range(config.num_envs):
        key, reset_key = jax.random.split(jax.random.fold_in(jax.random.clone(env_key), i))
        obs, env_state = reset(reset_key)
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

    def dense(layer, x):
        return x @ layer["kernel"] + layer["bias"]

    outputs = dense(params["policy"], np.tanh(dense(params["actor"]["Dense_0"], obs)))
    value = dense(params["value"], np.tanh(dense(params["critic"]["Dense_0"], obs)))
    return outputs, value[..., 0]


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
            close(trajectory.action, outputs + np.exp(learner.params["log_std"]) * draw(keys))


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

    @jax.jit
    def run(key):
        env_ids = jnp.arange(num_envs, dtype=jnp.int32)
        zeros = partial(jnp.zeros, dtype=jnp.int32)
        actor = rollout.init_actor(env, zeros, key, env_ids)
        return rollout.collect(env, decide, value_of, actor, num_steps=num_steps, gamma=0.9)

    actor, trajectory = jax.device_get(run(jax.random.key(0)))
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

    env, env_ids = constant_reward(3, "truncated"), jnp.arange(2, dtype=jnp.int32)
    actor = rollout.init_actor(env, lambda num_envs: (), jax.random.key(0), env_ids)
    _, trajectory = jax.jit(
        partial(rollout.collect, env, decide, value_of, num_steps=5, gamma=0.5)
    )(actor)
    assert trajectory.value[:, 0].tolist() == [1, 2, 3, 1, 2]
    assert trajectory.next_value[:, 0].tolist() == [2, 3, 1, 2, 3]
    assert trajectory.truncated[:, 0].tolist() == [False, False, True, False, False]
    assert trajectory.discounted_return[:, 0].tolist() == [1, 1.5, 1.75, 1, 1.5]


def test_environments_depend_on_their_global_index_alone():
    env, key = counter(5), jax.random.key(0)
    init = jax.jit(partial(rollout.init_actor, env, lambda num_envs: ()))
    everyone = init(key, jnp.arange(8, dtype=jnp.int32))
    some = init(jax.random.clone(key), jnp.array([6, 1], jnp.int32))
    np.testing.assert_array_equal(some.obs, everyone.obs[jnp.array([6, 1])])
    key_data = jax.random.key_data(everyone.key)
    np.testing.assert_array_equal(jax.random.key_data(some.key), key_data[np.array([6, 1])])
    assert len(np.unique(key_data, axis=0)) == 8
    assert everyone.episode_start.all()
