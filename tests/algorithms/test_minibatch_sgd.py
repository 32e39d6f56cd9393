"""Minibatches drawn within shards, and gradient steps against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdrl.algorithms import minibatch_sgd
from jaxdrl.algorithms.batch import Batch
from jaxdrl.algorithms.minibatch_sgd import Schedule
from jaxdrl.algorithms.optimizers import Optimizer
from jaxdrl.distributed.layout import ALONG_ENVS, REPLICATED, make_layout, shard
from jaxdrl.distributed.mesh import make_mesh

NUM_STEPS, NUM_ENVS, NUM_SHARDS = 6, 32, 8
SHARD_ENVS = NUM_ENVS // NUM_SHARDS


def rows_of(num_devices, reproducible, num_minibatches, seed=0):
    """Which `(step, env)` each minibatch takes: sets over all devices, in order."""
    layout = make_layout(NUM_SHARDS, reproducible, make_mesh(num_devices))
    device_samples = NUM_STEPS * NUM_ENVS // num_devices

    def body(ids):
        rows = minibatch_sgd.minibatch_rows(
            layout, jax.random.key(seed), NUM_STEPS, num_minibatches, device_samples
        )
        return ids[rows].reshape(num_minibatches, -1)

    # On a device samples are [group, step, env]; each carries its global id `step * N + env`.
    ids = np.arange(NUM_STEPS * NUM_ENVS).reshape(NUM_STEPS, NUM_ENVS)
    groups = num_devices * layout.num_groups
    by_group = ids.reshape(NUM_STEPS, groups, -1).swapaxes(0, 1).reshape(-1)
    out = jax.sharding.PartitionSpec(None, "data")
    return np.asarray(jax.jit(shard(layout, body, (ALONG_ENVS,), out))(by_group))


@pytest.mark.parametrize("num_minibatches", [1, 2, 3, 4, 8])
def test_an_epoch_takes_every_sample_once_and_an_equal_part_of_every_shard(num_minibatches):
    rows = rows_of(2, False, num_minibatches)
    assert sorted(rows.ravel().tolist()) == list(range(NUM_STEPS * NUM_ENVS))
    shards = (rows % NUM_ENVS) // SHARD_ENVS
    for minibatch in shards:
        counts = np.bincount(minibatch, minlength=NUM_SHARDS)
        assert (counts == NUM_STEPS * SHARD_ENVS // num_minibatches).all()


@pytest.mark.parametrize("reproducible", [False, True])
def test_a_minibatch_holds_the_same_samples_on_any_number_of_devices(reproducible):
    expected = [set(rows) for rows in rows_of(1, False, 4).tolist()]
    for num_devices in (1, 2, 4, 8):
        rows = rows_of(num_devices, reproducible, 4).tolist()
        assert [set(minibatch) for minibatch in rows] == expected


def test_epochs_are_shuffled_differently_and_shards_independently():
    first, second = rows_of(1, False, 2, seed=0), rows_of(1, False, 2, seed=1)
    assert set(first[0].tolist()) != set(second[0].tolist())
    local = [
        frozenset(
            (row // NUM_ENVS, row % SHARD_ENVS)
            for row in first[0].tolist()
            if (row % NUM_ENVS) // SHARD_ENVS == shard
        )
        for shard in range(NUM_SHARDS)
    ]
    assert len(set(local)) > 1


def make_batch(seed=0):
    rng = np.random.default_rng(seed)
    size = NUM_STEPS * NUM_ENVS
    columns = {name: rng.normal(size=size).astype(np.float32) for name in ("log_prob", "value")}
    obs = rng.normal(size=(size, 3)).astype(np.float32)
    target = (obs @ np.array([1.0, -2.0, 0.5]) + 0.1 * rng.normal(size=size)).astype(np.float32)
    advantage = rng.normal(5.0, 4.0, size=size).astype(np.float32)
    columns |= {"action": target, "target": target, "advantage": advantage}
    start = np.zeros(size, bool)
    batch = Batch(obs=obs, episode_start=start, carry=(), **columns)
    return jax.tree.map(lambda x: x[:, None], batch)


def linear_loss(params, batch):
    """A squared error weighted by the advantage, so that its standardisation shows."""
    error = (batch.obs * params[None, None]).sum(axis=2) - batch.target
    weighted = jnp.square(error) * (2.0 + jnp.tanh(batch.advantage))
    return weighted.mean(), {"loss": weighted.mean(), "approx_kl": jnp.abs(error).mean()}


def fit(num_devices, *, learning_rate=0.1, batch=None, optimizer=None, **overrides):
    settings = {"num_epochs": 1, "num_minibatches": 1, "standardize_advantages": True}
    settings |= {"target_kl": None, **overrides}
    schedule = Schedule(rows_per_env=NUM_STEPS, num_accumulation_steps=1, **settings)
    layout = make_layout(NUM_SHARDS, False, make_mesh(num_devices))
    optimizer = Optimizer(optax.with_extra_args_support(optimizer or optax.sgd(learning_rate)))
    params = jnp.array([0.1, 0.2, -0.3])

    def body(batch):
        state, key = optimizer.init(params), jax.random.key(3)
        return minibatch_sgd.fit(
            layout, linear_loss, optimizer, schedule, (params, state), batch, key, learning_rate
        )

    sharded = shard(layout, body, (ALONG_ENVS,), REPLICATED)
    if batch is None:
        batch = make_batch()
    (params, _), metrics = jax.jit(sharded)(batch)
    return np.asarray(params), jax.tree.map(float, metrics)


def numpy_gradient(params, batch):
    """Gradient of `linear_loss` in float64, advantages standardised over the whole batch."""
    advantage = batch.advantage.reshape(-1).astype(np.float64)
    advantage = (advantage - advantage.mean()) / advantage.std()
    weight = 2.0 + np.tanh(advantage)
    obs = batch.obs.reshape(-1, 3).astype(np.float64)
    error = obs @ params - batch.target.reshape(-1)
    return 2.0 * (weight * error) @ obs / len(error)


@pytest.mark.parametrize("num_devices", [1, 8])
def test_one_step_on_one_minibatch_is_the_gradient_step_of_the_whole_batch(num_devices):
    start = np.array([0.1, 0.2, -0.3])
    gradient = numpy_gradient(start, make_batch())
    params, metrics = fit(num_devices)
    np.testing.assert_allclose(params, start - 0.1 * gradient, rtol=1e-5)
    assert metrics["grad_norm"] == pytest.approx(np.linalg.norm(gradient), rel=1e-5)


def test_every_epoch_takes_a_step_a_minibatch():
    """In float64: full-batch steps, as many as epochs, since the data are one minibatch."""
    params = np.array([0.1, 0.2, -0.3])
    for _ in range(5):
        params = params - 0.1 * numpy_gradient(params, make_batch())
    np.testing.assert_allclose(fit(2, num_epochs=5)[0], params, rtol=1e-4)


def test_minibatches_multiply_the_steps():
    few, _ = fit(2, num_epochs=4, num_minibatches=1, learning_rate=0.02)
    many, _ = fit(2, num_epochs=4, num_minibatches=8, learning_rate=0.02)
    solution = np.array([1.0, -2.0, 0.5])
    assert np.abs(many - solution).max() < 0.5 * np.abs(few - solution).max()


def test_advantages_are_left_alone_unless_they_are_to_be_standardised():
    plain, _ = fit(1, standardize_advantages=False)
    standardised, _ = fit(1)
    assert np.abs(plain - standardised).max() > 1e-3


def test_epochs_stop_once_the_kl_of_one_exceeds_the_target():
    """What stands for it here is the mean error, which falls from epoch to epoch."""
    settings = {"num_minibatches": 4, "learning_rate": 0.02}
    one, one_metrics = fit(2, num_epochs=1, **settings)
    kl = one_metrics["approx_kl"]
    stopped, stopped_metrics = fit(2, num_epochs=3, target_kl=0.99 * kl, **settings)
    np.testing.assert_allclose(stopped, one, rtol=1e-5)
    assert stopped_metrics == pytest.approx(one_metrics, rel=1e-5)
    unstopped, _ = fit(2, num_epochs=3, target_kl=1.01 * kl, **settings)
    np.testing.assert_allclose(unstopped, fit(2, num_epochs=3, **settings)[0], rtol=1e-6)
    assert np.abs(unstopped - one).max() > 1e-3


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_whose_gradient_is_not_finite_is_left_out_and_counted(bad):
    """One bad sample of one shard: each epoch leaves out the one minibatch that has it."""
    batch, start = make_batch(), np.array([0.1, 0.2, -0.3])
    batch.target[40] = bad
    kwargs = {"num_minibatches": 4, "standardize_advantages": False}
    params, metrics = fit(2, num_epochs=3, batch=batch, **kwargs)
    assert metrics["skipped_steps"] == 3
    assert np.isfinite(params).all()
    assert np.isfinite(list(metrics.values())).all()
    assert np.abs(params - start).max() > 0.1
    params, metrics = fit(2, num_epochs=3, batch=batch, **kwargs | {"num_minibatches": 1})
    np.testing.assert_array_equal(params, start.astype(np.float32))
    assert metrics["skipped_steps"] == 3
    assert metrics["loss"] == 0.0


@pytest.mark.parametrize("huge", [1e20, -3e38])
def test_advantages_that_cannot_be_standardised_are_not_taken_for_zeros(huge):
    batch = make_batch()
    batch.advantage[40] = huge
    params, metrics = fit(2, num_epochs=3, num_minibatches=4, batch=batch)
    assert metrics["skipped_steps"] == 3
    assert np.isfinite([*params, *metrics.values()]).all()


def breaks_at(count, of_params, of_state):
    """Gradient descent whose step number `count` multiplies its results by the given numbers."""

    def init(params):
        return {"count": jnp.zeros((), jnp.int32), "scale": jnp.ones(()), "best": jnp.inf}

    def update(updates, state, params=None):
        is_now = state["count"] == count
        updates = jax.tree.map(lambda u: -0.1 * u * jnp.where(is_now, of_params, 1.0), updates)
        scale = state["scale"] * jnp.where(is_now, of_state, 1.0)
        return updates, {"count": state["count"] + 1, "scale": scale, "best": state["best"]}

    return optax.GradientTransformation(init, update)


@pytest.mark.parametrize(("of_params", "of_state"), [(np.nan, 1), (np.inf, 1), (1, np.inf)])
def test_a_step_that_would_leave_nothing_finite_is_left_out_and_counted(of_params, of_state):
    """The third of five steps, and every one after it, since the state stays as it is."""
    optimizer = breaks_at(2, np.float32(of_params), np.float32(of_state))
    params, metrics = fit(2, num_epochs=5, optimizer=optimizer)
    np.testing.assert_array_equal(params, fit(2, num_epochs=2)[0])
    assert (metrics["skipped_steps"], metrics["nonfinite_params"]) == (3, 3)
    assert np.isfinite(list(metrics.values())).all()


def test_no_step_is_left_out_of_a_sound_batch():
    assert fit(2, num_epochs=5)[1]["skipped_steps"] == 0
    stopped = fit(2, num_epochs=5, num_minibatches=2, target_kl=1e-6)[1]
    assert stopped["skipped_steps"] == 0
