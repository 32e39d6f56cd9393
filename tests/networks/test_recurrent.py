"""Networks with memory: cells against their equations, replay against the rollout."""

import itertools
from dataclasses import replace
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxdrl
import probe_environments as probes
from jaxdrl import IMPALAConfig, PPOConfig, PQNConfig
from jaxdrl.algorithms.acting import evaluate_sequences
from jaxdrl.algorithms.agent import Agent
from jaxdrl.algorithms.build import build
from jaxdrl.config.settings import with_settings
from jaxdrl.core.distributions import action_head
from jaxdrl.core.spaces import Box, Discrete
from jaxdrl.errors import ConfigError
from jaxdrl.networks.actor_critic import Torso, unroll
from jaxdrl.networks.build import make_network
from jaxdrl.networks.recurrent import GRU, LSTM, RecurrentActorCritic, from_recurrent

T, N, FEATURES, SIZE = 7, 3, 4, 5
CONFIG = with_settings(
    PPOConfig(),
    num_envs=16,
    num_steps=12,
    num_minibatches=2,
    hidden_sizes=(8,),
    memory="gru",
    memory_size=6,
)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def gru_by_hand(params, h, x):
    kernel, bias = params["input"]["kernel"], params["input"]["bias"]
    recurrent, offset = params["hidden"]["Dense_0"]["kernel"], params["hidden"]["Dense_0"]["bias"]
    r, z, n = (slice(i * SIZE, (i + 1) * SIZE) for i in range(3))
    reset = sigmoid(x @ kernel[:, r] + h @ recurrent[:, r] + bias[r] + offset[r])
    update = sigmoid(x @ kernel[:, z] + h @ recurrent[:, z] + bias[z] + offset[z])
    new = np.tanh(x @ kernel[:, n] + bias[n] + reset * (h @ recurrent[:, n] + offset[n]))
    h = (1 - update) * new + update * h
    return h, h


def lstm_by_hand(params, carry, x):
    c, h = carry
    hidden = params["hidden"]["Dense_0"]
    sums = x @ params["input"]["kernel"] + params["input"]["bias"]
    sums = sums + h @ hidden["kernel"] + hidden["bias"]
    i, f, g, o = (sums[:, k * SIZE : (k + 1) * SIZE] for k in range(4))
    c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return (c, h), h


@pytest.mark.parametrize(
    ("cell", "by_hand"), [(GRU(SIZE), gru_by_hand), (LSTM(SIZE), lstm_by_hand)]
)
def test_a_cell_follows_its_equations(cell, by_hand):
    carry = jax.tree.map(lambda x: random(*x.shape, seed=1), cell.initial_carry(N))
    x = random(N, FEATURES, seed=2)

    def both(cell, carry, x):
        return cell.step(carry, cell.project(x))

    params = cell.init(jax.random.key(0), carry, x, method=both)["params"]
    params = jax.tree.map(lambda p: random(*p.shape, seed=p.size), params)
    actual = cell.apply({"params": params}, carry, x, method=both)
    chex.assert_trees_all_close(actual, by_hand(params, carry, x), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("make", [GRU, LSTM])
def test_gates_start_from_orthogonal_matrices_of_their_own(make):
    cell = make(SIZE)
    carry, x = cell.initial_carry(N), random(N, FEATURES)
    both = lambda cell, carry, x: cell.step(carry, cell.project(x))  # noqa: E731
    params = cell.init(jax.random.key(0), carry, x, method=both)["params"]
    gates = np.split(np.asarray(params["hidden"]["Dense_0"]["kernel"]), 3 + (make is LSTM), axis=1)
    for gate in gates:
        np.testing.assert_allclose(gate @ gate.T, np.eye(SIZE), atol=1e-5)
    assert np.abs(gates[0] - gates[1]).max() > 0.1


# Replay.


def rolled_out(env, config, *, network=None):
    """`(agent, state before, trajectory)` of a second rollout, which starts within episodes.

    The agent is that of one device, with the sequences that the trajectory has carries for.
    """
    agent = jaxdrl.ppo(env, config, network=network)
    state, rollout = jax.jit(agent.init)(jax.random.key(0)), jax.jit(agent.rollout)
    state = replace(state, actor=rollout(state.learner, state.actor)[0])
    _, trajectory = rollout(state.learner, state.actor)
    length = config.num_steps // jax.tree.leaves(trajectory.carry)[0].shape[0]
    network = network or make_network(env.observation_space, env.action_space, config.network)
    acting = Agent(env, network, action_head(env.action_space), None, length)
    return acting, state, trajectory


def replay(acting, state, trajectory, episode_start=None, carry=None):
    """Log-probabilities and values `[T, N]` of a trajectory, sequence by sequence."""
    length = acting.sequence_length
    start = trajectory.episode_start if episode_start is None else episode_start
    carry = trajectory.carry if carry is None else carry
    found = []
    evaluate = jax.jit(partial(evaluate_sequences, acting))
    for i in range(trajectory.reward.shape[0] // length):
        steps = slice(i * length, (i + 1) * length)
        distribution, value = evaluate(
            state.learner.params,
            state.learner.obs_statistics,
            jax.tree.map(lambda x, i=i: x[i], carry),
            trajectory.obs[steps],
            start[steps],
        )
        action = trajectory.action[steps]
        log_prob = distribution.log_prob(action.reshape(-1, *action.shape[2:]))
        found.append([x.reshape(length, -1) for x in (log_prob, value)])
    return np.concatenate(found, axis=1)


def difference(acting, state, trajectory, **changes):
    log_prob, value = replay(acting, state, trajectory, **changes)
    return max(np.abs(log_prob - trajectory.log_prob).max(), np.abs(value - trajectory.value).max())


ENVIRONMENTS = {
    "CartPole-v1": {"max_steps_in_episode": 5},
    "Pendulum-v1": {"max_steps_in_episode": 5},
}


PAIRS = {
    ("CartPole-v1", "gru", False),
    ("CartPole-v1", "lstm", True),
    ("Pendulum-v1", "gru", True),
    ("Pendulum-v1", "lstm", False),
}
"""Of the cases those in which every value meets every other; the rest are slow tests."""


@pytest.mark.parametrize(
    ("name", "memory", "shared_torso"),
    [
        pytest.param(*case, marks=() if case in PAIRS else pytest.mark.slow)
        for case in itertools.product(ENVIRONMENTS, ["gru", "lstm"], [False, True])
    ],
)
def test_replay_reproduces_the_rollout(name, memory, shared_torso):
    env = jaxdrl.make(name, **ENVIRONMENTS[name])
    config = with_settings(
        CONFIG, memory=memory, shared_torso=shared_torso, normalize_observations=True
    )
    acting, state, trajectory = rolled_out(env, config)
    start = np.asarray(trajectory.episode_start)
    assert start[1:].any()
    assert not start[0].all()
    assert difference(acting, state, trajectory) < 1e-6


@pytest.mark.parametrize("sequence_length", [1, 4, pytest.param(6, marks=pytest.mark.slow)])
def test_replay_of_chunks_starts_from_the_carry_of_the_rollout(sequence_length):
    env = jaxdrl.make("CartPole-v1", max_steps_in_episode=5)
    acting, state, trajectory = rolled_out(env, replace(CONFIG, sequence_length=sequence_length))
    assert trajectory.carry["actor"].shape == (12 // sequence_length, 16, 6)
    assert difference(acting, state, trajectory) < 1e-6
    none = jax.tree.map(jnp.zeros_like, trajectory.carry)
    assert difference(acting, state, trajectory, carry=none) > 1e-4


def test_a_carry_that_is_reset_one_step_early_or_late_shows():
    env = jaxdrl.make("CartPole-v1", max_steps_in_episode=5)
    acting, state, trajectory = rolled_out(env, CONFIG)
    for shift in (-1, 1):
        shifted = jnp.roll(trajectory.episode_start, shift, axis=0)
        assert difference(acting, state, trajectory, episode_start=shifted) > 1e-4


@pytest.mark.parametrize("length", [pytest.param(None, marks=pytest.mark.slow), 3])
def test_the_first_gradient_step_sees_the_policy_that_acted(length):
    """With one minibatch an epoch and one epoch, ratios are 1: no divergence, nothing clipped."""
    env = jaxdrl.make("CartPole-v1", max_steps_in_episode=5)
    config = replace(CONFIG, num_epochs=1, num_minibatches=1, sequence_length=length)
    agent = jaxdrl.ppo(env, config)
    step = jax.jit(agent.train_step)
    state, _ = step(jax.jit(agent.init)(jax.random.key(0)))
    _, metrics = step(state)
    assert abs(metrics["approx_kl"]) < 1e-6
    assert metrics["clip_fraction"] == 0.0
    assert metrics["grad_norm"] > 0.0


# Networks of one's own.


@pytest.mark.parametrize("shared_torso", [False, True])
def test_policy_and_value_see_their_own_tower(shared_torso):
    """Where the torso is shared the value comes from the actor's, else from the critic's alone."""
    network = make_network(
        Box(-1, 1, (FEATURES,)),
        Discrete(3),
        with_settings(CONFIG.network, shared_torso=shared_torso),
    )
    obs, start = random(N, FEATURES), np.zeros(N, bool)
    params = network.init(jax.random.key(0), obs)
    carry = jax.tree.map(lambda x: random(*x.shape, seed=5), network.initial_carry(N))

    def used(choose):
        gradient = jax.grad(lambda p: choose(network.apply(p, carry, obs, start)).sum())(params)
        return {
            name.split("_")[0] for name, of in gradient.items() if np.any(jax.tree.leaves(of)[0])
        }

    value_tower = "actor" if shared_torso else "critic"
    assert used(lambda outputs: outputs[0][:, 0]) == {"actor", "policy"}
    assert used(lambda outputs: outputs[1]) == {value_tower, "value"}


class LinearRecurrentUnit(nn.Module):
    """A cell of another kind: h' = decay h + W x, features tanh(h')."""

    size: int

    def setup(self):
        self.input = nn.Dense(self.size)
        self.decay = self.param("decay", nn.initializers.constant(1.0), (self.size,))

    def initial_carry(self, num_envs):
        return jnp.zeros((num_envs, self.size), jnp.float32)

    def project(self, x):
        return self.input(x)

    def step(self, carry, projected):
        carry = nn.sigmoid(self.decay) * carry + projected
        return carry, jnp.tanh(carry)


def linear_recurrent(action_space):
    return from_recurrent(
        RecurrentActorCritic(
            action_space=action_space,
            torso=partial(Torso, (8,), "tanh"),
            cell=partial(LinearRecurrentUnit, 6),
            shared_torso=True,
            initial_log_std=0.0,
        )
    )


def test_another_cell_and_a_network_without_unroll():
    env = jaxdrl.make("CartPole-v1", max_steps_in_episode=5)
    network = linear_recurrent(env.action_space)
    for given in (network, network._replace(unroll=None)):
        acting, state, trajectory = rolled_out(
            env, with_settings(CONFIG, memory="none"), network=given
        )
        assert acting.sequence_length == 12
        assert difference(acting, state, trajectory) < 1e-6


def test_unroll_is_apply_step_by_step():
    space = Discrete(3)
    network = linear_recurrent(space)
    obs, start = random(T, N, FEATURES), np.random.default_rng(0).random((T, N)) < 0.3
    params = network.init(jax.random.key(0), obs[0])
    carry = jax.tree.map(lambda x: random(*x.shape, seed=5), network.initial_carry(N))
    outputs, value = unroll(network, params, carry, obs, start)
    for t in range(T):
        step_outputs, step_value, carry = network.apply(params, carry, obs[t], start[t])
        np.testing.assert_allclose(outputs[t], step_outputs, atol=1e-6)
        np.testing.assert_allclose(value[t], step_value, atol=1e-6)


def test_continuous_actions_keep_their_shape():
    config = with_settings(CONFIG, memory="gru")
    env = jaxdrl.make("Pendulum-v1")
    env = env._replace(action_space=Box(-2.0, 2.0, (1,)))
    _, _, trajectory = rolled_out(env, config)
    assert trajectory.action.shape == (12, 16, 1)


# What only memory solves.


RECALL = {
    **{"num_envs": 32, "num_steps": 16, "num_minibatches": 4, "learning_rate": 1e-2},
    **{"hidden_sizes": (16,), "memory_size": 16},
}


def recalled(config, num_updates):
    """The greedy return where the last action has to recall the first observation."""
    env = probes.recall(4)
    agent = build(env, config)
    state = jaxdrl.train(agent, jax.jit(agent.init)(jax.random.key(0)), num_updates=num_updates)
    key = jax.random.key(1)
    return jaxdrl.evaluate(env, agent.policy, state.learner, key, num_episodes=256).mean_return


# Replay with an LSTM and its equations are tested above.
@pytest.mark.parametrize("memory", ["none", "gru", pytest.param("lstm", marks=pytest.mark.slow)])
def test_only_memory_recalls_a_cue(memory):
    config = with_settings(PPOConfig(), **RECALL, sequence_length=8)
    score = recalled(with_settings(config, memory=memory), num_updates=60)
    if memory == "none":
        assert abs(score) < 0.25
    else:
        assert score == 1.0


def test_impala_recalls_it_from_whole_rollouts():
    config = with_settings(IMPALAConfig(), **RECALL, memory="gru")
    assert recalled(config, num_updates=240) == 1.0


def test_action_values_recall_it():
    config = with_settings(PQNConfig(exploration_env_steps=10_000.0), **RECALL, memory="gru")
    assert recalled(config, num_updates=60) == 1.0


# What is refused.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sequence_length": 5}, "sequence_length = 5: must divide num_steps = 12; the "),
        ({"num_minibatches": 4}, "must divide num_envs / num_shards = 2; the "),
        (
            {"sequence_length": 6, "num_minibatches": 8},
            "must divide num_steps / 6 * num_envs / num_shards = 4; the ",
        ),
        (
            {"num_envs": 20},
            "num_envs = 20: must be a multiple of num_shards = 8; the ",
        ),
    ],
)
def test_minibatches_that_cut_sequences_are_refused(changes, message):
    with pytest.raises(ConfigError) as caught:
        with_settings(CONFIG, **changes)
    assert message in str(caught.value)


def test_minibatches_are_refused_that_cut_the_sequences_of_a_network_of_ones_own():
    env = jaxdrl.make("CartPole-v1")
    config = with_settings(CONFIG, memory="none", num_minibatches=4)
    with pytest.raises(ConfigError, match="num_minibatches = 4: must divide num_envs / num_shards"):
        jaxdrl.ppo(env, config, network=linear_recurrent(env.action_space))


def test_sequences_whose_shapes_differ_are_refused_when_they_are_traced():
    network = linear_recurrent(Discrete(2))
    obs, start = jnp.zeros((3, N, FEATURES)), jnp.zeros((3, N), bool)
    params = network.init(jax.random.key(0), obs[0])
    carry = network.initial_carry(N)
    for wrong in (start[:2], start[:, :1]):
        with pytest.raises(ValueError, match=r"prefix.*\[the tree is obs\]"):
            jax.eval_shape(partial(unroll, network), params, carry, obs, wrong)
    with pytest.raises(ValueError, match=r"rank.*\[input 0 is episode_start\]"):
        jax.eval_shape(partial(unroll, network), params, carry, obs, start[0])
