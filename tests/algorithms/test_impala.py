"""IMPALA: its gradient against NumPy, what it shares with every algorithm, and that it solves."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdrl
import probe_environments as probes
from jaxdrl import IMPALAConfig, with_settings
from jaxdrl.algorithms import impala as module
from jaxdrl.core.types import Network

SMALL = with_settings(
    IMPALAConfig(), num_envs=16, num_steps=5, num_minibatches=2, hidden_sizes=(8,)
)


def relative_difference(params, others):
    pairs = list(zip(*map(jax.tree.leaves, (params, others)), strict=True))
    difference = sum(np.sum((np.asarray(x) - y) ** 2) for x, y in pairs)
    return np.sqrt(difference / sum(np.sum(np.asarray(y) ** 2) for _, y in pairs))


# The gradient of its loss, for a linear network with a softmax.

NUM_STEPS, NUM_ENVS, NUM_FEATURES, NUM_ACTIONS = 6, 8, 4, 2
LINEAR = with_settings(
    IMPALAConfig(),
    num_envs=NUM_ENVS,
    num_steps=NUM_STEPS,
    num_minibatches=1,
    gamma=0.9,
    vtrace_lambda=0.8,
    rho_clip=1.3,
    c_clip=0.8,
    value_coef=0.7,
    entropy_coef=0.05,
)


def linear_network():
    def apply(params, carry, obs, start):
        del start
        return obs @ params["logits"], obs @ params["value"], carry

    def init(key, obs):
        del obs
        shape = (NUM_FEATURES, NUM_ACTIONS)
        return {"logits": jax.random.normal(key, shape), "value": jnp.ones(NUM_FEATURES)}

    return Network(lambda num_envs: (), init, apply)


def old_rollouts(seed=0):
    """Arrays `[T, N]` of a policy that is not the learner's, with both kinds of ends."""
    rng = np.random.default_rng(seed)
    shape = (NUM_STEPS, NUM_ENVS)
    floats = {name: rng.normal(size=shape) for name in ("next_value", "reward")}
    terminated = rng.random(shape) < 0.2
    return floats | {
        "obs": rng.normal(size=(*shape, NUM_FEATURES)),
        "action": rng.integers(0, NUM_ACTIONS, shape),
        "log_prob": -0.7 + 0.5 * rng.normal(size=shape),
        "terminated": terminated,
        "truncated": ~terminated & (rng.random(shape) < 0.2),
    }


def gradient_by_hand(config, params, data):
    """Float64, with V-trace as sums over products; also how often a ratio was clipped."""
    obs, action, ended = data["obs"], data["action"], data["terminated"] | data["truncated"]
    logits = obs @ params["logits"]
    share = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    chosen = np.eye(NUM_ACTIONS)[action]
    ratio = (share * chosen).sum(axis=-1) / np.exp(data["log_prob"])
    rho, c = np.minimum(ratio, config.rho_clip), np.minimum(ratio, config.c_clip)
    value = obs @ params["value"]
    # The truncated steps and the last have only the value that they came with.
    following = data["next_value"].copy()
    inside = ~data["truncated"][:-1]
    following[:-1][inside] = value[1:][inside]
    after = np.where(data["terminated"], 0.0, following)
    error = rho * (data["reward"] + config.gamma * after - value)
    stop = ended.copy()
    stop[-1] = True
    target, discount = value.copy(), config.gamma * config.vtrace_lambda
    for s, env in np.ndindex(value.shape):
        for t in range(s, s + int(np.argmax(stop[s:, env])) + 1):
            target[s, env] += np.prod(discount * c[s:t, env]) * error[t, env]
    mixed = (1 - config.vtrace_lambda) * following
    mixed[:-1] += config.vtrace_lambda * target[1:]
    bootstrap = np.where(stop, following, mixed)
    q = data["reward"] + config.gamma * np.where(data["terminated"], 0.0, bootstrap)
    weight = (rho * (q - value))[..., None]
    entropy = -(share * np.log(share)).sum(axis=-1, keepdims=True)
    of_entropy = -share * (np.log(share) + entropy)
    of_logits = -weight * (chosen - share) - config.entropy_coef * of_entropy
    of_value = config.value_coef * (value - target)
    gradient = {
        "logits": np.einsum("tnf,tna->fa", obs, of_logits) / value.size,
        "value": np.einsum("tnf,tn->f", obs, of_value) / value.size,
    }
    return gradient, [(ratio > clip).mean() for clip in (config.rho_clip, config.c_clip)]


def test_the_gradient_of_its_loss_is_that_of_the_paper():
    agent = jaxdrl.impala(jaxdrl.make("CartPole-v1"), LINEAR, network=linear_network())
    made = agent.learn.args[0]
    params = jax.device_get(linear_network().init(jax.random.key(0), None))
    data = old_rollouts()
    expected, clipped = gradient_by_hand(LINEAR, jax.tree.map(np.float64, params), data)
    assert all(0.1 < share < 0.9 for share in clipped)

    kinds = {"action": np.int32, "terminated": bool, "truncated": bool}
    rows = {
        name: np.moveaxis(x, 1, 0).astype(kinds.get(name, np.float32)) for name, x in data.items()
    }
    unused = np.full((NUM_ENVS, NUM_STEPS), np.nan, np.float32)
    rollouts = module.Rollouts(
        **rows, value=unused, target=unused, episode_start=np.isinf(unused), carry=()
    )
    slope = jax.grad(lambda params: module.loss(made, None, params, rollouts), has_aux=True)
    gradient, _ = jax.jit(slope)(params)
    for name, x in expected.items():
        np.testing.assert_allclose(gradient[name], x, rtol=1e-4, atol=1e-6)


# As every algorithm.


@pytest.fixture(scope="module")
def cartpole():
    return jaxdrl.make("CartPole-v1")


def test_its_metrics_are_finite_scalars_and_one_update_counts(cartpole):
    """The second of its two gradient steps sees another policy than the one that acted."""
    config = with_settings(SMALL, learning_rate=0.1)
    agent = jaxdrl.impala(cartpole, config, mesh=jaxdrl.make_mesh(2))
    state, metrics = jax.jit(agent.train_step)(jax.jit(agent.init)(jax.random.key(0)))
    assert set(metrics) == {
        *("policy_loss", "value_loss", "entropy", "approx_kl", "explained_variance"),
        *("grad_norm", "learning_rate", "skipped_steps", "nonfinite_params"),
        *("episode_return_sum", "episode_length_sum", "num_episodes"),
        *("nonfinite_values", "nonfinite_observations", "nonfinite_rewards"),
    }
    assert all(value.shape == () and np.isfinite(value) for value in metrics.values())
    assert set(metrics) <= set(agent.metrics)
    assert state.learner.num_updates == 1
    assert metrics["approx_kl"] > 1e-4


def test_devices_and_what_saves_memory_change_nothing_but_rounding(cartpole):
    after = []
    plain = with_settings(SMALL, num_envs=32, memory="gru", memory_size=8)
    saving = with_settings(plain, num_accumulation_steps=2, remat=True)
    for config, num_devices in ((plain, 1), (saving, 4)):
        agent = jaxdrl.impala(cartpole, config, mesh=jaxdrl.make_mesh(num_devices))
        state, _ = jax.jit(agent.train_step)(jax.jit(agent.init)(jax.random.key(0)))
        after.append(jax.device_get(state.learner.params))
    assert relative_difference(*after) < 1e-5


FLOATS = {
    **{"learning_rate": 0.02, "rmsprop_decay": 0.8, "optimizer_epsilon": 0.1, "gamma": 0.9},
    **{"vtrace_lambda": 0.5, "rho_clip": 0.5, "c_clip": 0.6, "value_coef": 0.1},
    **{"entropy_coef": 0.3, "max_grad_norm": 0.01},
}


def test_vmap_over_its_floats_is_a_loop_over_them(cartpole):
    """Each member differs in one of them, and all take part in the result."""

    def one_update(key, floats):
        agent = jaxdrl.impala(cartpole, with_settings(SMALL, **floats))
        return agent.train_step(agent.init(key))[0].learner.params

    names, plain = list(FLOATS), {name: getattr(SMALL, name) for name in FLOATS}
    members = [plain, *(plain | {name: FLOATS[name]} for name in names)]
    stacked = {name: jnp.array([m[name] for m in members], jnp.float32) for name in names}
    together = jax.jit(jax.vmap(one_update, in_axes=(None, 0)))(jax.random.key(1), stacked)
    alone = jax.jit(one_update)
    for i, member in enumerate(members):
        mine = jax.tree.map(lambda x, i=i: x[i], together)
        assert relative_difference(mine, alone(jax.random.key(1), member)) < 1e-5
        first = jax.tree.map(lambda x: x[0], together)
        assert i == 0 or relative_difference(mine, first) > 1e-6, names[i - 1]


def test_one_bad_reward_costs_the_steps_of_its_update_and_nothing_else():
    """Rewards are NaN at step 6 alone, in the second update of five steps."""
    agent = jaxdrl.impala(probes.bad_reward(6), replace(SMALL, normalize_rewards=True))
    step, state = jax.jit(agent.train_step), jax.jit(agent.init)(jax.random.key(0))
    skipped = []
    for _ in range(3):
        state, metrics = step(state)
        skipped.append(int(metrics["skipped_steps"]))
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.learner.params))
    assert skipped == [0, 2, 0]


def test_learning_from_the_rollout_of_an_older_policy(cartpole):
    """What actors outside its program do."""
    agent = jaxdrl.impala(cartpole, SMALL)
    state = jax.jit(agent.init)(jax.random.key(0))
    newer = jax.tree.map(lambda x: x + 0.3 * jnp.cos(1e3 * x), state.learner.params)
    _, trajectory = jax.jit(agent.rollout)(state.learner, state.actor)
    _, metrics = jax.jit(agent.learn)(replace(state.learner, params=newer), trajectory)
    assert metrics["approx_kl"] > 1e-3
    assert agent.acting.num_steps == SMALL.num_steps


def test_its_optimiser_is_the_one_that_is_named_or_given(cartpole):
    for settings, kind in (({}, "ScaleByRms"), ({"optimizer": "adam"}, "ScaleByAdam")):
        agent = jaxdrl.impala(cartpole, with_settings(SMALL, **settings))
        state = jax.eval_shape(agent.init, jax.random.key(0))
        assert kind in repr(state.learner.opt_state)
    still = jaxdrl.impala(cartpole, SMALL, optimizer=optax.sgd(0.0))
    state = jax.jit(still.init)(jax.random.key(0))
    before = jax.device_get(state.learner.params)
    after, metrics = jax.jit(still.train_step)(state)
    assert relative_difference(after.learner.params, before) == 0.0
    assert "learning_rate" not in metrics
