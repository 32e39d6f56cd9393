"""PPO as a whole: pure, composable, and learning from what it says it does."""

import re
from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.extend.core import jaxprs_in_params

import jaxdrl
import probe_environments as probes
from jaxdrl import PPOConfig
from jaxdrl.algorithms import optimizers
from jaxdrl.config.settings import with_settings
from jaxdrl.core.types import TrainState
from jaxdrl.errors import ConfigError
from jaxdrl.networks.actor_critic import from_module
from jaxdrl.runs.metrics_log import sha256

SMALL = with_settings(
    PPOConfig(), num_envs=16, num_steps=4, num_epochs=2, num_minibatches=2, hidden_sizes=(8,)
)


def state_after(agent, num_updates, seed=0):
    state = jax.jit(agent.init)(jax.random.key(seed))
    return jaxdrl.train(agent, state, num_updates=num_updates)


def relative_difference(params, others):
    squares = jax.tree.map(lambda x, y: (np.sum((x - y) ** 2), np.sum(y**2)), params, others)
    pairs = jax.tree.leaves(squares, is_leaf=lambda x: isinstance(x, tuple))
    difference, norm = np.sum(np.asarray(pairs), axis=0)
    return np.sqrt(difference / norm)


def collectives_by_loop_depth(hlo):
    """Names of the collectives in a compiled program, by how many loops they are inside."""
    found = re.findall(r"^(ENTRY )?%?([\w.\-]+) \(.*?\{$(.*?)^\}", hlo, re.S | re.M)
    bodies = {name: body for _, name, body in found}
    (entry,) = [name for is_entry, name, _ in found if is_entry]
    kinds = r" = .*?\s(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)"
    depths: dict[int, list[str]] = {}
    waiting = [(entry, 0)]
    while waiting:
        name, depth = waiting.pop()
        body = bodies[name]
        depths.setdefault(depth, []).extend(re.findall(kinds + r"(?:-start)?\(", body))
        for loop, called in re.findall(r"(body=|calls=|to_apply=)%?([\w.\-]+)", body):
            waiting.append((called, depth + (loop == "body=")))
    return {depth: sorted(names) for depth, names in depths.items() if names}


def test_fast_mode_needs_one_all_reduce_a_gradient_step_and_no_other_collective(step):
    """In the minibatch loop the gradient; an epoch 2 for the advantages; an update 2 for metrics.

    The two outside the loops are those of the episode sums with the first moments, and of the
    second moments.
    """
    reduces = collectives_by_loop_depth(step.as_text())
    assert reduces == {0: ["all-reduce"] * 2, 1: ["all-reduce"] * 2, 2: ["all-reduce"]}


@pytest.fixture(scope="module")
def cartpole():
    return jaxdrl.make("CartPole-v1")


@pytest.fixture(scope="module")
def agent(cartpole):
    return jaxdrl.ppo(cartpole, SMALL, mesh=jaxdrl.make_mesh(8))


@pytest.fixture(scope="module")
def init(agent):
    return jax.jit(agent.init)


@pytest.fixture(scope="module")
def step(agent, init):
    """What `jit_step` compiles, which takes the arrays of a state over."""
    return jaxdrl.jit_step(agent).lower(init(jax.random.key(0))).compile()


@pytest.fixture(scope="module")
def after_one(init, step):
    """`(state, metrics)` after one update."""
    return step(init(jax.random.key(0)))


def test_the_learner_is_replicated_and_the_actor_sharded_along_environments(after_one):
    state, _ = after_one
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.learner))
    for leaf in jax.tree.leaves(state.actor):
        assert leaf.shape[0] == 16
        assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {2}
    assert state.actor.obs[3].shape == (4,)


def test_metrics_are_a_flat_dictionary_of_finite_scalars(after_one):
    _, metrics = after_one
    assert set(metrics) == {
        *("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction"),
        *("explained_variance", "grad_norm", "learning_rate"),
        *("episode_return_sum", "episode_length_sum", "num_episodes", "skipped_steps"),
        *("nonfinite_values", "nonfinite_observations", "nonfinite_rewards", "nonfinite_params"),
    }
    for value in metrics.values():
        assert value.shape == ()
        assert np.isfinite(value)


def test_a_step_gives_back_the_types_that_it_took(agent):
    """Else the second call would compile again."""
    state = jax.eval_shape(agent.init, jax.random.key(0))
    after, _ = jax.eval_shape(agent.train_step, state)
    types = [
        jax.tree.map(lambda x: (x.shape, str(x.dtype), x.weak_type), tree)
        for tree in (state, after)
    ]
    assert types[0] == types[1]


def test_train_step_is_learn_after_rollout(agent, init, after_one):
    state = init(jax.random.key(0))
    actor, trajectory = jax.jit(agent.rollout)(state.learner, state.actor)
    assert trajectory.reward.shape == (4, 16)
    learner, _ = jax.jit(agent.learn)(state.learner, trajectory)
    state = TrainState(learner=learner, actor=actor)
    stepped, _ = after_one
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(stepped), strict=True):
        if not jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_devices", [pytest.param(None, marks=pytest.mark.slow), 8])
def test_vmap_over_seeds_and_learning_rates_is_a_loop_over_them(cartpole, num_devices):
    mesh = None if num_devices is None else jaxdrl.make_mesh(num_devices)

    def one_update(key, learning_rate):
        config = replace(SMALL, learning_rate=learning_rate)
        agent = jaxdrl.ppo(cartpole, config, mesh=mesh)
        return agent.train_step(agent.init(key))[0].learner.params

    rates = jnp.array([1e-4, 1e-3, 1e-2])
    mapped = jax.jit(jax.vmap(one_update))
    together = jax.device_get(mapped(jax.random.split(jax.random.key(1), 3), rates))
    alone = jax.jit(one_update)
    keys = jax.random.split(jax.random.key(1), 3)
    for i in range(3):
        expected = jax.device_get(alone(keys[i], rates[i]))
        assert relative_difference(jax.tree.map(lambda x, i=i: x[i], together), expected) < 1e-5


def test_scan_over_updates_is_as_many_calls(agent, init, step):
    def two(state):
        return jax.lax.scan(lambda state, _: agent.train_step(state), state, length=2)

    state, metrics = jax.jit(two)(init(jax.random.key(0)))
    assert metrics["policy_loss"].shape == (2,)
    called = step(step(init(jax.random.key(0)))[0])[0]
    difference = relative_difference(
        jax.device_get(state.learner.params), jax.device_get(called.learner.params)
    )
    assert difference < 1e-5


def test_65536_environments_on_8_devices(cartpole):
    config = PPOConfig(num_envs=65_536, num_steps=2, num_epochs=1, num_minibatches=2)
    agent = jaxdrl.ppo(cartpole, config, mesh=jaxdrl.make_mesh(8))
    state = state_after(agent, 2)
    assert state.actor.obs.shape == (65_536, 4)
    assert len({shard.device for shard in state.actor.obs.addressable_shards}) == 8


def test_memory_is_flat_in_the_length_of_the_run(init, step):
    state = init(jax.random.key(0))
    sizes = []
    for _ in range(4):
        state, metrics = step(state)
        jax.block_until_ready(metrics)
        sizes.append(sum(array.nbytes for array in jax.live_arrays()))
    assert sizes[1] == sizes[2] == sizes[3]


# The parts of the update.


def test_the_learning_rate_is_annealed_linearly_and_stays_at_its_end():
    config = replace(SMALL, learning_rate=0.4, final_learning_rate=0.1, anneal_env_steps=640.0)
    updates = jnp.array([0, 5, 10, 11, 1000])  # of 64 steps each
    rates = jax.vmap(lambda u: optimizers.learning_rate(config, u))(updates)
    np.testing.assert_allclose(rates, [0.4, 0.25, 0.1, 0.1, 0.1], rtol=1e-6)
    assert optimizers.learning_rate(replace(config, anneal_env_steps=None), 5) == 0.4


def test_adam_clips_by_the_global_norm_and_takes_the_rate_of_the_update():
    gradient = {"a": jnp.array([3.0, 4.0])}
    optimizer = optimizers.adam(1.0, SMALL.adam_epsilon).transformation
    expected = optax.adam(0.5, eps=SMALL.adam_epsilon)
    clipped = {"a": jnp.array([0.6, 0.8])}
    moment = 0.1 * clipped["a"]  # of all parameters as one vector
    with jax.numpy_dtype_promotion("standard"):
        updates, state = optimizer.update(gradient, optimizer.init(gradient), learning_rate=0.5)
        reference, _ = expected.update(clipped, expected.init(clipped))
    np.testing.assert_allclose(updates["a"], reference["a"], rtol=1e-6)
    np.testing.assert_allclose(optax.tree.get(state, "mu"), moment, rtol=1e-6)


def test_statistics_are_those_of_every_observation_and_return_of_all_environments():
    env = jaxdrl.make("Pendulum-v1", max_steps_in_episode=3)
    config = replace(SMALL, normalize_observations=True, normalize_rewards=True, gamma=0.9)
    agent = jaxdrl.ppo(env, config, mesh=jaxdrl.make_mesh(4))
    rollout, learn = jax.jit(agent.rollout), jax.jit(agent.learn)
    state = jax.jit(agent.init)(jax.random.key(0))
    seen, returns = [], []
    running = np.zeros(16)
    for _ in range(2):
        actor, trajectory = rollout(state.learner, state.actor)
        learner, _ = learn(state.learner, trajectory)
        state = TrainState(learner=learner, actor=actor)
        seen.append(np.asarray(trajectory.obs, np.float64).reshape(-1, 3))
        for t in range(config.num_steps):
            running = np.asarray(trajectory.reward[t], np.float64) + 0.9 * running
            returns.append(running)
            running = running * ~np.asarray(trajectory.truncated[t] | trajectory.terminated[t])
    obs = np.concatenate(seen)
    np.testing.assert_allclose(learner.obs_statistics.mean, obs.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(learner.obs_statistics.variance, obs.var(axis=0), rtol=1e-4)
    np.testing.assert_allclose(
        learner.return_statistics.variance, np.concatenate(returns).var(), rtol=1e-4
    )
    assert learner.obs_statistics.count == len(obs)


def finite(tree):
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return all(np.isfinite(leaf).all() for leaf in leaves)


def test_one_bad_reward_costs_the_steps_of_its_update_and_nothing_else():
    """Rewards are NaN at step 6 alone, in the second update of four steps."""
    config = replace(SMALL, normalize_observations=True, normalize_rewards=True)
    agent = jaxdrl.ppo(probes.bad_reward(6), config, mesh=jaxdrl.make_mesh(2))
    step, state = jax.jit(agent.train_step), jax.jit(agent.init)(jax.random.key(0))
    seen = []
    for _ in range(4):
        learnt = (state.learner.params, state.learner.opt_state)
        before = sha256(jax.device_get(learnt))
        state, metrics = step(state)
        seen.append((int(metrics["skipped_steps"]), int(metrics["nonfinite_rewards"])))
        assert metrics["nonfinite_values"] == metrics["nonfinite_rewards"]
        assert finite((state.learner, state.actor, metrics))
        moved = before != sha256((state.learner.params, state.learner.opt_state))
        assert moved == (metrics["skipped_steps"] == 0)
    assert seen == [(0, 0), (4, 16), (0, 0), (0, 0)]


HUGE = [1e16, 3e19, -3e38, 2e15, 1e25, -1e17]


def test_huge_numbers_are_counted_and_spoil_nothing():
    """Six of 16 steps give a huge observation and reward, four of them one whole update."""
    numbers = np.arange(16, dtype=np.float32) % 3 - 1.0
    at = [1, 4, 5, 6, 7, 11]
    numbers[at] = HUGE
    config = replace(SMALL, normalize_observations=True, normalize_rewards=True, gamma=0.5)
    env = probes.sequence(numbers)
    agent = jaxdrl.ppo(env, config, mesh=jaxdrl.make_mesh(2))
    step, state = jax.jit(agent.train_step), jax.jit(agent.init)(jax.random.key(0))
    counts = []
    for _ in range(4):
        before = sha256(state.learner.params)
        state, metrics = step(state)
        counts.append((int(metrics["nonfinite_observations"]), int(metrics["nonfinite_rewards"])))
        assert finite((state.learner, state.actor.discounted_return, metrics))
        assert metrics["skipped_steps"] == 0  # since rewards and observations are clipped
        assert sha256(state.learner.params) != before
    assert counts == [(16, 16), (64, 64), (16, 16), (0, 0)]
    returns, seen, total, mean = [], [], 0.0, 0.0
    for update in numbers.reshape(4, 4):
        usable = np.abs(update) < 1e15
        seen += np.where(usable, update, mean).tolist()
        mean = np.mean(seen)
        for reward in np.where(usable, update, 0.0):
            total = 0.5 * total + reward
            returns.append(total)
    statistics = state.learner.obs_statistics
    np.testing.assert_allclose(statistics.mean, [mean], atol=1e-6)
    np.testing.assert_allclose(statistics.variance, [np.var(seen)], rtol=1e-5)
    np.testing.assert_allclose(state.learner.return_statistics.variance, np.var(returns), rtol=1e-5)


def test_returns_that_only_add_up_to_huge_ones_are_cut_and_counted():
    """Rewards of 6e14 without a discount: the second of them goes beyond 1e15."""
    config = replace(SMALL, normalize_rewards=True, gamma=1.0)
    agent = jaxdrl.ppo(probes.sequence(np.full(8, 6e14, np.float32)), config)
    step, state = jax.jit(agent.train_step), jax.jit(agent.init)(jax.random.key(0))
    for num_bad in (3, 4):
        state, metrics = step(state)
        assert metrics["nonfinite_rewards"] == 16 * num_bad
        assert finite((state.learner, state.actor.discounted_return))
    kept = np.array([6e14] + [1e15] * 7)
    np.testing.assert_allclose(state.learner.return_statistics.variance, kept.var(), rtol=1e-5)
    np.testing.assert_allclose(state.actor.episode_return, 8 * 6e14, rtol=1e-5)  # is not squared


def test_one_bad_observation_is_no_part_of_the_statistics():
    config = replace(SMALL, normalize_observations=True)
    agent = jaxdrl.ppo(probes.bad_observation(2), config)
    state = jax.jit(agent.init)(jax.random.key(0))
    state, metrics = jax.jit(agent.train_step)(state)
    assert metrics["nonfinite_values"] == metrics["nonfinite_observations"] == 16
    assert metrics["skipped_steps"] == 4
    assert finite(metrics)
    seen = [0, 1, 0, 3]  # the running mean, 0 at first, in place of the bad one
    np.testing.assert_allclose(state.learner.obs_statistics.mean, [np.mean(seen)], rtol=1e-6)
    np.testing.assert_allclose(state.learner.obs_statistics.variance, [np.var(seen)], rtol=1e-6)


@lru_cache
def params_after_one(name, changes):
    """The parameters after one update on two devices with these settings."""
    config = with_settings(SMALL, **dict(changes))
    agent = jaxdrl.ppo(jaxdrl.make(name), config, mesh=jaxdrl.make_mesh(2))
    return jax.device_get(state_after(agent, 1).learner.params)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("CartPole-v1", {"num_accumulation_steps": 4}),
        ("CartPole-v1", {"num_accumulation_steps": 2, "reproducible": True}),
        pytest.param("CartPole-v1", {"remat": True}, marks=pytest.mark.slow),  # as the next
        ("Pendulum-v1", {"remat": True, "normalize_observations": True}),
        ("CartPole-v1", {"matmul_precision": "highest"}),
    ],
)
def test_what_saves_memory_or_keeps_precision_changes_nothing_but_rounding(name, changes):
    plain = tuple(item for item in changes.items() if item[0].startswith("normalize"))
    changed, expected = (
        params_after_one(name, tuple(changes.items())),
        params_after_one(name, plain),
    )
    assert relative_difference(changed, expected) < 1e-5


def equations_of(jaxpr):
    """All of a jaxpr, those of its loops and branches among them."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations_of(inner)


def learning_of(env, **changes):
    """The equations of `learn`; nothing is compiled."""
    agent = jaxdrl.ppo(env, with_settings(SMALL, **changes))
    state = jax.eval_shape(agent.init, jax.random.key(0))
    _, trajectory = jax.eval_shape(agent.rollout, state.learner, state.actor)
    traced = jax.make_jaxpr(agent.learn)(state.learner, trajectory)
    return list(equations_of(traced.jaxpr))


def test_what_saves_memory_is_in_the_program(cartpole):
    """A minibatch has 32 samples, which go through the network in as many parts as are asked for.

    What is computed again is marked as such.
    """
    for num_parts in (1, 2, 4):
        found = learning_of(cartpole, num_accumulation_steps=num_parts)
        products = [e for e in found if e.primitive.name == "dot_general"]
        assert max(e.invars[0].aval.shape[0] for e in products) == 32 // num_parts
    for remat in (False, True):
        names = {e.primitive.name for e in learning_of(cartpole, remat=remat)}
        assert bool(names & {"remat", "checkpoint", "remat2"}) == remat


def test_precision_is_that_of_the_config_in_the_gradient_too(cartpole):
    agent = jaxdrl.ppo(cartpole, with_settings(SMALL, matmul_precision="highest"))
    program = str(jax.make_jaxpr(agent.train_step)(agent.init(jax.random.key(0))))
    assert program.count("dot_general") == program.count("precision=(Precision.HIGHEST") > 10


def test_bfloat16_is_inside_the_torso_alone(cartpole):
    agent = jaxdrl.ppo(cartpole, with_settings(SMALL, network_dtype="bfloat16"))
    state, metrics = jax.jit(agent.train_step)(jax.jit(agent.init)(jax.random.key(0)))
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(state.learner.params)} == {"float32"}
    assert "bf16" in str(jax.make_jaxpr(agent.train_step)(state))
    assert finite((state.learner, metrics))
    exact = jaxdrl.ppo(cartpole, SMALL)
    _, expected = jax.jit(exact.train_step)(jax.jit(exact.init)(jax.random.key(0)))
    assert metrics["value_loss"] == pytest.approx(float(expected["value_loss"]), rel=0.05)


# What a user brings.


class TwoHeads(nn.Module):
    """A user's own network: one layer, two heads."""

    @nn.compact
    def __call__(self, obs):
        x = nn.relu(nn.Dense(8)(obs))
        return nn.Dense(2)(x), nn.Dense(1)(x)[:, 0]


def test_a_network_and_an_optimizer_of_ones_own(cartpole):
    agent = jaxdrl.ppo(cartpole, SMALL, network=TwoHeads(), optimizer=optax.sgd(0.0))
    state = jax.jit(agent.init)(jax.random.key(0))
    assert set(state.learner.params) == {"Dense_0", "Dense_1", "Dense_2"}
    after, _ = jax.jit(agent.train_step)(state)
    assert sha256(after.learner.params) == sha256(state.learner.params)  # a rate of 0


def test_a_network_that_does_not_fit_is_refused_with_the_shapes(cartpole):
    class Wrong(nn.Module):
        outputs: int
        value_shape: tuple

        @nn.compact
        def __call__(self, obs):
            return nn.Dense(self.outputs)(obs), jnp.zeros(self.value_shape)

    with pytest.raises(ConfigError, match=r"network value = \(2, 1\): must be \(2,\)"):
        jaxdrl.ppo(cartpole, SMALL, network=Wrong(2, (2, 1)))
    continuous = jaxdrl.make("Pendulum-v1")
    with pytest.raises(
        ConfigError, match=r"policy_outputs are an array; must be \(mean, log_std\)"
    ):
        jaxdrl.ppo(continuous, SMALL, network=from_module(Wrong(2, (2,))))

    class Scalars(nn.Module):
        @nn.compact
        def __call__(self, obs):
            mean = nn.Dense(1)(obs)[:, 0]
            return (mean, jnp.zeros_like(mean)), mean

    with pytest.raises(
        ConfigError, match=r"network policy_outputs = \(2,\): must give actions \(2, 1\)"
    ):
        jaxdrl.ppo(continuous, SMALL, network=Scalars())


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "PointRobot-misc"])
def test_the_policy_acts_within_the_action_space(name):
    env = jaxdrl.make(name)
    agent = jaxdrl.ppo(env, with_settings(SMALL, initial_log_std=1.0))
    state = jax.jit(agent.init)(jax.random.key(0))
    act = jax.jit(agent.policy.act, static_argnames="greedy")
    carry, start = agent.policy.initial_carry(16), state.actor.episode_start
    actions = []
    for seed in range(3):
        key = jax.random.key(seed)
        action, carry = act(state.learner, carry, state.actor.obs, start, key)
        assert action.dtype == env.action_space.dtype
        assert action.shape == (16, *env.action_space.shape)
        assert all(bool(env.action_space.contains(row)) for row in action)
        actions.append(np.asarray(action))
    assert (actions[0] != actions[1]).any()
    greedy = [
        act(state.learner, carry, state.actor.obs, start, jax.random.key(s), greedy=True)[0]
        for s in range(2)
    ]
    np.testing.assert_array_equal(greedy[0], greedy[1])
