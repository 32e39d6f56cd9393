"""An algorithm of one's own, made of the parts that algorithms share, is one like PPO.

`reinforce.py` beside the tests is that algorithm. Here it is by itself: on devices, in populations,
and learning. `test_seam_bits.py` compares its bits; runs, sweeps and exports of it are tested where
these are.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrl
import probe_environments as probes
from jaxdrl.algorithms.contract import check_algorithm
from jaxdrl.core.types import REQUIRED_METRICS
from jaxdrl.distributed.layout import place
from jaxdrl.errors import ConfigError
from jaxdrl.populations.sweep_algorithm import for_host
from jaxdrl.runs.metrics_log import sha256
from reinforce import ReinforceConfig, reinforce

CONFIG = jaxdrl.with_settings(ReinforceConfig(num_envs=16, num_steps=8), hidden_sizes=(8,))
MESHES = (1, 2, 8)
RATES = np.array([1e-3, 3e-2, 1e-2], np.float32)


def cartpole():
    return jaxdrl.make("CartPole-v1", max_steps_in_episode=20)


def make(mesh=None, **settings):
    return reinforce(cartpole(), jaxdrl.with_settings(CONFIG, **settings), mesh=mesh)


def mesh_of(num_devices):
    return None if num_devices is None else jaxdrl.make_mesh(num_devices)


def trained(algorithm, num_updates, key=0):
    state = jax.jit(algorithm.init)(jax.random.key(key))
    return jaxdrl.train(algorithm, state, num_updates=num_updates)


def assert_close(one, other, **tolerance):
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(x, y, **tolerance)


@pytest.mark.parametrize("num_devices", [None, 8])
def test_a_step_is_to_learn_from_a_rollout(num_devices):
    algorithm = make(mesh_of(num_devices))
    state = jax.jit(algorithm.init)(jax.random.key(0))
    actor, trajectory = jax.jit(algorithm.rollout)(state.learner, state.actor)
    learner, metrics = jax.jit(algorithm.learn)(state.learner, trajectory)
    after, of_step = jax.jit(algorithm.train_step)(jax.jit(algorithm.init)(jax.random.key(0)))
    assert trajectory.reward.shape == (8, 16)
    assert_close((learner, actor, metrics), (after.learner, after.actor, of_step), rtol=1e-4)
    assert int(after.learner.num_updates) == 1


def test_an_update_agrees_on_any_number_of_devices_but_for_rounding():
    start = jax.jit(make().init)(jax.random.key(0))
    after = []
    for num_devices in MESHES:
        algorithm = make(mesh_of(num_devices))
        state = place(start, mesh_of(num_devices), algorithm.state_specs)
        after.append(jax.device_get(jax.jit(algorithm.train_step)(state)[0].learner.params))
    for params in after[1:]:
        assert_close(params, after[0], rtol=1e-5, atol=1e-7)


def test_a_state_lies_on_a_mesh_as_its_algorithm_says():
    algorithm = make(jaxdrl.make_mesh(4))
    placed = place(
        jax.jit(make().init)(jax.random.key(0)), jaxdrl.make_mesh(4), algorithm.state_specs
    )
    begun = jax.jit(algorithm.init)(jax.random.key(0))
    for state in (placed, begun):
        assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(state.learner))
        for x in jax.tree.leaves(state.actor):
            assert x.sharding.shard_shape(x.shape)[0] == 4


def check_members(one_by_one):
    """Members after one update of a population are what they are alone."""
    env = cartpole()

    def member(hyperparams):
        config = replace(CONFIG, **hyperparams)
        return reinforce(env, jaxdrl.with_settings(config, reproducible=one_by_one))

    algorithm = jaxdrl.population(member, one_by_one=one_by_one)
    state = jax.jit(algorithm.init)(jax.random.key(0), {"learning_rate": RATES})
    state, metrics = jax.jit(algorithm.train_step)(state)
    assert {x.shape for x in metrics.values()} == {(3,)}
    init = jax.jit(member({}).init)
    # As in the population, where the rate is an array: XLA folds constants.
    step = jax.jit(lambda rate, state: member({"learning_rate": rate}).train_step(state))
    for i, key in enumerate(jax.random.split(jax.random.key(0), 3)):
        alone, _ = step(RATES[i], init(key))
        own = replace(jaxdrl.member(state, i).learner, hyperparams=())
        if one_by_one:
            assert sha256(own) == sha256(alone.learner)
        assert_close(own, alone.learner, rtol=1e-4, atol=1e-6)


def test_members_of_a_population_are_what_they_are_alone_to_rounding():
    check_members(one_by_one=False)


def test_a_population_lies_along_both_axes_and_exchanges():
    mesh = jaxdrl.make_mesh(8, population=4)
    exchange = jaxdrl.Exchange({"learning_rate": jaxdrl.Range(1e-4, 1e-1, log=True)}, every=2)
    env = cartpole()
    algorithm = jaxdrl.population(
        lambda h: reinforce(env, replace(CONFIG, **h), mesh=mesh),
        mesh=mesh,
        exchange=exchange,
    )
    rates = np.array([1e-4, 1e-3, 1e-2, 1e-1], np.float32)
    state = jax.jit(algorithm.init)(jax.random.key(0), {"learning_rate": rates})
    step = jax.jit(algorithm.train_step)
    state, first = step(state)
    state, second = step(state)
    assert first["parent"].tolist() == [0, 1, 2, 3] != second["parent"].tolist()
    again = place(jax.device_get(state), mesh, algorithm.state_specs)
    for x, y in zip(jax.tree.leaves(again), jax.tree.leaves(state), strict=True):
        assert x.sharding.is_equivalent_to(y.sharding, x.ndim)
    obs, kernel = state.actor.obs, jax.tree.leaves(state.learner.params)[0]
    assert obs.sharding.shard_shape(obs.shape) == (1, 8, 4)
    assert kernel.sharding.shard_shape(kernel.shape)[0] == 1


def test_metrics_of_members_are_reduced_as_the_algorithm_says():
    algorithm = make()
    assert REQUIRED_METRICS.items() <= algorithm.metrics.items()
    names = ("episode_return_sum", "num_episodes", "skipped_steps", "value_loss", "policy_loss")
    metrics = {name: jnp.array([1.0, 3.0]) for name in names}
    found = for_host({}, metrics, algorithm.metrics)
    assert [float(found[name]) for name in names] == [4.0, 4.0, 2.0, 2.0, 2.0]
    kept = {name.removeprefix("members/") for name in found if name.startswith("members/")}
    assert kept == {"value_loss", "skipped_steps", "episode_return"}


def test_it_learns_which_action_is_right():
    env = probes.observation_action_reward()
    config = replace(CONFIG, num_envs=64, num_steps=4)
    returns = []
    algorithm = reinforce(env, config, mesh=jaxdrl.make_mesh(2))
    state = jax.jit(algorithm.init)(jax.random.key(0))
    state = jaxdrl.train(
        algorithm,
        state,
        num_updates=100,
        on_update=lambda _, m: returns.append(m["episode_return_sum"] / m["num_episodes"]),
    )
    assert np.mean(returns[:5]) < 0.5
    assert np.mean(returns[-5:]) > 0.95
    found = jaxdrl.evaluate(
        env, algorithm.policy, state.learner, jax.random.key(1), num_episodes=64
    )
    assert found.mean_return == 1.0


@pytest.mark.slow
def test_it_learns_to_balance_the_pole():
    env = jaxdrl.make("CartPole-v1")
    config = ReinforceConfig(learning_rate=3e-3)
    algorithm = reinforce(env, config, mesh=jaxdrl.make_mesh(2))
    learner = trained(algorithm, 150).learner
    found = jaxdrl.evaluate(env, algorithm.policy, learner, jax.random.key(1), num_episodes=32)
    assert found.mean_return > 150  # 20 at the start


def test_a_step_from_numbers_that_are_not_finite_is_left_out_and_counted():
    algorithm = reinforce(probes.bad_reward(at=3), CONFIG)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    after, metrics = jax.jit(algorithm.train_step)(state)
    assert metrics["skipped_steps"] == 1.0
    assert metrics["grad_norm"] == 0.0
    assert metrics["nonfinite_rewards"] == 16.0
    assert_close(after.learner.params, state.learner.params, rtol=0)


def test_an_algorithm_that_keeps_to_the_contract_is_taken():
    for num_devices in MESHES:
        check_algorithm(make(mesh_of(num_devices)))


def changed(**functions):
    """The algorithm with its step followed by a change of its results."""
    algorithm = make()

    def train_step(state):
        state, metrics = algorithm.train_step(state)
        return (
            functions.get("state", lambda x: x)(state),
            functions.get("metrics", lambda x: x)(metrics),
        )

    return algorithm._replace(train_step=train_step)


def without(metrics, *names):
    return {name: x for name, x in metrics.items() if name not in names}


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        (
            changed(metrics=lambda m: without(m, "grad_norm", "num_episodes")),
            "metrics: lack num_episodes, grad_norm; every algorithm must give them",
        ),
        (
            changed(metrics=lambda m: m | {"loss": jnp.zeros(3)}),
            "metrics['loss']: has shape (3,); must be a scalar",
        ),
        (
            changed(
                state=lambda s: s.replace(
                    learner=s.learner.replace(num_updates=s.learner.num_updates.astype(jnp.float32))
                )
            ),
            "train_step: state.learner.num_updates was int32[] and is float32[] afterwards; "
            "shapes, dtypes and weak types of the state must stay as init gives them",
        ),
        (
            changed(state=lambda s: s.replace(learner=s.learner.replace(key=jnp.zeros(2)))),
            "train_step: gives back a state of another structure; shapes, dtypes and weak types of "
            "the state must stay as init gives them",
        ),
    ],
)
def test_one_that_does_not_is_refused_before_anything_compiles(algorithm, message):
    with pytest.raises(ConfigError) as caught:
        check_algorithm(algorithm)
    assert str(caught.value) == message
