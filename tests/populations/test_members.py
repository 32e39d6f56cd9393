"""Members of a population against runs of their own."""

import dataclasses
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
from jaxdrl import PPOConfig
from jaxdrl.config.search_space import Range
from jaxdrl.config.settings import hyperparameters, with_settings
from jaxdrl.core.trees import raw
from jaxdrl.core.types import REQUIRED_METRICS, LearnerState, Policy, TrainState
from jaxdrl.distributed.mesh import make_mesh
from jaxdrl.errors import ConfigError
from jaxdrl.populations.members import population
from jaxdrl.populations.pbt import Exchange
from jaxdrl.populations.state import PopulationLearner, PopulationState, member

NUM_MEMBERS = 16
CONFIG = with_settings(
    PPOConfig(),
    num_envs=16,
    num_steps=8,
    num_minibatches=2,
    num_epochs=2,
    hidden_sizes=(8,),
    normalize_observations=True,
    normalize_rewards=True,
)
MESHES = {"none": {}, "4x2": {"population": 4, "data": 2}, "8x1": {"data": 1}, "1x8": {"data": 8}}
RANGES = {"learning_rate": Range(1e-4, 1e-2, log=True), "entropy_coef": Range(0.0, 0.02)}
EXCHANGE = Exchange(RANGES, every=2, fraction=0.25)
ENV = jaxdrl.make("CartPole-v1")


def hyperparams(num_members=NUM_MEMBERS):
    rng = np.random.default_rng(0)
    values = {
        "learning_rate": 10 ** rng.uniform(-4, -2, num_members),
        "entropy_coef": rng.uniform(0, 0.02, num_members),
        "gamma": rng.uniform(0.9, 0.999, num_members),
    }
    return {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}


def maker(reproducible=False, mesh=None):
    config = with_settings(CONFIG, reproducible=reproducible)
    return lambda h: jaxdrl.ppo(ENV, with_settings(config, **h), mesh=mesh)


def start(algorithm, values):
    return jax.jit(algorithm.init)(jax.random.key(0), values)


@lru_cache
def alone(reproducible):
    """Every member after one update of its own."""
    make = maker(reproducible)
    init = jax.jit(lambda h, key: make(h).init(key))
    step = jax.jit(lambda h, state: make(h).train_step(state))
    states, keys = [], jax.random.split(jax.random.key(0), NUM_MEMBERS)
    for i in range(NUM_MEMBERS):
        own = {name: value[i] for name, value in hyperparams().items()}
        states.append(plain(step(own, init(own, keys[i]))[0]))
    return states


@lru_cache
def together(name, reproducible):
    """`(state after one update, state after four with exchanges, parents, compiled step)`."""
    mesh = make_mesh(**MESHES[name]) if MESHES[name] else None
    agent = population(
        maker(reproducible, mesh), mesh=mesh, one_by_one=reproducible or None, exchange=EXCHANGE
    )
    state, states, parents = start(agent, hyperparams()), [], []
    step = jax.jit(agent.train_step).lower(state).compile()
    for _ in range(4):
        state, metrics = jax.block_until_ready(step(state))
        states.append(plain(state))
        parents.append(metrics["parent"].tolist())
    return states[0], states[-1], parents, step


def plain(state):
    """The arrays of a state on the host, keys as what they are made of, to be read at will."""
    return jax.device_get(jax.tree.map(raw, state))


def leaves(state):
    return {jax.tree_util.keystr(p): np.asarray(x) for p, x in jax.tree.leaves_with_path(state)}


def assert_same_bits(state, other):
    ours, theirs = leaves(state), leaves(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name].tobytes() != theirs[name].tobytes()] == []


def check_fast_mode(name):
    """Every member is its run alone, but for rounding."""
    state = together(name, False)[0]
    for i in range(NUM_MEMBERS):
        ours, theirs = (leaves(s.learner.params) for s in (member(state, i), alone(False)[i]))
        for path in ours:
            scale = np.abs(theirs[path]).max()
            np.testing.assert_allclose(ours[path], theirs[path], rtol=0, atol=1e-5 * scale)


def test_a_member_is_its_run_alone_to_rounding_in_fast_mode():
    check_fast_mode("none")


def test_a_member_goes_on_from_its_parent():
    state, parents = together("none", False)[1:3]
    (i, parent), *_ = [(i, p) for i, p in enumerate(parents[-1]) if i != p]
    ours, theirs = member(state, i), member(state, parent)
    for name in ("params", "opt_state", "obs_statistics", "return_statistics"):
        assert_same_bits(getattr(ours.learner, name), getattr(theirs.learner, name))
    keys = [s.learner.key.tolist() for s in (ours, theirs)]
    assert keys[0] != keys[1]  # its shuffles stay its own
    assert state.hyperparams["gamma"][i] == state.hyperparams["gamma"][parent]
    assert state.hyperparams["learning_rate"][i] != state.hyperparams["learning_rate"][parent]


def test_a_diverged_member_is_never_copied_and_touches_nobody():
    first, _, _, step = together("none", False)
    values = hyperparams()
    values["learning_rate"] = values["learning_rate"].at[1].set(1e36)
    agent = population(maker(), exchange=EXCHANGE)
    state, metrics = step(start(agent, values))
    assert metrics["skipped_steps"].tolist() == [3.0 * (i == 1) for i in range(NUM_MEMBERS)]
    for i in range(NUM_MEMBERS):
        if i != 1:
            assert_same_bits(member(plain(state), i), member(first, i))
    state, metrics = step(state)
    assert state.exchange.diverged.tolist() == [i == 1 for i in range(NUM_MEMBERS)]
    parents = metrics["parent"].tolist()
    assert 1 not in parents
    assert state.hyperparams["learning_rate"][1] <= 1e-2
    ours, theirs = (member(plain(state), i).learner.params for i in (1, parents[1]))
    assert_same_bits(ours, theirs)


def test_a_member_that_copies_another_keeps_its_own_opponents():
    """Which would else be exchanged within games."""

    def init(key):
        params, none = jax.random.normal(key, (3,)), None
        learner = LearnerState(params, (), none, none, key, jnp.int32(0), pool=params)
        return TrainState(learner=learner, actor=jnp.zeros((1,)))

    def learn(learner, trajectory):
        metrics = dict.fromkeys(REQUIRED_METRICS, jnp.float32(0.0))
        metrics |= {"num_episodes": jnp.float32(1.0), "episode_return_sum": learner.params[0]}
        return dataclasses.replace(learner, num_updates=learner.num_updates + 1), metrics

    one = maker()({})._replace(init=init, learn=learn)
    agent = population(lambda h: one, exchange=dataclasses.replace(EXCHANGE, every=1))
    before = start(agent, hyperparams()).learner
    standing = start(agent, hyperparams()).exchange
    learner = PopulationLearner(members=before, hyperparams=hyperparams(), exchange=standing)
    after, metrics = jax.jit(agent.learn)(learner, jnp.zeros((NUM_MEMBERS, 1)))
    parents = metrics["parent"]
    assert (parents != jnp.arange(NUM_MEMBERS)).sum() == NUM_MEMBERS // 4
    np.testing.assert_array_equal(after.members.params, before.params[parents])
    np.testing.assert_array_equal(after.members.pool, before.pool)


def test_a_policy_is_that_of_a_member():
    learner, key = member(together("none", False)[0], 1).learner, jax.random.key(3)
    own = maker()({name: value[1] for name, value in hyperparams().items()})
    found, wanted = (
        jaxdrl.evaluate(ENV, agent.policy, learner, key, num_episodes=8).returns
        for agent in (population(maker()), own)
    )
    np.testing.assert_array_equal(found, wanted)


def test_hyperparameters_may_be_asked_for_by_name():
    agent = population(lambda h: maker()({"gamma": h["gamma"]}))
    state = jax.eval_shape(agent.init, jax.random.key(0), hyperparams(2))
    assert state.learner.num_updates.shape == (2,)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "must have at least one array"),
        ({"gamma": jnp.array([1, 2])}, r"hyperparams.gamma = .*must be floats \[P\]"),
        ({"gamma": 0.9}, r"hyperparams.gamma = .*must be floats \[P\]"),
        ({"gamma": jnp.zeros(2), "learning_rate": jnp.ones(3)}, "must have 2 values"),
        ({"gama": jnp.zeros(2)}, "gama: there is no such setting; the nearest: gamma"),
        ({"num_envs": jnp.ones(2)}, "num_envs"),
    ],
)
def test_bad_hyperparameters_are_refused(values, says):
    with pytest.raises(ConfigError, match=says):
        population(maker()).init(jax.random.key(0), values)


def test_a_mesh_that_does_not_divide_the_members_is_refused():
    mesh = make_mesh(population=4, data=2)
    with pytest.raises(ConfigError, match=r"mesh.shape\['population'\] = 4: must divide the 6 mem"):
        population(maker(mesh=mesh), mesh=mesh).init(jax.random.key(0), hyperparams(6))


def test_a_member_that_is_none_is_refused():
    state = jax.eval_shape(population(maker()).init, jax.random.key(0), hyperparams(2))
    with pytest.raises(ConfigError, match="member = 2: must be from 0 to 1: there are 2 members"):
        member(state, 2)


def test_exchanges_share_no_key_with_the_members():
    agent = population(maker(), exchange=EXCHANGE)
    state = plain(start(agent, hyperparams()))
    keys = [jax.random.split(jax.random.key(0), n) for n in (2, 3, NUM_MEMBERS, NUM_MEMBERS + 1)]
    given = [raw(x) for x in (jax.random.key(0), *keys)]
    others = [*given, state.learner.key, state.actor.key]
    taken = {tuple(row) for x in others for row in np.asarray(x).reshape(-1, 2).tolist()}
    assert tuple(state.exchange.key.tolist()) not in taken


# What a member acts by


def every_float_setting():
    """Two values of each, far apart, as members have them."""
    values = {name: [0.25, 0.75] for name in hyperparameters(CONFIG)} | {
        "observation_clip": [0.1, 2.0]
    }
    return {name: jnp.array(pair, jnp.float32) for name, pair in values.items()}


def test_a_member_acts_by_its_own_value_of_every_float_setting():
    env = jaxdrl.make("Pendulum-v1")
    config = dataclasses.replace(CONFIG, num_envs=8)
    agent = population(lambda h: jaxdrl.ppo(env, with_settings(config, **h)))
    values = every_float_setting()
    state = jax.jit(agent.init)(jax.random.key(0), values)
    # What both have learnt is the same, so that nothing but a setting tells them apart.
    same = jax.tree.map(lambda x: x[:1].repeat(2, 0), state.learner.params)
    state = dataclasses.replace(state, learner=dataclasses.replace(state.learner, params=same))
    obs = 3.0 * jax.random.normal(jax.random.key(1), (16, 3))
    start, actions = jnp.zeros(16, jnp.bool), []
    for i in (0, 1):
        own = with_settings(config, **{name: float(x[i]) for name, x in values.items()})
        learner = member(state, i).learner
        found, wanted = (
            policy.act(learner, (), obs, start, jax.random.key(2), greedy=True)[0]
            for policy in (agent.policy, jaxdrl.ppo(env, own).policy)
        )
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
        actions.append(np.asarray(found))
    assert np.abs(actions[0] - actions[1]).max() > 0.01  # the clip binds


def test_a_setting_that_an_algorithm_of_ones_own_acts_by_is_the_members():
    def make(hyperparams):
        def act(learner, carry, obs, episode_start, key, *, greedy=False):
            return hyperparams["epsilon"] + obs, carry

        return maker()({})._replace(policy=Policy(lambda num_envs: (), act))

    values = {"epsilon": jnp.array([0.25, 0.5])}
    agent = population(make)
    learner = LearnerState((), (), None, None, (), jnp.zeros(2))
    both = PopulationState(learner=learner, actor=(), hyperparams=values, exchange=None)
    for i, epsilon in enumerate([0.25, 0.5]):
        action, _ = agent.policy.act(member(both, i).learner, (), jnp.zeros(1), None, None)
        assert action.tolist() == [epsilon]


def test_a_learner_without_hyperparameters_is_refused():
    state = jax.eval_shape(population(maker()).init, jax.random.key(0), hyperparams(2))
    with pytest.raises(ConfigError, match=r"use the learner of jaxdrl.member\(state, i\)"):
        population(maker()).policy.act(state.learner, (), None, None, None)
