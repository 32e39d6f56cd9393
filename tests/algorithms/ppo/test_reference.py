"""Whole updates of PPO, sharded over a mesh, against the NumPy of `ppo_reference.py`.

Everything that can bind does, and is seen to: what is clipped, stopped or standardised, and each of
the small numbers that keep a division finite.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdrl
import ppo_reference as reference
from jaxdrl import PPOConfig
from jaxdrl.config.settings import with_settings
from jaxdrl.core.running_statistics import RunningStatistics
from jaxdrl.core.spaces import Box, Dict, Discrete, MultiDiscrete
from jaxdrl.core.types import Network, Transition
from jaxdrl.envs.protocol import Environment
from jaxdrl.networks.build import make_network

TINY = 1e-4  # whose square is the epsilon of a variance


def adam_of(learner):
    """`(count, mu, nu)` of jaxdrl's own optimiser."""
    count, mu, nu = (optax.tree.get(learner.opt_state, name) for name in ("count", "mu", "nu"))
    return int(count), np.float64(mu), np.float64(nu)


def with_past(state, mean, variance):
    """Statistics of 40 observations with these moments, and of 40 tiny returns.

    Whatever starts at a variance of 1 has lost the digits of a tiny one.
    """
    past = jnp.float32(40.0)
    obs = RunningStatistics(past, mean, variance)
    returns = RunningStatistics(past, jnp.float32(0.3 * TINY), jnp.float32(0.5 * TINY**2))
    learner = replace(state.learner, obs_statistics=obs, return_statistics=returns)
    return replace(state, learner=learner)


def assert_same(learner, metrics, expected, before):
    """An update of jaxdrl's is the reference's, to what float32 rounds to."""
    params, start = reference.as_vector(learner.params), reference.as_vector(before)
    moved = np.abs(expected.params - start).max()
    np.testing.assert_allclose(params, expected.params, rtol=0, atol=1e-4 * moved)
    count, mu, nu = adam_of(learner)
    assert count == expected.count
    np.testing.assert_allclose(mu, expected.mu, rtol=0, atol=1e-4 * np.abs(expected.mu).max())
    np.testing.assert_allclose(nu, expected.nu, rtol=0, atol=1e-4 * np.abs(expected.nu).max())
    for name in ("obs", "return"):
        ours = reference.moments(getattr(learner, f"{name}_statistics"))
        theirs = getattr(expected, f"{name}_moments")
        assert ours.count == theirs.count
        for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-12)
    assert metrics.keys() == expected.metrics.keys()
    for name, value in expected.metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


# Continuous actions and a dictionary of observations, in experience that is made up.

OBSERVATIONS = Dict({"kind": Discrete(3), "x": Box(-1e3, 1e3, (2,))})


def idle_environment():
    """Only its spaces matter."""

    def reset(key, params):
        del params
        obs = {"kind": jnp.zeros((), jnp.int32), "x": jax.random.normal(key, (2,))}
        return obs, jnp.zeros((), jnp.int32)

    def step(key, state, action, params):
        del params
        no, reward = jnp.zeros((), jnp.bool), action.sum()
        return reset(key, ())[0], state, reward, no, no, {}

    return Environment("idle", reset, step, OBSERVATIONS, Box(-1.0, 1.0, (2,)))


def small_network():
    def init(key, obs):
        del obs
        keys = jax.random.split(key, 3)
        return {
            "hidden": 0.5 * jax.random.normal(keys[0], (5, 6)),
            "log_std": jnp.full(2, -0.5),
            "mean": 0.5 * jax.random.normal(keys[1], (6, 2)),
            "value": 0.5 * jax.random.normal(keys[2], (6, 1)),
        }

    def apply(params, carry, obs, start):
        del start
        hidden = jnp.tanh(jnp.concatenate([obs["kind"], obs["x"]], axis=1) @ params["hidden"])
        mean = hidden @ params["mean"]
        log_std = jnp.broadcast_to(params["log_std"][None], mean.shape)
        return (mean, log_std), (hidden @ params["value"])[:, 0], carry

    return Network(lambda num_envs: (), init, apply)


def of_normal(outputs, obs, action):
    """Log-density and entropy of a normal with independent parts."""
    mean, log_std = outputs
    density = -((action - mean) ** 2) / (2.0 * jnp.exp(2.0 * log_std)) - log_std
    constant = 0.5 * np.log(2.0 * np.pi)
    return (density - constant).sum(axis=-1), (log_std + constant + 0.5).sum(axis=-1)


def prepare(obs):
    return {"kind": np.eye(3)[obs["kind"]], "x": obs["x"].astype(np.float64)}


CONTINUOUS = with_settings(
    PPOConfig(),
    num_envs=16,
    num_steps=8,
    num_shards=4,
    num_epochs=3,
    num_minibatches=4,
    learning_rate=0.03,
    final_learning_rate=0.004,
    anneal_env_steps=800.0,
    adam_epsilon=0.02,
    gamma=0.9,
    gae_lambda=0.8,
    clip_epsilon=0.2,
    value_clip_epsilon=0.15,
    value_coef=0.7,
    entropy_coef=0.03,
    max_grad_norm=0.8,
    normalize_observations=True,
    observation_clip=1.5,
    normalize_rewards=True,
    reward_clip=1.2,
    target_kl=1e3,
)
FLOATS = ("learning_rate", "target_kl")


def made_up(problem, learner, seed):
    """Experience `[8, 16]` of which minibatch 2 of the first epoch has the same advantages
    throughout, and minibatch 3 some whose deviation is the epsilon of their standardisation."""
    rng = np.random.default_rng(seed)
    shape = (CONTINUOUS.num_steps, CONTINUOUS.num_envs)
    x = rng.normal([0.3, TINY], [1.0, TINY], (*shape, 2)).astype(np.float32)
    x[rng.random(shape) < 0.1, 0] *= 6.0
    obs = {"kind": rng.choice(3, shape, p=[0.5, 0.3, 0.2]).astype(np.int32), "x": x}
    seen = reference.normalized(prepare(obs), reference.moments(learner.obs_statistics), 1.5)
    flat = jax.tree.map(lambda x: np.float32(x.reshape(-1, x.shape[-1])), seen)
    (mean, log_std), value, _ = problem.apply(learner.params, (), flat, None)
    action = mean + jnp.exp(log_std) * rng.normal(size=mean.shape).astype(np.float32)
    log_prob = problem.log_prob_and_entropy((mean, log_std), None, action)[0].reshape(shape)
    value = value.reshape(shape)

    def near(x, deviation):
        return np.float32(np.asarray(x) + deviation * rng.normal(size=shape))

    columns = {
        "log_prob": near(log_prob, 0.15),
        "value": near(value, 0.3),
        "next_value": near(0.5 * value, 0.3),
        "reward": near(0.0, TINY) * np.where(rng.random(shape) < 0.2, 5.0, 1.0).astype(np.float32),
        "discounted_return": near(TINY, TINY),
        "episode_return": near(2.0, 3.0),
        "terminated": rng.random(shape) < 0.1,
        "truncated": rng.random(shape) < 0.1,
    }
    columns["truncated"] &= ~columns["terminated"]
    key = jax.random.split(jax.random.split(jax.random.clone(learner.key))[0])[0]
    parts = reference.minibatches(CONTINUOUS, key, 1)
    for part, size in ((parts[2], 0.0), (parts[3], 1e-8)):
        columns["terminated"][part], columns["truncated"][part] = True, False
        columns["value"][part] = 0.0
        columns["reward"][part] = rng.choice([-size, size], len(part[0])) * TINY
    return Transition(
        obs=obs,
        action=np.reshape(action, (*shape, 2)),
        episode_length=rng.integers(1, 9, shape).astype(np.int32),
        episode_start=np.zeros(shape, bool),
        carry=(),
        **columns,
    )


@pytest.fixture(scope="module")
def continuous():
    """`(problem, gradient, learn, states, trajectories)`: two updates, the second of which counts.

    The first gives the statistics and Adam a past.
    """
    env, network = idle_environment(), small_network()
    problem = reference.Problem(network.apply, prepare, of_normal)
    mesh = jaxdrl.make_mesh(2)

    def agent(floats):
        return jaxdrl.ppo(env, with_settings(CONTINUOUS, **floats), network=network, mesh=mesh)

    learn = jax.jit(lambda learner, trajectory, floats: agent(floats).learn(learner, trajectory))
    state = jax.jit(agent({}).init)(jax.random.key(0))
    mean = {"kind": jnp.array([0.3, 0.3, 0.4]), "x": jnp.array([0.1, 0.5 * TINY])}
    variance = {"kind": jnp.full(3, 0.2), "x": jnp.array([0.8, 0.5 * TINY**2])}
    state = with_past(state, mean, variance)
    gradient_of = reference.make_loss(problem)

    def update(state, trajectory, **floats):
        key = jax.random.clone(state.learner.key)  # which is used more than once here
        state = replace(state, learner=replace(state.learner, key=key))
        config = with_settings(CONTINUOUS, **floats)
        floats = {name: jnp.float32(getattr(config, name)) for name in FLOATS}
        start = state.learner
        learner, metrics = learn(start, trajectory, floats)
        expected = reference.update(problem, gradient_of, config, start, adam_of(start), trajectory)
        return replace(state, learner=learner), metrics, expected

    return problem, state, update


@pytest.fixture(scope="module")
def second(continuous):
    """`(state, trajectory)` before the second update."""
    problem, state, update = continuous
    trajectory = made_up(problem, state.learner, 0)
    after, metrics, expected = update(state, trajectory)
    assert_same(after.learner, metrics, expected, state.learner.params)
    return after, made_up(problem, after.learner, 1)


def test_an_update_is_that_of_the_reference(continuous, second):
    state, trajectory = second
    after, metrics, expected = continuous[2](state, trajectory)
    for name, share in expected.bound.items():
        assert 0.02 < share < 0.98, name
    np.testing.assert_allclose(expected.deviations[2:4], [0.0, 1e-8], rtol=0.5)
    assert len(expected.kls) == 3
    assert_same(after.learner, metrics, expected, state.learner.params)
    assert after.learner.num_updates == 2


@pytest.mark.parametrize(("share", "num_epochs"), [(0.98, 1), (1.02, 2)])
def test_epochs_end_after_the_first_whose_mean_kl_exceeds_the_target(
    continuous, second, share, num_epochs
):
    state, trajectory = second
    kls = np.array(continuous[2](state, trajectory)[2].kls)
    assert kls[0].min() < 0.98 * kls[0].mean() < 1.02 * kls[0].mean() < kls[0].max()
    assert kls[1].mean() > 1.02 * kls[0].mean()
    target = share * kls[0].mean()
    after, metrics, expected = continuous[2](state, trajectory, target_kl=target)
    assert len(expected.kls) == num_epochs
    assert_same(after.learner, metrics, expected, state.learner.params)


def test_steps_that_see_a_bad_observation_are_left_out_and_no_others(continuous, second):
    state, trajectory = second
    obs = {**trajectory.obs, "x": trajectory.obs["x"].copy()}
    obs["x"][3, 5, 0] = np.nan
    after, metrics, expected = continuous[2](state, replace(trajectory, obs=obs))
    assert expected.metrics["skipped_steps"] == 3  # one of the four of each epoch
    assert_same(after.learner, metrics, expected, state.learner.params)


# Discrete actions of two parts under a mask, and a memory; experience is the rollout's.

PARTS = (2, 3)


def dynamics(obs, action):
    """`(obs, reward, terminated, truncated)` after `action` where `obs` was seen."""
    phase, time = obs[2] + 0.3 * action[0] - 0.2 * action[1] + 0.15, obs[3] + 1.0
    terminated = jnp.sin(7.0 * phase) > 0.8
    reward = TINY * jnp.sin(3.0 * phase) * (1.0 + 3.0 * action[0])
    return observe(phase, time), reward, terminated, (time >= 3.0) & ~terminated


def observe(phase, time):
    return jnp.stack([TINY * jnp.sin(phase), 10.0 * jnp.cos(phase), phase, time])


def allowed(obs):
    """A mask of 2 + 3 choices; of the first two, none at times."""
    return jnp.stack([obs[1] > -4.0, obs[1] > 0.0, obs[0] < 0.0, obs[0] < 2.0, obs[0] >= 0.0])


def masked_environment():
    def reset(key, params):
        del params
        obs = observe(jax.random.uniform(key, (), minval=-3.0, maxval=3.0), jnp.float32(0.0))
        return obs, obs

    def step(key, obs, action, params):
        del key, params
        obs, reward, terminated, truncated = dynamics(obs, action.astype(jnp.float32))
        return obs, obs, reward, terminated, truncated, {}

    space = Box(-1e3, 1e3, (4,))
    return Environment(
        "line", reset, step, space, MultiDiscrete(PARTS), action_mask=allowed, max_episode_steps=3
    )


def of_choices(outputs, obs, action):
    """Log-probability and entropy of two choices, from 2 + 3 logits, under `allowed`."""
    log_prob, entropy, start = 0.0, 0.0, 0
    flags = jax.vmap(allowed)(obs.reshape(-1, 4)).reshape(outputs.shape)
    for i, size in enumerate(PARTS):
        part, here = outputs[..., start : start + size], flags[..., start : start + size]
        weights = jnp.where(here | ~here.any(axis=-1, keepdims=True), jnp.exp(part), 0.0)
        share = weights / weights.sum(axis=-1, keepdims=True)
        chosen = jax.nn.one_hot(action[..., i], size, dtype=jnp.float32)
        log_prob += jnp.log((share * chosen).sum(axis=-1))
        entropy -= (share * jnp.log(jnp.maximum(share, 1e-30))).sum(axis=-1)
        start += size
    return log_prob, entropy


DISCRETE = with_settings(
    CONTINUOUS,
    num_steps=4,
    num_epochs=2,
    num_minibatches=2,
    hidden_sizes=(8,),
    clip_epsilon=0.03,
    max_grad_norm=0.3,
    observation_clip=1.2,
    target_kl=None,
)


MEMORY = {"memory": "gru", "memory_size": 6, "sequence_length": 2, "num_accumulation_steps": 2}
VTRACE = {"correction": "vtrace", "rho_clip": 1.1, "c_clip": 0.9}


@pytest.mark.parametrize(
    "changes",
    [
        MEMORY,
        MEMORY | VTRACE,
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param(VTRACE, marks=pytest.mark.slow),
    ],
    ids=["gru", "gru of old data", "feed-forward", "feed-forward of old data"],
)
def test_a_rollout_and_its_update_are_those_of_the_reference(changes):
    """With V-trace, of a rollout that another policy than the learner's acted in."""
    env, config = masked_environment(), with_settings(DISCRETE, **changes)
    network = make_network(env.observation_space, env.action_space, config.network)
    length = config.sequence_length or 1
    problem = reference.Problem(network.apply, np.float64, of_choices, length)
    gradient_of = reference.make_loss(problem)
    agent = jaxdrl.ppo(env, config, mesh=jaxdrl.make_mesh(2))
    rollout, learn = jax.jit(agent.rollout), jax.jit(agent.learn)
    state = jax.jit(agent.init)(jax.random.key(1))
    mean, variance = jnp.array([0.0, 0.0, 0.0, 1.0]), jnp.array([0.5 * TINY**2, 40.0, 2.0, 0.5])
    state = with_past(state, mean, variance)
    for _ in range(2):
        before = state
        start = before.learner
        acted = before
        if config.correction == "vtrace":
            older = jax.tree.map(lambda x: x + 0.3 * jnp.cos(1e3 * x), start.params)
            acted = replace(before, learner=replace(start, params=older))
        actor, trajectory = rollout(acted.learner, acted.actor)
        trajectory = jax.device_get(trajectory)
        assert_rollout(problem, config, acted, replace(acted, actor=actor), trajectory)
        learner, metrics = learn(start, trajectory)
        state = replace(before, learner=learner, actor=actor)
        expected = reference.update(problem, gradient_of, config, start, adam_of(start), trajectory)
        stuck = (~np.asarray(jax.vmap(allowed)(trajectory.obs.reshape(-1, 4)))[:, :2]).all(axis=1)
        expected.metrics["states_without_action"] = stuck.sum()
        assert_same(state.learner, metrics, expected, start.params)
        assert stuck.any()
        for name in ("rho_clip", "c_clip") if config.correction == "vtrace" else ():
            assert 0.02 < expected.bound[name] < 0.98


def assert_rollout(problem, config, before, after, trajectory):
    """Every number of a trajectory follows from the observations and actions in it."""
    with_action = jax.vmap(jax.vmap(dynamics))
    following, reward, terminated, truncated = with_action(
        trajectory.obs, np.float32(trajectory.action)
    )
    np.testing.assert_array_equal(trajectory.terminated, terminated)
    np.testing.assert_array_equal(trajectory.truncated, truncated)
    np.testing.assert_allclose(trajectory.reward, reward, rtol=1e-5, atol=1e-10)
    ended = trajectory.terminated | trajectory.truncated
    assert terminated.any()
    assert truncated.any()
    seen = np.concatenate([trajectory.obs[1:], np.asarray(after.actor.obs)[None]])
    np.testing.assert_allclose(seen[~ended], following[~ended], rtol=1e-5, atol=1e-8)
    starts = np.concatenate([np.asarray(before.actor.episode_start)[None], ended[:-1]])
    np.testing.assert_array_equal(trajectory.episode_start, starts)
    np.testing.assert_array_equal(after.actor.episode_start, ended[-1])

    learner, carry = before.learner, before.actor.carry
    moments = reference.moments(learner.obs_statistics)

    def look(obs, carry, start):
        x = reference.normalized(np.float64(obs), moments, config.observation_clip)
        return problem.apply(learner.params, carry, np.float32(x), start)

    running = {
        name: np.asarray(getattr(before.actor, name), np.float64)
        for name in ("discounted_return", "episode_return", "episode_length")
    }
    for t in range(config.num_steps):
        outputs, value, carry = look(trajectory.obs[t], carry, trajectory.episode_start[t])
        np.testing.assert_allclose(trajectory.value[t], value, rtol=1e-4, atol=1e-5)
        log_prob, _ = of_choices(outputs, trajectory.obs[t], trajectory.action[t])
        np.testing.assert_allclose(trajectory.log_prob[t], log_prob, rtol=1e-4, atol=1e-5)
        _, next_value, _ = look(following[t], carry, np.zeros(config.num_envs, bool))
        goes_on = ~trajectory.terminated[t]
        np.testing.assert_allclose(
            trajectory.next_value[t][goes_on], np.asarray(next_value)[goes_on], rtol=1e-4, atol=1e-5
        )
        running["discounted_return"] *= config.gamma
        for name, step in zip(
            running, (trajectory.reward[t], trajectory.reward[t], 1), strict=True
        ):
            running[name] = running[name] + step
            found = getattr(trajectory, name)[t]
            np.testing.assert_allclose(found, running[name], rtol=1e-5, atol=1e-9)
            running[name] = running[name] * ~ended[t]
    for name, expected in running.items():
        found = getattr(after.actor, name)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
