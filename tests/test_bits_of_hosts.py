"""Runs have the same bits on any number of processes, of any number of devices.

All of it is slow.
"""

import pytest

from test_runs_of_hosts import KINDS, directory, made, trained  # noqa: F401  the fixtures

FULLY_OPTIMIZED = True


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_bits_do_not_depend_on_the_number_of_processes(made, directory, kind):  # noqa: F811
    expected, _ = trained(made, kind, directory / f"{kind}-1", 1, 8)
    assert len(expected["metrics"]) == 12
    for count in (2, 4):
        found, _ = trained(made, kind, directory / f"{kind}-{count}", count, 8 // count)
        assert found == expected
