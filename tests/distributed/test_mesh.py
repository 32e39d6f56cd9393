"""Meshes of one axis and of two."""

import jax
import pytest
from jax.sharding import AxisType

from jaxdrl.distributed.mesh import make_mesh
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
