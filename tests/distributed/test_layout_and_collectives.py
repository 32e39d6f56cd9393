"""Layouts, groups and collectives, against plain sums and a gradient on one device."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from jaxdrl.distributed.collectives import (
    WORTH_A_SCATTER,
    mean_groups,
    moments,
    sum_groups,
)
from jaxdrl.distributed.gradient import mean_gradient
from jaxdrl.distributed.groups import map_groups, merge_groups, split_groups
from jaxdrl.distributed.layout import (
    ALONG_ENVS,
    ALONG_ENVS_IN_TIME,
    REPLICATED,
    make_layout,
    shard,
    shard_ids,
    varying,
)
from jaxdrl.distributed.mesh import make_mesh
from jaxdrl.errors import ConfigError

DEVICES = (None, 1, 2, 4, 8)


def layout_on(num_devices, reproducible, num_shards=8):
    mesh = None if num_devices is None else make_mesh(num_devices)
    return make_layout(num_shards, reproducible, mesh)


def on_devices(layout, function, *arrays, out_specs=REPLICATED):
    """`function` of each device's groups, from global arrays along the environments."""

    def body(*arrays):
        return function(*split_groups(layout, arrays))

    specs = tuple(ALONG_ENVS for _ in arrays)
    return jax.jit(shard(layout, body, specs, out_specs))(*arrays)


@pytest.mark.parametrize("num_microbatches", [1, 4, None])
@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize("num_devices", DEVICES)
def test_the_gradient_on_devices_is_the_gradient_of_the_global_mean(
    num_devices, reproducible, num_microbatches
):
    x, y = np.random.default_rng(0).normal(size=(2, 64, 5)).astype(np.float32)
    params = {"w": jnp.linspace(-1.0, 1.0, 5), "b": jnp.asarray(0.3)}

    def loss(params, batch):
        x, y = batch
        error = jnp.tanh((x * params["w"][None]).sum(axis=1)) + params["b"] - y.sum(axis=1)
        return jnp.square(error).mean(), {"error": error.mean()}

    layout = layout_on(num_devices, reproducible)
    gradient, auxiliary = on_devices(
        layout,
        lambda *batch: mean_gradient(layout, loss, params, batch, num_microbatches),
        x,
        y,
    )
    expected, expected_auxiliary = jax.grad(loss, has_aux=True)(params, (x, y))
    for name in params:
        np.testing.assert_allclose(gradient[name], expected[name], rtol=1e-5)
    np.testing.assert_allclose(auxiliary["error"], expected_auxiliary["error"], rtol=1e-5)


@pytest.mark.parametrize("is_cast", [False, True])
def test_without_the_cast_to_varying_the_gradient_would_be_too_large(is_cast):
    """The control of the test above: the cast is what makes it pass."""
    layout = layout_on(8, False)

    def mean_gradient(x):
        w = jnp.asarray(1.0)
        w = varying(layout, w) if is_cast else w
        return mean_groups(layout, jax.grad(lambda w: (w * x).mean())(w)[None])

    gradient = on_devices(layout, mean_gradient, np.full(16, 2.5, np.float32))
    assert gradient == pytest.approx(2.5 if is_cast else 8 * 2.5)


@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize("num_devices", DEVICES)
def test_sums_means_and_moments_are_those_of_all_environments(num_devices, reproducible):
    x = np.random.default_rng(1).normal(100.0, 3.0, size=(48, 7)).astype(np.float32)
    counts = np.arange(48, dtype=np.int32)
    layout = layout_on(num_devices, reproducible)

    def reduce(x, counts):
        sums = map_groups(layout, lambda x, n: (x.sum(), n.sum()), x, counts)
        return (
            sum_groups(layout, sums),
            moments(layout, x, axis=0),
            moments(layout, x),
        )

    (total, count), by_column, over_all = on_devices(layout, reduce, x, counts)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(total, exact.sum(), rtol=1e-6)
    assert count == counts.sum()
    np.testing.assert_allclose(by_column[0], exact.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(by_column[1], exact.var(axis=0), rtol=1e-4)
    np.testing.assert_allclose(over_all[0], exact.mean(), rtol=1e-6)
    np.testing.assert_allclose(over_all[1], exact.var(), rtol=1e-4)


def test_reproducible_sums_have_the_same_bits_on_any_number_of_devices():
    x = np.random.default_rng(2).normal(size=(64, 33)).astype(np.float32)
    results = set()
    for num_devices in DEVICES:
        layout = layout_on(num_devices, reproducible=True)
        mean, variance = on_devices(layout, lambda x, on=layout: moments(on, x, 0), x)
        results.add(np.asarray(mean).tobytes() + np.asarray(variance).tobytes())
    assert len(results) == 1


def sum_of_shards(num_devices, num_columns, num_shards=8):
    """A compiled reproducible sum over shards of `num_columns` each, replicated."""
    layout = make_layout(num_shards, True, make_mesh(num_devices))

    def total(x):
        return sum_groups(layout, x)

    shape = jax.ShapeDtypeStruct((num_shards, num_columns), jnp.float32)
    return jax.jit(shard(layout, total, (ALONG_ENVS,), REPLICATED)).lower(shape).compile()


@pytest.mark.parametrize("num_devices", [1, 2, 8])
def test_large_sums_are_added_up_in_the_order_of_the_shards_too(num_devices):
    num_columns = WORTH_A_SCATTER // 32 + 5  # which no number of devices divides
    x = np.random.default_rng(0).normal(size=(8, num_columns)).astype(np.float32)
    in_order = x[0]
    for row in x[1:]:
        in_order = in_order + row
    found = np.asarray(sum_of_shards(num_devices, num_columns)(x))
    np.testing.assert_array_equal(found, in_order)


def sent_bytes(program, num_devices):
    """What a device sends, by the shapes of the collectives in a compiled program."""
    sent = 0.0
    collective = r"= (\(?f32\[.*?) (all-to-all|all-gather|all-reduce)\("
    for shapes, kind in re.findall(collective, program.as_text()):
        sizes = [
            math.prod(map(int, dims.split(","))) for dims in re.findall(r"f32\[([\d,]+)", shapes)
        ]
        factor = {"all-to-all": 1, "all-gather": 1, "all-reduce": 2}[kind]
        sent += factor * (1 - 1 / num_devices) * 4 * sum(sizes)
    return sent


def test_a_large_reproducible_sum_sends_about_as_much_as_an_all_reduce():
    num_columns = WORTH_A_SCATTER // 8
    size = 4 * num_columns
    assert 0 < sent_bytes(sum_of_shards(8, num_columns), 8) <= 2.1 * size
    # The control: a small one gathers the rows of all shards.
    few = WORTH_A_SCATTER // 64
    assert sent_bytes(sum_of_shards(8, few), 8) == pytest.approx(7 / 8 * 8 * 4 * few)
    # It is small for 8 shards; those of 64 would be as many bytes as those of a large one.
    assert sent_bytes(sum_of_shards(8, few, 64), 8) == pytest.approx(7 / 8 * (64 / 8 + 1) * 4 * few)


@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize("num_devices", DEVICES)
def test_splitting_into_groups_and_merging_restores_the_order(num_devices, reproducible):
    layout = layout_on(num_devices, reproducible)
    x = np.arange(3 * 32 * 2).reshape(3, 32, 2)

    def there_and_back(x):
        groups = split_groups(layout, x, axis=1)
        assert groups.shape[:2] == (layout.num_groups, 3)
        return merge_groups(layout, groups, axis=1)

    specs = ALONG_ENVS_IN_TIME
    back = jax.jit(shard(layout, there_and_back, specs, specs))(x)
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize("num_devices", DEVICES)
def test_every_shard_has_its_own_id_in_the_order_of_the_environments(num_devices, reproducible):
    layout = layout_on(num_devices, reproducible)
    ids = shard(layout, lambda x: shard_ids(layout).reshape(-1) + 0 * x, ALONG_ENVS, ALONG_ENVS)
    np.testing.assert_array_equal(jax.jit(ids)(jnp.zeros(8, jnp.int32)), np.arange(8))


def test_fast_mode_merges_the_shards_of_a_device_and_reproducible_mode_does_not():
    fast, exact = layout_on(2, reproducible=False), layout_on(2, reproducible=True)
    assert (fast.num_groups, fast.shards_per_group) == (1, 4)
    assert (exact.num_groups, exact.shards_per_group) == (4, 1)
    assert fast.num_shards == exact.num_shards == 8


def test_arrays_on_a_mesh_can_be_sliced_in_a_notebook():
    mesh = make_mesh(8)
    assert mesh.axis_types == (AxisType.Auto,)
    x = jax.device_put(jnp.arange(16), jax.sharding.NamedSharding(mesh, ALONG_ENVS))
    assert x[3] == 3
    assert x[x > 13].tolist() == [14, 15]


def test_a_mesh_takes_all_devices_by_default():
    assert make_mesh().devices.size == 8
    assert make_mesh(2).devices.size == 2


def test_more_devices_than_there_are_is_refused_with_the_way_to_simulate_them():
    with pytest.raises(ConfigError, match=r"num_devices = 9: this process has 8 .*num_cpu_devices"):
        make_mesh(9)


@pytest.mark.parametrize("num_devices", [3, 5, 6, 7])
def test_devices_that_do_not_divide_the_shards_are_refused_naming_those_that_do(num_devices):
    with pytest.raises(ConfigError, match=rf"devices = {num_devices}: .*1, 2, 4, 8 do"):
        make_layout(8, False, make_mesh(num_devices))


def test_a_mesh_without_the_data_axis_is_refused():
    with pytest.raises(ConfigError, match="make_mesh"):
        make_layout(8, False, Mesh(np.array(jax.devices()), ("other",)))


@pytest.mark.parametrize("num_shards", [1, 8])
def test_arrays_without_elements_are_split_and_merged(num_shards):
    """As MuJoCo's states have them: contacts of a model that touches nothing."""
    layout, empty = layout_on(None, True, num_shards), jnp.zeros((16, 0, 3))
    groups = split_groups(layout, empty)
    assert groups.shape == (num_shards, 16 // num_shards, 0, 3)
    assert merge_groups(layout, groups).shape == empty.shape
