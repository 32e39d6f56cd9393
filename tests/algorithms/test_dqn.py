"""DQN: its loss against NumPy, exploration, what it keeps of a run, and that it values right."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import jaxdrl
import probe_environments as probes
from jaxdrl import DQNConfig, with_settings
from jaxdrl.algorithms.acting import evaluate_step
from jaxdrl.algorithms.replay import Minibatch
from jaxdrl.core.spaces import Discrete
from jaxdrl.core.types import Network
from jaxdrl.errors import ConfigError
from small_runs import CARTPOLE, read, resumed, run_quietly, stopped_after

SMALL = with_settings(
    DQNConfig(),
    num_envs=16,
    num_steps=4,
    num_gradient_steps=2,
    buffer_size=256,
    batch_size=16,
    learning_starts=64,
    hidden_sizes=(8,),
)

# The loss and its gradient, for a linear network.

NUM_ACTIONS, NUM_ROWS, N_STEP = 4, 24, 3


def linear_network():
    def apply(params, carry, obs, start):
        del start
        return obs @ params["actions"], obs @ params["value"], carry

    def init(key, obs):
        del obs
        shape = (NUM_ACTIONS, NUM_ACTIONS)
        return {"actions": jax.random.normal(key, shape), "value": jnp.ones(NUM_ACTIONS)}

    return Network(lambda num_envs: (), init, apply)


def minibatch(rng):
    """Observations whose positive numbers allow an action; one at least is allowed."""

    def obs():
        x = rng.normal(size=(NUM_ROWS, NUM_ACTIONS))
        x[np.arange(NUM_ROWS), rng.integers(0, NUM_ACTIONS, NUM_ROWS)] = 1.0
        return x.astype(np.float32)

    before, num_steps = obs(), rng.integers(1, N_STEP + 1, NUM_ROWS)
    inside = np.arange(N_STEP) < num_steps[:, None]
    return Minibatch(
        obs=before,
        action=before.argmax(axis=1).astype(np.int32),
        reward=np.where(inside, rng.normal(size=inside.shape), 0.0).astype(np.float32),
        num_steps=num_steps.astype(np.int32),
        terminated=rng.random(NUM_ROWS) < 0.3,
        next_obs=obs(),
        weight=(rng.random(NUM_ROWS) < 0.8).astype(np.float32),
        seed=np.zeros(NUM_ROWS, np.uint32),
    )


def q_by_hand(config, params, obs):
    """Q(s, a) of one observation, -inf where it is not positive."""
    q, allowed = obs @ params["actions"], obs > 0
    if config.dueling:
        q = obs @ params["value"] + q - q[allowed].mean()
    return np.where(allowed, q, -np.inf)


def loss_by_hand(config, params, targets, batch):
    """`(loss, gradient)` in float64, a row at a time."""
    total, gradient = 0.0, jax.tree.map(np.zeros_like, params)
    for i in range(NUM_ROWS):
        target, discount = 0.0, 1.0
        for step in range(batch.num_steps[i]):
            target += discount * config.reward_scale * batch.reward[i, step]
            discount *= config.gamma
        if not batch.terminated[i]:
            theirs = q_by_hand(config, targets, batch.next_obs[i])
            mine = q_by_hand(config, params, batch.next_obs[i])
            target += discount * theirs[np.argmax(mine if config.double_q else theirs)]
        error = q_by_hand(config, params, batch.obs[i])[batch.action[i]] - target
        weight, slope = batch.weight[i] / NUM_ROWS, error
        if config.loss == "huber" and abs(error) > 1:
            total, slope = total + weight * (abs(error) - 0.5), np.sign(error)
        else:
            total += weight * error**2 / 2
        of_q = np.eye(NUM_ACTIONS)[batch.action[i]]
        if config.dueling:
            allowed = batch.obs[i] > 0
            of_q = of_q - allowed / allowed.sum()
            gradient["value"] += weight * slope * batch.obs[i]
        gradient["actions"] += weight * slope * np.outer(batch.obs[i], of_q)
    return total, gradient


@pytest.mark.parametrize(
    "changes",
    [{}, {"double_q": False}, {"dueling": True}, {"loss": "squared", "double_q": False}],
    ids=str,
)
def test_the_loss_and_its_gradient_are_those_of_the_paper(changes):
    settings = {"gamma": 0.9, "reward_scale": 2.0, "n_step": N_STEP, **changes}
    config = with_settings(SMALL, **settings)
    env = probes.masked(Discrete(NUM_ACTIONS))
    learning = jaxdrl.dqn(env, config, network=linear_network()).learn.args[0]
    rng = np.random.default_rng(0)
    params, targets = (
        {"actions": rng.normal(size=(NUM_ACTIONS,) * 2), "value": rng.normal(size=NUM_ACTIONS)}
        for _ in range(2)
    )
    batch = minibatch(rng)
    expected, gradient = loss_by_hand(config, params, targets, batch)
    as_float32 = jax.tree.map(jnp.float32, (params, targets))
    state = jax.eval_shape(jaxdrl.dqn(env, config, network=linear_network()).init, a_key())
    learner = replace(state.learner, target_params=as_float32[1], num_updates=jnp.int32(0))
    slope = jax.value_and_grad(lambda params: learning.loss(learner, params, batch), has_aux=True)
    (loss, metrics), found = jax.jit(slope)(as_float32[0])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert metrics["td_loss"] == loss
    for name, x in gradient.items():
        np.testing.assert_allclose(found[name], x, rtol=1e-4, atol=1e-6)


def a_key():
    return jax.eval_shape(lambda: jax.random.key(0))


# Exploration.


def test_environments_explore_as_in_ape_x():
    config = with_settings(SMALL, final_epsilon=0.4, epsilon_spread=7.0, exploration_env_steps=None)
    agent = jaxdrl.dqn(probes.action_reward(), config).learn.args[0].agent
    outputs = jnp.zeros((16, 2))
    distribution, value = agent.interpret(jnp.int32(0), outputs, jnp.zeros(16))
    found = agent.explore(distribution, None, jnp.arange(16, dtype=jnp.int32)).epsilon
    expected = [0.4 ** (1 + 7 * i / 15) for i in range(16)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(value, 0.0)


def test_the_epsilon_in_the_metrics_is_the_mean_over_the_environments(cartpole):
    config = with_settings(SMALL, initial_epsilon=0.9, final_epsilon=0.1, epsilon_spread=7.0)
    config = with_settings(config, exploration_env_steps=128.0)  # two updates
    agent = jaxdrl.dqn(cartpole, config, mesh=jaxdrl.make_mesh(2))
    power = 1.0 + 7.0 * np.arange(16) / 15.0
    for epsilon, (*_, metrics) in zip([0.9, 0.5, 0.1, 0.1], updated(agent, 4)[1:], strict=True):
        assert metrics["epsilon"] == pytest.approx(np.mean(epsilon**power), rel=1e-5)


def test_forbidden_actions_are_neither_explored_nor_valued():
    """Their reward is NaN."""
    env = probes.masked(Discrete(4), num_stuck=0)
    agent = jaxdrl.dqn(env, with_settings(SMALL, exploration_env_steps=200.0))
    state = jaxdrl.train(agent, jax.jit(agent.init)(jax.random.key(0)), num_updates=8)
    assert np.isfinite(state.actor.replay.reward).all()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.learner.params))


# What an update does.


@pytest.fixture(scope="module")
def cartpole():
    return jaxdrl.make("CartPole-v1")


def updated(agent, num_updates):
    """Parameters, targets and metrics of each update, with those before the first."""
    state, step = jax.jit(agent.init)(jax.random.key(0)), jax.jit(agent.train_step)
    seen = [(state.learner.params, state.learner.target_params, None)]
    for _ in range(num_updates):
        state, metrics = step(state)
        seen.append((state.learner.params, state.learner.target_params, metrics))
    return jax.device_get(seen)


def difference(params, others):
    pairs = zip(*map(jax.tree.leaves, (params, others)), strict=True)
    return max(np.abs(x - y).max() for x, y in pairs)


def test_it_waits_until_there_is_enough_and_then_learns(cartpole):
    agent = jaxdrl.dqn(cartpole, with_settings(SMALL, learning_starts=65), mesh=jaxdrl.make_mesh(2))
    before, waited, learnt = updated(agent, 2)
    assert difference(before[0], waited[0]) == 0.0 < difference(waited[0], learnt[0])
    assert waited[2]["td_loss"] == waited[2]["grad_norm"] == 0.0 < learnt[2]["td_loss"]
    assert set(learnt[2]) <= set(agent.metrics)
    assert {"q_value", "learning_rate", "skipped_steps", "nonfinite_params"} <= set(learnt[2])
    assert all(x.shape == () and np.isfinite(x) for x in learnt[2].values())


def test_the_target_network_follows_at_its_own_pace(cartpole):
    """Two gradient steps in an update."""
    seen = updated(jaxdrl.dqn(cartpole, with_settings(SMALL, target_update_every=4)), 4)
    for i in (0, 1):
        assert difference(seen[i][1], seen[0][0]) == 0.0
    for i in (2, 3):
        assert difference(seen[i][1], seen[2][0]) == 0.0 < difference(seen[i][1], seen[0][0])
    assert difference(seen[4][1], seen[4][0]) == 0.0

    moving = {"target_update_every": 1, "target_update_rate": 0.25, "num_gradient_steps": 1}
    first, second = updated(jaxdrl.dqn(cartpole, with_settings(SMALL, **moving)), 1)
    expected = jax.tree.map(lambda x, y: 0.75 * x + 0.25 * y, first[0], second[0])
    assert difference(second[1], expected) < 1e-7 < difference(second[1], first[1])


FLOATS = {
    **{"learning_rate": 0.02, "adam_epsilon": 0.1, "gamma": 0.5, "reward_scale": 3.0},
    **{"target_update_rate": 0.5, "max_grad_norm": 0.01, "final_epsilon": 1.0},
    "epsilon_spread": 9.0,
}


def test_vmap_over_its_floats_is_a_loop_over_them(cartpole):
    """Each of eight members differs in one of them, and all take part in the result."""
    base = with_settings(SMALL, target_update_every=1, exploration_env_steps=None)
    base = with_settings(base, final_epsilon=0.5, num_gradient_steps=4, loss="squared")

    def one_update(key, floats):
        agent = jaxdrl.dqn(cartpole, with_settings(base, **floats))
        return agent.train_step(agent.init(key))[0].learner.params

    plain = {name: getattr(base, name) for name in FLOATS}
    members = [plain | {name: FLOATS[name]} for name in FLOATS]
    stacked = {name: jnp.array([m[name] for m in members], jnp.float32) for name in FLOATS}
    together = jax.jit(jax.vmap(one_update, in_axes=(None, 0)))(jax.random.key(1), stacked)
    alone = jax.jit(one_update)
    reference = alone(jax.random.key(1), plain)
    for i, member in enumerate(members):
        mine = jax.tree.map(lambda x, i=i: x[i], together)
        assert difference(mine, alone(jax.random.key(1), member)) < 1e-5
        assert difference(mine, reference) > 1e-6, list(FLOATS)[i]


def test_a_gradient_step_costs_one_all_reduce(cartpole):
    """In the body of the loop over them, and no other collective."""
    agent = jaxdrl.dqn(cartpole, SMALL, mesh=jaxdrl.make_mesh(2))
    state = jax.jit(agent.init)(jax.random.key(0))
    program = jax.jit(agent.train_step).lower(state).compile().as_text()
    collective = re.compile(r" (?:all-|reduce-scatter|collective-)[\w-]*\(")
    found = [block for block in program.split("\n}\n") if collective.search(block)]
    counts = sorted(len(collective.findall(block)) for block in found)
    assert counts == [1, 1]  # the loop, and the sums of the metrics


def test_the_network_and_the_optimiser_may_be_ones_own(cartpole):
    class Own(nn.Module):
        @nn.compact
        def __call__(self, obs):
            return nn.Dense(2, name="mine")(obs), jnp.zeros(obs.shape[0])

    agent = jaxdrl.dqn(cartpole, SMALL, network=Own(), optimizer=optax.sgd(0.0))
    before, after = updated(agent, 1)
    assert set(before[0]) == {"mine"}
    assert difference(before[0], after[0]) == 0.0
    assert "learning_rate" not in after[2]


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (probes.multi_discrete, {}, r"multi_discrete: actions are MultiDiscrete.* ppo or impala"),
        (
            lambda: probes.continuous_target(-1.0, 1.0, (2,)),
            {},
            "continuous_target: actions are Box.* sac or td3",
        ),
        (
            probes.action_reward,
            {"memory": "gru"},
            "network: is recurrent, and DQN .* memory = 'none'",
        ),
    ],
)
def test_what_it_cannot_learn_is_refused_with_what_can(make, changes, message, no_compile):
    del no_compile
    with pytest.raises(ConfigError, match=message):
        jaxdrl.dqn(make(), with_settings(SMALL, **changes))


# A run.


def test_a_run_that_was_stopped_ends_with_the_bits_of_one_that_was_not(tmp_path):
    """The buffer included, which has gone round once by then."""
    algorithm = with_settings(SMALL, reproducible=True)
    experiment = replace(CARTPOLE, algorithm=algorithm, total_env_steps=512, run_dir=tmp_path / "a")
    whole, _ = run_quietly(experiment)
    stopped_after(5, replace(experiment, run_dir=tmp_path / "b"))
    resumed(tmp_path / "b", devices=1)
    digests = [read(tmp_path / name, "result.json")["state_sha256"] for name in "ab"]
    assert digests[0] == digests[1] == whole.result["state_sha256"]


# Probe environments.


def values(env, **changes):
    """Max_a Q of what the buffer holds, after training."""
    config = with_settings(
        DQNConfig(),
        num_envs=16,
        num_steps=8,
        num_gradient_steps=32,
        buffer_size=2048,
        learning_starts=256,
        learning_rate=5e-3,
        anneal_env_steps=15_000.0,
        final_learning_rate=1e-5,
        target_update_every=20,
        exploration_env_steps=1000.0,
        hidden_sizes=(32,),
        gamma=0.9,
        **changes,
    )
    agent = jaxdrl.dqn(env, config)
    state = jaxdrl.train(agent, jax.jit(agent.init)(jax.random.key(0)), num_updates=150)
    obs = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), state.actor.replay.obs)
    start = jnp.zeros(obs.shape[0], jnp.bool)
    act = agent.learn.args[0].agent
    value = evaluate_step(act, state.learner, (), obs, start)[1]
    return np.asarray(obs), np.asarray(value)


@pytest.mark.parametrize("n_step", [1, 3])
def test_a_time_limit_is_no_death(n_step):
    """Reward 1 for ever is worth 1 / (1 - 0.9) = 10, wherever the limit of 5 cuts it."""
    _, value = values(probes.constant_reward(5, "truncated"), n_step=n_step)
    np.testing.assert_allclose(value, 10.0, rtol=1e-3)


@pytest.mark.parametrize("n_step", [1, 3])
def test_a_death_is_one(n_step):
    """With k steps to go the value is 1 + 0.9 + ... + 0.9^(k - 1)."""
    obs, value = values(probes.constant_reward(5, "terminated"), n_step=n_step)
    left = 5 - obs.argmax(axis=-1)
    expected = sum(np.where(left > i, 0.9**i, 0.0) for i in range(5))
    np.testing.assert_allclose(value, expected, rtol=1e-3)


@pytest.mark.parametrize("dueling", [False, True])
def test_it_finds_the_best_action(dueling):
    _, value = values(probes.observation_action_reward(), dueling=dueling)
    np.testing.assert_allclose(value, 1.0, rtol=1e-3)
