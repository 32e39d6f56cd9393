"""Meshes of one axis and of two."""

import types

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from jaxdrl.distributed import mesh as meshes
from jaxdrl.distributed.mesh import in_equal_parts, in_process_order, make_mesh, spans_processes
from jaxdrl.errors import ConfigError


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({}, {"data": 8}),
        ({"num_devices": 2}, {"data": 2}),
        ({"population": 4, "data": 2}, {"population": 4, "data": 2}),
        ({"population": 2, "data": 2}, {"population": 2, "data": 2}),
        ({"population": 4}, {"population": 4, "data": 2}),
        ({"data": 1}, {"population": 8, "data": 1}),
        ({"num_devices": 4, "population": 2}, {"population": 2, "data": 2}),
        ({"num_devices": 4, "data": 4}, {"population": 1, "data": 4}),
    ],
)
def test_a_mesh_has_the_axes_that_are_asked_for(arguments, shape):
    mesh = make_mesh(**arguments)
    assert dict(mesh.shape) == shape
    assert set(mesh.axis_types) == {AxisType.Auto}


def test_members_lie_on_neighbouring_devices():
    devices = make_mesh(population=4, data=2).devices
    assert devices.tolist() == [jax.devices()[i : i + 2] for i in (0, 2, 4, 6)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"num_devices": 9}, r"num_devices = 9: this process has 8 .*num_cpu_devices"),
        ({"population": 16, "data": 1}, "num_devices = 16: this process has 8"),
        ({"population": 3}, "population = 3: must divide num_devices = 8"),
        ({"data": 5}, "data = 5: must divide num_devices = 8"),
        ({"num_devices": 4, "population": 4, "data": 2}, "must be population \\* data = 8"),
        ({"population": 0}, "population = 0: must be an integer of at least 1"),
        ({"data": 1.5}, "data = 1.5: must be an integer of at least 1"),
    ],
)
def test_axes_that_do_not_fit_are_refused(arguments, says):
    with pytest.raises(ConfigError, match=says):
        make_mesh(**arguments)


def devices_of(*counts):
    """So many devices of each process; only the fields that a mesh looks at."""
    return [
        types.SimpleNamespace(process_index=index, id=100 * index + number, platform="gpu")
        for index, count in enumerate(counts)
        for number in range(count)
    ]


def ids(devices):
    return [device.id for device in devices]


def test_devices_are_ordered_by_their_processes():
    devices = devices_of(3, 2, 3)
    for seed in range(5):
        mixed = [devices[i] for i in np.random.default_rng(seed).permutation(len(devices))]
        assert in_process_order(mixed) == devices
    late = types.SimpleNamespace(process_index=0, id=999)  # ids need not follow the processes
    assert in_process_order([*devices, late]) == [*devices[:3], late, *devices[3:]]


@pytest.mark.parametrize(
    ("counts", "num_devices", "chosen"),
    [
        ((4, 4), 8, [0, 1, 2, 3, 100, 101, 102, 103]),
        ((4, 4), 4, [0, 1, 100, 101]),
        ((4, 2, 3), 3, [0, 100, 200]),
        ((4, 2, 3), 6, [0, 1, 100, 101, 200, 201]),
    ],
)
def test_equally_many_devices_of_each_process_are_chosen(monkeypatch, counts, num_devices, chosen):
    monkeypatch.setattr(jax, "process_count", lambda: len(counts))
    assert ids(in_equal_parts(devices_of(*counts), num_devices)) == chosen


@pytest.mark.parametrize(
    ("counts", "num_devices", "works"),
    [
        ((4, 4), 5, "must be 2 * n, with n from 1 to 4: as many of each process"),
        ((4, 4), 1, "must be 2 * n, with n from 1 to 4: as many of each process"),
        ((4, 2, 3), 9, "must be 3 * n, with n from 1 to 2: as many of each process"),
    ],
)
def test_unequal_parts_are_refused_with_what_works(monkeypatch, counts, num_devices, works):
    monkeypatch.setattr(jax, "process_count", lambda: len(counts))
    with pytest.raises(ConfigError) as caught:
        in_equal_parts(devices_of(*counts), num_devices)
    assert str(caught.value) == f"num_devices = {num_devices}: {works}"


def test_a_mesh_of_several_processes_is_in_their_order(monkeypatch):
    devices = devices_of(4, 4)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "devices", lambda: devices[::-1])
    monkeypatch.setattr(meshes, "Mesh", lambda array, names, axis_types: (array, names))
    (along, names), (square, both) = make_mesh(6), make_mesh(4, population=2)
    assert (ids(along), names) == ([0, 1, 2, 100, 101, 102], ("data",))
    assert [ids(row) for row in square] == [[0, 1], [100, 101]]
    assert both == ("population", "data")
    with pytest.raises(ConfigError, match=r"num_devices = 9: 2 processes have 8 gpu device\(s\)"):
        make_mesh(9)


def test_a_mesh_of_one_process_spans_no_others():
    assert not spans_processes(None)
    assert not spans_processes(make_mesh())
    assert spans_processes(types.SimpleNamespace(local_devices=[1], devices=np.zeros(2)))
