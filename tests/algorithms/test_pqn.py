"""PQN: its targets and gradient against NumPy, what it shares with every algorithm, its network."""

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
from jaxdrl import PQNConfig, with_settings
from jaxdrl.core.spaces import Discrete
from jaxdrl.core.types import Network, Transition
from jaxdrl.errors import ConfigError

SMALL = with_settings(
    PQNConfig(), num_envs=16, num_steps=5, num_minibatches=2, num_epochs=1, hidden_sizes=(8,)
)


def relative_difference(params, others):
    pairs = list(zip(*map(jax.tree.leaves, (params, others)), strict=True))
    difference = sum(np.sum((np.asarray(x) - y) ** 2) for x, y in pairs)
    return np.sqrt(difference / sum(np.sum(np.asarray(y) ** 2) for _, y in pairs))


# Its targets and its gradient, for a linear network.

NUM_STEPS, NUM_ENVS, NUM_FEATURES, NUM_ACTIONS = 6, 8, 4, 2
LINEAR = with_settings(
    PQNConfig(),
    num_envs=NUM_ENVS,
    num_steps=NUM_STEPS,
    num_minibatches=1,
    num_epochs=1,
    gamma=0.9,
    q_lambda=0.7,
    reward_scale=0.5,
)


def linear_network():
    """Action values that are linear, and a value that nobody should look at."""

    def apply(params, carry, obs, start):
        del start
        return obs @ params, jnp.full(obs.shape[:1], jnp.nan), carry

    def init(key, obs):
        return jax.random.normal(key, (obs.shape[1], NUM_ACTIONS))

    return Network(lambda num_envs: (), init, apply)


def old_rollout(seed=0):
    """Arrays `[T, N]` with both kinds of ends; inside an episode the next value is the next's."""
    rng = np.random.default_rng(seed)
    shape = (NUM_STEPS, NUM_ENVS)
    terminated = rng.random(shape) < 0.2
    truncated = ~terminated & (rng.random(shape) < 0.2)
    value, next_value = rng.normal(size=(2, *shape))
    inside = ~(terminated | truncated)[:-1]
    next_value[:-1][inside] = value[1:][inside]
    next_value[terminated] = np.nan  # "meaningless where terminated"
    return {
        "obs": rng.normal(size=(*shape, NUM_FEATURES)),
        "action": rng.integers(0, NUM_ACTIONS, shape),
        "reward": rng.normal(size=shape),
        "value": value,
        "next_value": next_value,
        "terminated": terminated,
        "truncated": truncated,
    }


def targets_by_hand(config, data):
    """Q(lambda) as the weighted mean of all n-step returns, which end where an episode does."""
    target = np.zeros((NUM_STEPS, NUM_ENVS))
    reward = config.reward_scale * data["reward"]
    ended = data["terminated"] | data["truncated"]
    for t, env in np.ndindex(target.shape):
        returns, so_far = [], 0.0
        for s in range(t, NUM_STEPS):
            discount = config.gamma ** (s - t)
            so_far += discount * reward[s, env]
            follows = 0.0 if data["terminated"][s, env] else data["next_value"][s, env]
            returns.append(so_far + discount * config.gamma * follows)
            if ended[s, env]:
                break
        weights = (1 - config.q_lambda) * config.q_lambda ** np.arange(len(returns))
        weights[-1] = config.q_lambda ** (len(returns) - 1)
        target[t, env] = weights @ returns
    return target


def as_transition(data):
    kinds = {"action": np.int32, "terminated": bool, "truncated": bool}
    arrays = {name: x.astype(kinds.get(name, np.float32)) for name, x in data.items()}
    zeros = np.zeros((NUM_STEPS, NUM_ENVS), np.float32)
    names = ("log_prob", "discounted_return", "episode_return")
    return Transition(
        **arrays,
        **dict.fromkeys(names, zeros),
        episode_length=zeros.astype(np.int32),
        episode_start=zeros > 0,
        carry=(),
    )


def test_its_targets_and_its_gradient_are_those_of_the_paper():
    """A step of plain gradient descent at rate 1 moves the parameters by the gradient."""
    env = jaxdrl.make("CartPole-v1")
    agent = jaxdrl.pqn(env, LINEAR, network=linear_network(), optimizer=optax.sgd(1.0))
    learner, data = jax.jit(agent.init)(jax.random.key(0)).learner, old_rollout()
    params = np.asarray(learner.params, np.float64)
    after, metrics = jax.jit(agent.learn)(learner, as_transition(data))

    target, chosen = targets_by_hand(LINEAR, data), np.eye(NUM_ACTIONS)[data["action"]]
    q_value = ((data["obs"] @ params) * chosen).sum(axis=-1)
    error = q_value - target
    gradient = np.einsum("tnf,tna->fa", data["obs"], error[..., None] * chosen) / error.size
    np.testing.assert_allclose(params - after.params, gradient, rtol=1e-4, atol=1e-6)
    assert metrics["td_loss"] == pytest.approx(0.5 * np.mean(error**2), rel=1e-5)
    assert metrics["q_value"] == pytest.approx(q_value.mean(), rel=1e-4)
    explained = 1 - np.var(target - data["value"]) / np.var(target)
    assert metrics["explained_variance"] == pytest.approx(explained, rel=1e-4)


# As every algorithm.


@pytest.fixture(scope="module")
def cartpole():
    return jaxdrl.make("CartPole-v1")


def test_its_metrics_are_finite_scalars_and_one_update_counts(cartpole):
    config = with_settings(SMALL, exploration_env_steps=320.0, final_epsilon=0.2)
    agent = jaxdrl.pqn(cartpole, config)
    step, state = jax.jit(agent.train_step), jax.jit(agent.init)(jax.random.key(0))
    for update, epsilon in enumerate((1.0, 0.8, 0.6, 0.4, 0.2, 0.2)):
        state, metrics = step(state)
        assert metrics["epsilon"] == pytest.approx(epsilon)
        assert state.learner.num_updates == update + 1
    assert set(metrics) == {
        *("td_loss", "q_value", "epsilon", "explained_variance"),
        *("grad_norm", "learning_rate", "skipped_steps", "nonfinite_params"),
        *("episode_return_sum", "episode_length_sum", "num_episodes"),
        *("nonfinite_values", "nonfinite_observations", "nonfinite_rewards"),
    }
    assert all(value.shape == () and np.isfinite(value) for value in metrics.values())
    assert set(metrics) <= set(agent.metrics)
    assert agent.acting.num_steps == SMALL.num_steps


def test_a_gradient_step_costs_one_all_reduce(cartpole):
    """The program of an update has one in the loop over minibatches, and those of its metrics."""
    agent = jaxdrl.pqn(cartpole, SMALL, mesh=jaxdrl.make_mesh(2))
    state = jax.jit(agent.init)(jax.random.key(0))
    text = jax.jit(agent.train_step).lower(state).compile().as_text()
    collective = r" (?:all-reduce|all-gather|all-to-all|collective-permute)(?:-start)?\(.*"
    inside = ["/while/" in line for line in re.findall(collective, text)]
    assert inside.count(True) == 1
    assert inside.count(False) <= 2


FLOATS = {
    **{"learning_rate": 0.02, "optimizer_epsilon": 0.1, "gamma": 0.9, "q_lambda": 0.2},
    **{"initial_epsilon": 0.3, "final_epsilon": 0.9, "exploration_env_steps": 1000.0},
    **{"max_grad_norm": 0.01, "reward_scale": 0.1},
}


def test_vmap_over_its_floats_is_a_loop_over_them(cartpole):
    """Each member differs in one of them, and all take part in the result."""

    def two_updates(key, floats):
        agent = jaxdrl.pqn(cartpole, with_settings(SMALL, optimizer="adam", **floats))
        state, _ = jax.lax.scan(
            lambda state, _: (agent.train_step(state)[0], None), agent.init(key), length=2
        )
        return state.learner.params

    plain = {name: getattr(SMALL, name) for name in FLOATS} | {"exploration_env_steps": 200.0}
    members = [plain, *(plain | {name: x} for name, x in FLOATS.items())]
    stacked = {name: jnp.array([m[name] for m in members], jnp.float32) for name in FLOATS}
    together = jax.jit(jax.vmap(two_updates, in_axes=(None, 0)))(jax.random.key(1), stacked)
    alone = jax.jit(two_updates)
    for i, member in enumerate(members):
        mine = jax.tree.map(lambda x, i=i: x[i], together)
        assert relative_difference(mine, alone(jax.random.key(1), member)) < 1e-5
        first = jax.tree.map(lambda x: x[0], together)
        assert i == 0 or relative_difference(mine, first) > 1e-6, list(FLOATS)[i - 1]


def test_one_bad_reward_costs_the_steps_of_its_update_and_nothing_else():
    """Rewards are NaN at step 6 alone, in the second update of five steps."""
    agent = jaxdrl.pqn(probes.bad_reward(6), replace(SMALL, normalize_rewards=True))
    step, state = jax.jit(agent.train_step), jax.jit(agent.init)(jax.random.key(0))
    skipped = []
    for _ in range(3):
        state, metrics = step(state)
        skipped.append(int(metrics["skipped_steps"]))
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.learner.params))
    assert skipped == [0, 2, 0]


@pytest.mark.parametrize("name", ["radam", "adam"])
def test_its_optimiser_is_the_one_that_is_named(cartpole, name):
    """The first step of rectified Adam is one of plain descent, that of Adam goes by the sign."""
    config = replace(LINEAR, optimizer=name, optimizer_epsilon=1e-12, learning_rate=0.1)
    agent = jaxdrl.pqn(cartpole, config, network=linear_network())
    learner = jax.jit(agent.init)(jax.random.key(0)).learner
    after, metrics = jax.jit(agent.learn)(learner, as_transition(old_rollout()))
    moved = np.asarray(after.params - learner.params)
    if name == "adam":
        np.testing.assert_allclose(np.abs(moved), 0.1, rtol=1e-4)
    else:
        assert np.linalg.norm(moved) == pytest.approx(0.1 * float(metrics["grad_norm"]), rel=1e-4)


# What it acts with.


def test_it_explores_allowed_actions_alone_and_knows_the_best_of_them():
    """The reward of `masked` is the action, and NaN for one that is not allowed."""
    env = probes.masked(Discrete(4))
    config = with_settings(
        SMALL, num_epochs=4, learning_rate=1e-2, final_epsilon=0.5, exploration_env_steps=None
    )
    agent = jaxdrl.pqn(env, config)
    state = jaxdrl.train(agent, jax.jit(agent.init)(jax.random.key(0)), num_updates=60)
    _, trajectory = jax.jit(agent.rollout)(state.learner, state.actor)
    assert np.isfinite(trajectory.reward).all()
    best = np.where(trajectory.obs > 0, np.arange(4), 0).max(axis=-1)
    is_best = np.mean(trajectory.action == best)
    assert 0.5 < is_best < 0.95
    np.testing.assert_allclose(trajectory.value, best, atol=0.5)
    found = jaxdrl.evaluate(env, agent.policy, state.learner, jax.random.key(1), num_episodes=64)
    assert found.mean_return > 2.2  # that of the best allowed actions is about 2.6


class OwnNetwork(nn.Module):
    """Action values beside a value that is not their maximum."""

    @nn.compact
    def __call__(self, obs):
        return nn.Dense(2)(nn.tanh(nn.Dense(16)(obs))), jnp.full(obs.shape[0], 1e9)


def test_a_network_of_ones_own_gives_action_values():
    env = probes.observation_action_reward()
    config = with_settings(SMALL, num_epochs=4, learning_rate=1e-2, exploration_env_steps=1000.0)
    agent = jaxdrl.pqn(env, config, network=OwnNetwork())
    state = jaxdrl.train(agent, jax.jit(agent.init)(jax.random.key(0)), num_updates=60)
    found = jaxdrl.evaluate(env, agent.policy, state.learner, jax.random.key(1), num_episodes=64)
    assert found.mean_return == 1.0
    _, trajectory = jax.jit(agent.rollout)(state.learner, state.actor)
    np.testing.assert_allclose(trajectory.value, 1.0, atol=0.1)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (probes.multi_discrete(), "ppo or impala"),
        (probes.continuous_target(-1.0, 1.0, (2,)), "sac or td3"),
    ],
)
def test_actions_that_are_not_discrete_are_refused(env, words):
    with pytest.raises(ConfigError, match=rf"^{env.name}: actions are .* PQN learns .*{words} can"):
        jaxdrl.pqn(env, SMALL)
