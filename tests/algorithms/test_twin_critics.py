"""What SAC and TD3 share: values of probe environments, devices, members, and what they refuse."""

import re
from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdrl
import probe_environments as probes
from jaxdrl import SACConfig, TD3Config, with_settings
from jaxdrl.algorithms.build import build
from jaxdrl.core.spaces import Box
from jaxdrl.errors import ConfigError
from jaxdrl.networks.actor_critic import ActorCritic

SMALL = {
    **{"num_envs": 8, "num_steps": 4, "num_gradient_steps": 4, "batch_size": 16, "n_step": 2},
    **{"buffer_size": 256, "learning_starts": 32, "hidden_sizes": (8,), "num_shards": 4},
}
CONFIGS = {
    "sac": with_settings(SACConfig(), **SMALL),
    "td3": with_settings(TD3Config(), **SMALL),
    "td3 with atoms": with_settings(
        TD3Config(), **SMALL, num_atoms=51, v_min=-2.0, v_max=12.0, critic_layer_norm=True
    ),
}
UNIT = Box(-1.0, 1.0, (1,))
SLOW = pytest.mark.slow
FEW = ["sac", *(pytest.param(name, marks=SLOW) for name in CONFIGS if name != "sac")]
"""All of them, of which one is not left to the slow tests."""
SOME = ["sac", "td3", pytest.param("td3 with atoms", marks=SLOW)]


def trained(env, config, num_updates):
    algorithm = build(env, config)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    return algorithm, jaxdrl.train(algorithm, state, num_updates=num_updates)


def values_of(algorithm, learner, obs):
    """The lower critic's value of the greedy action, `[N]`."""
    made = algorithm.learn.args[0].loss.args[0]
    mean = made.parts.actor(learner.params["actor"], obs)
    mean = mean[0] if isinstance(mean, tuple) else mean
    outputs = made.parts.critics(learner.params["critic"], obs, jnp.tanh(mean))
    if outputs.ndim == 3:
        z = np.linspace(made.config.v_min, made.config.v_max, outputs.shape[-1])
        outputs = jax.nn.softmax(outputs) @ z
    return np.asarray(outputs.min(axis=0))


PROBE = {
    **{"gamma": 0.9, "num_steps": 10, "num_gradient_steps": 50, "batch_size": 64},
    **{"buffer_size": 800, "learning_starts": 400, "learning_rate": 1e-5, "hidden_sizes": (32,)},
    **{"critic_learning_rate": 1e-2, "target_update_rate": 0.05, "n_step": 3},
}


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        pytest.param(name, ends, marks=SLOW if name == "td3 with atoms" else ())
        for name in CONFIGS
        for ends in ("truncated", "terminated")
    ],
)
def test_the_value_after_an_end_is_that_of_its_kind(name, ends):
    """10 at every time where a limit cuts the episode, less and less before a real end."""
    num_updates = 60
    config = with_settings(CONFIGS[name], **PROBE, anneal_env_steps=80.0 * num_updates)
    if name == "sac":  # no reward for entropy
        config = replace(config, learn_temperature=False, initial_temperature=1e-9)
    env = probes.constant_reward(5, ends, UNIT)
    algorithm, state = trained(env, config, num_updates)
    found = values_of(algorithm, state.learner, jnp.eye(5))
    exact = (1 - 0.9 ** np.arange(5.0, 0.0, -1.0)) / 0.1 if ends == "terminated" else np.full(5, 10)
    np.testing.assert_allclose(found, exact, rtol=1e-3)


@pytest.mark.parametrize("name", FEW)
def test_it_finds_actions_of_any_bounds(name):
    settings = {"batch_size": 64, "num_gradient_steps": 32, "learning_rate": 3e-3, "n_step": 1}
    config = with_settings(CONFIGS[name], **settings, critic_learning_rate=3e-3)
    if name == "sac":
        config = with_settings(config, temperature_learning_rate=1e-2, target_entropy=-3.0)
    env = probes.continuous_target(np.array([-3.0, 1.0]), np.array([1.0, 2.0]), (2,))
    config = with_settings(config, hidden_sizes=(32,), buffer_size=4096)
    algorithm, state = trained(env, config, 100)
    key = jax.random.key(1)
    result = jaxdrl.evaluate(env, algorithm.policy, state.learner, key, num_episodes=64)
    assert result.mean_return > -0.05


@lru_cache
def pendulum():
    return jaxdrl.make("Pendulum-v1")


@pytest.mark.parametrize("name", SOME)
def test_its_metrics_are_finite_scalars_and_it_learns_from_its_start_on(name):
    """32 of 64 environment steps come before the first gradient step."""
    algorithm = build(pendulum(), replace(CONFIGS[name], learning_starts=64))
    step, state = jax.jit(algorithm.train_step), jax.jit(algorithm.init)(jax.random.key(0))
    before = jax.device_get(state.learner)
    state, metrics = step(state)
    assert set(metrics) <= set(algorithm.metrics)
    assert metrics["grad_norm"] == metrics["value_loss"] == 0
    assert all(map(np.array_equal, *map(jax.tree.leaves, (state.learner.params, before.params))))
    state, metrics = step(state)
    assert all(value.shape == () and np.isfinite(value) for value in metrics.values())
    assert metrics["grad_norm"] > 0
    for part in state.learner.params:
        old, new = (jax.tree.leaves(x[part]) for x in (before.params, state.learner.params))
        assert not all(map(np.array_equal, old, new)), part
    targets = jax.tree.leaves(state.learner.target_params)
    assert not all(map(np.array_equal, jax.tree.leaves(before.target_params), targets))


@pytest.mark.parametrize("name", SOME)
def test_a_gradient_that_is_not_finite_moves_no_part(name):
    env = probes.continuous_target(-1.0, 1.0, (1,))

    def step(key, obs, action, params):
        obs, state, _, *rest = env.step(key, obs, action, params)
        return obs, state, jnp.float32(jnp.nan), *rest

    algorithm = build(env._replace(step=step), CONFIGS[name])
    start = jax.jit(algorithm.init)(jax.random.key(0))
    state, metrics = jax.jit(algorithm.train_step)(start)
    assert metrics["skipped_steps"] == 4
    for field in ("params", "opt_state"):
        old, new = (jax.tree.leaves(getattr(x.learner, field)) for x in (start, state))
        assert all(map(np.array_equal, old, new))


@pytest.mark.parametrize("name", SOME)
def test_a_gradient_step_costs_one_all_reduce(name):
    """Beside those of the metrics of an update, which are sums over all of its steps."""

    def num(config):
        algorithm = build(pendulum(), config, mesh=jaxdrl.make_mesh(2))
        state = jax.eval_shape(algorithm.init, jax.random.key(0))
        text = jax.jit(algorithm.learn).lower(
            state.learner, jax.eval_shape(algorithm.rollout, state.learner, state.actor)[1]
        )
        return len(re.findall(r" all-reduce(?:-start)?\(", text.compile().as_text()))

    # The loop over gradient steps is in the program once, and the other is of the metrics.
    assert num(CONFIGS[name]) == 2
    assert num(replace(CONFIGS[name], num_gradient_steps=6)) == 2


FLOATS = {
    "sac": {
        **{"learning_rate": 0.02, "critic_learning_rate": 0.03, "temperature_learning_rate": 0.5},
        **{"adam_epsilon": 0.1, "gamma": 0.5, "reward_scale": 0.3, "target_update_rate": 0.5},
        **{"initial_temperature": 0.2, "target_entropy": 0.3, "max_grad_norm": 0.01},
    },
    "td3": {
        **{"learning_rate": 0.02, "critic_learning_rate": 0.03, "adam_epsilon": 0.1, "gamma": 0.5},
        **{"reward_scale": 0.3, "target_update_rate": 0.5, "min_exploration_noise": 0.2},
        **{"max_exploration_noise": 0.9, "target_noise": 0.9, "target_noise_clip": 0.1},
        "max_grad_norm": 0.01,
    },
    "td3 with atoms": {"v_min": -9.0, "v_max": 1.0},
}


@pytest.mark.parametrize("name", FEW)
def test_vmap_over_its_floats_is_a_loop_over_them(name):
    """Each member differs in one of them, and all take part in the result."""
    config, env = replace(CONFIGS[name], max_grad_norm=10.0), pendulum()

    def two_updates(key, floats):
        algorithm = build(env, with_settings(config, **floats))
        state, _ = jax.lax.scan(
            lambda state, _: (algorithm.train_step(state)[0], None), algorithm.init(key), length=2
        )
        return state.learner.params

    names, plain = list(FLOATS[name]), {x: getattr(config, x) for x in FLOATS[name]}
    members = [plain, *(plain | {x: FLOATS[name][x]} for x in names)]
    stacked = {x: jnp.array([m[x] for m in members], jnp.float32) for x in names}
    together = jax.jit(jax.vmap(two_updates, in_axes=(None, 0)))(jax.random.key(1), stacked)
    alone = jax.jit(two_updates)
    for i, member in enumerate(members):
        mine = jax.tree.leaves(jax.tree.map(lambda x, i=i: x[i], together))
        for one, other in zip(mine, jax.tree.leaves(alone(jax.random.key(1), member)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
        first = jax.tree.leaves(jax.tree.map(lambda x: x[0], together))
        change = max(np.abs(x - y).max() for x, y in zip(mine, first, strict=True))
        assert i == 0 or change > 1e-6, names[i - 1]


@pytest.mark.parametrize("name", ["sac", "td3"])
def test_what_it_cannot_learn_with_is_refused(name):
    config, words = CONFIGS[name], name.upper()
    for space in (Box(-np.inf, np.inf, (1,)), Box(np.array([-1.0, -np.inf]), np.ones(2), (2,))):
        env = probes.constant_reward(5, "truncated", space)
        with pytest.raises(ConfigError, match=f"^constant_reward: {words} needs actions with fin"):
            build(env, config)
    with pytest.raises(ConfigError, match=rf"^action_reward: {words} needs .* these are Discrete"):
        build(probes.action_reward(), config)
    env = probes.continuous_target(-1.0, 1.0, (1,))
    network = ActorCritic(env.action_space, (4,), "tanh", (), False, 0.0)
    with pytest.raises(ConfigError, match=f"^network: {words} makes its own"):
        build(env, config, network=network)
    with pytest.raises(ConfigError, match=f"^optimizer: {words} makes its own"):
        build(env, config, optimizer=optax.adam(1e-3))
