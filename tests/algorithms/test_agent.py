"""Acting: what is not allowed is never taken, and greedy actions are what the environment takes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxdrl
import probe_environments as probes
from jaxdrl import Experiment, PPOConfig
from jaxdrl.algorithms.acting import evaluate_step
from jaxdrl.algorithms.agent import Agent
from jaxdrl.config.settings import with_settings
from jaxdrl.core.distributions import action_head, has_action, mask_logits
from jaxdrl.core.spaces import Box, Discrete, MultiDiscrete
from jaxdrl.errors import ConfigError
from jaxdrl.networks.build import make_network
from jaxdrl.runs.stopping import NonFiniteError

SPACES = {"discrete": Discrete(4), "multi_discrete": MultiDiscrete((2, 3))}
CONFIG = with_settings(PPOConfig(), num_envs=64, num_steps=8, num_minibatches=2, hidden_sizes=(16,))


def components(space, row):
    return np.split(row, np.cumsum(space.nvec)[:-1]) if isinstance(space, MultiDiscrete) else [row]


@pytest.fixture(scope="module", params=SPACES)
def rolled_out(request):
    """`(space, agent, state, trajectory)` of a policy that is not uniform."""
    space = SPACES[request.param]
    env = probes.masked(space)
    agent = jaxdrl.ppo(env, CONFIG)
    state = jax.jit(agent.init)(jax.random.key(0))
    params = jax.tree.map(lambda x: x * 30.0, state.learner.params["policy"])
    learner = replace(state.learner, params={**state.learner.params, "policy": params})
    actor, trajectory = jax.jit(agent.rollout)(learner, state.actor)
    state = replace(state, learner=learner, actor=actor)
    network = make_network(env.observation_space, space, CONFIG.network)
    acting = Agent(env, network, action_head(space), None)
    return space, acting, state, jax.device_get(trajectory)


def distribution_of(acting, state, obs):
    start = np.zeros(len(obs), bool)
    return evaluate_step(acting, state.learner, (), jnp.asarray(obs), start)[0]


def test_actions_that_are_not_allowed_are_never_taken(rolled_out):
    _, _, _, trajectory = rolled_out
    assert (trajectory.obs == 0).any()
    assert np.isfinite(trajectory.reward).all()  # it would be NaN


def test_log_probability_entropy_and_mode_are_those_over_the_allowed_actions(rolled_out):
    space, acting, state, trajectory = rolled_out
    obs = trajectory.obs[0]
    distribution = distribution_of(acting, state, obs)
    x = jnp.asarray(obs)
    logits = acting.network.apply(state.learner.params, (), x, np.zeros(len(obs), bool))[0]
    for i, row in enumerate(np.asarray(logits, np.float64)):
        log_prob, entropy, mode = 0.0, 0.0, []
        action = np.atleast_1d(trajectory.action[0, i])
        masks = components(space, obs[i])
        for part, mask, chosen in zip(components(space, row), masks, action, strict=True):
            allowed = np.flatnonzero(mask)
            probs = np.exp(part[allowed]) / np.exp(part[allowed]).sum()
            log_prob += np.log(probs[list(allowed).index(chosen)])
            entropy -= (probs * np.log(probs)).sum()
            mode.append(allowed[probs.argmax()])
        assert trajectory.log_prob[0, i] == pytest.approx(log_prob, abs=1e-5)
        assert distribution.entropy()[i] == pytest.approx(entropy, abs=1e-5)
        assert np.atleast_1d(distribution.mode()[i]).tolist() == mode


def test_what_is_not_allowed_has_no_probability_and_the_rest_has_all(rolled_out):
    space, acting, state, trajectory = rolled_out
    obs = trajectory.obs[0]
    distribution = distribution_of(acting, state, obs)
    sizes = space.nvec if isinstance(space, MultiDiscrete) else (space.n,)
    total = 0.0
    for action in np.ndindex(*sizes):
        taken = np.array(action if isinstance(space, MultiDiscrete) else action[0], np.int32)
        log_prob = distribution.log_prob(np.tile(taken, (len(obs), *[1] * taken.ndim)))
        chosen = np.array(action) + np.cumsum([0, *sizes[:-1]])
        np.testing.assert_array_equal(np.isneginf(log_prob), (obs[:, chosen] == 0).any(axis=1))
        total += np.exp(np.asarray(log_prob, np.float64))
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_training_under_a_mask_stays_finite_and_finds_the_best_allowed_action(space):
    env = probes.masked(space)
    agent = jaxdrl.ppo(env, replace(CONFIG, learning_rate=1e-2, entropy_coef=1e-3))
    metrics = []
    state = jax.jit(agent.init)(jax.random.key(0))
    state = jaxdrl.train(agent, state, num_updates=30, on_update=lambda _, m: metrics.append(m))
    assert all(np.isfinite(list(m.values())).all() for m in metrics)
    assert all(m["states_without_action"] == m["skipped_steps"] == 0 for m in metrics)
    _, trajectory = jax.device_get(jax.jit(agent.rollout)(state.learner, state.actor))
    best = [
        sum(int(np.flatnonzero(part).max()) for part in components(space, row))
        for row in trajectory.obs.reshape(-1, trajectory.obs.shape[-1])
    ]
    assert trajectory.reward.mean() > 0.97 * np.mean(best)


# States in which nothing is allowed.


def test_a_state_without_an_allowed_action_is_counted_and_keeps_numbers_finite():
    agent = jaxdrl.ppo(probes.masked(Discrete(4), num_stuck=100), CONFIG)
    state = jax.jit(agent.init)(jax.random.key(0))
    _, trajectory = jax.jit(agent.rollout)(state.learner, state.actor)
    _, metrics = jax.jit(agent.learn)(state.learner, trajectory)
    num_stuck = (np.asarray(trajectory.obs) == 0).all(axis=-1).sum()
    assert int(metrics["states_without_action"]) == num_stuck > 0
    assert np.isfinite(trajectory.log_prob).all()
    assert metrics["skipped_steps"] == 0


def test_a_run_stops_at_a_state_without_an_allowed_action(tmp_path):
    experiment = Experiment(
        "mine", total_env_steps=5_000, run_dir=tmp_path / "run", algorithm=CONFIG
    )
    env = probes.masked(Discrete(4), num_stuck=100)
    with pytest.raises(NonFiniteError) as caught:
        jaxdrl.run(experiment, env=env)
    assert "states of update 1 the environment's action_mask allowed no action" in str(caught.value)


def test_masks_component_by_component():
    space = MultiDiscrete((2, 3))
    logits = jnp.arange(10.0).reshape(2, 5)
    allowed = jnp.array([[1, 0, 0, 1, 1], [0, 0, 1, 0, 0]], bool)
    masked = mask_logits(logits, allowed, space)
    assert np.isneginf(masked).tolist() == [[0, 1, 1, 0, 0], [0, 0, 0, 1, 1]]
    assert masked[1].tolist() == [5.0, 6.0, 7.0, -np.inf, -np.inf]
    assert has_action(allowed, space).tolist() == [True, False]


@pytest.mark.parametrize(
    ("space", "mask", "message"),
    [
        (Discrete(4), lambda obs: obs[:3] > 0, "gives bool[3]; must be bool[4] for Discrete(n=4"),
        (Discrete(4), lambda obs: obs, "gives float32[4]; must be bool[4] for Discrete(n=4"),
        (Box(0.0, 1.0, (4,)), lambda obs: obs > 0, "but actions are Box"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(space, mask, message):
    env = probes.masked(Discrete(4))._replace(action_space=space, action_mask=mask)
    if isinstance(space, Box):
        step = lambda key, obs, action, params: probes.masked(Discrete(4)).step(  # noqa: E731
            key, obs, jnp.zeros((), jnp.int32), params
        )
        env = env._replace(step=step)
    with pytest.raises(ConfigError) as caught:
        jaxdrl.ppo(env, CONFIG)
    assert "masked: action_mask " in str(caught.value)
    assert message in str(caught.value)


class Steady(nn.Module):
    """The same mean for every observation."""

    mean: float

    @nn.compact
    def __call__(self, obs):
        mean = self.param("mean", nn.initializers.constant(self.mean), (1,))
        mean = jnp.broadcast_to(mean[None], (obs.shape[0], 1))
        return (mean, jnp.full_like(mean, -15.0)), mean[:, 0]


@pytest.mark.parametrize(("mean", "action"), [(0.5, 1.0), (3.0, 2.0), (-3.0, -2.0)])
@pytest.mark.parametrize("greedy", [True, False])
def test_actions_are_in_the_units_and_bounds_of_the_environment(mean, action, greedy):
    """The torque is from -2 to 2; a mean counts in half-widths, and samples are close to it."""
    env = jaxdrl.make("Pendulum-v1")
    own = jaxdrl.ppo(env, PPOConfig(num_envs=8, num_steps=8), network=Steady(mean))
    learner = jax.jit(own.init)(jax.random.key(0)).learner
    obs, start, key = np.zeros((3, 3), np.float32), np.ones(3, bool), jax.random.key(1)
    found, _ = own.policy.act(learner, (), obs, start, key, greedy=greedy)
    np.testing.assert_allclose(found, np.full((3, 1), action), rtol=1e-5)
