"""An algorithm of one's own under the users' compiler flags, by which equal bits are promised."""

import pytest
from test_seam import check_members, make, mesh_of, trained

from jaxdrl.runs.metrics_log import sha256

FULLY_OPTIMIZED = True


@pytest.mark.parametrize(
    ("memory", "meshes"),
    [
        ("none", (1, 8)),
        pytest.param("none", (1, 2, 4), marks=pytest.mark.slow),
        pytest.param("gru", (1, 8), marks=pytest.mark.slow),
    ],
)
def test_reproducible_mode_has_the_same_bits_on_any_number_of_devices(memory, meshes):
    settings = {"reproducible": True, "memory": memory, "memory_size": 4}
    found = {sha256(trained(make(mesh_of(n), **settings), 5)) for n in meshes}
    assert len(found) == 1


@pytest.mark.slow  # PPO has them in populations/test_population_bits.py
def test_members_one_by_one_have_the_bits_that_they_have_alone():
    check_members(one_by_one=True)
