"""Members that are trained in waves, under the users' compiler flags: equal bits are promised."""

import dataclasses

import chex
import pytest

import jaxdrl
from small_sweeps import WAVES, quietly

FULLY_OPTIMIZED = True

pytestmark = pytest.mark.usefixtures("compile_cache")


@pytest.mark.slow
def test_a_member_of_a_wave_has_the_bits_that_it_has_among_all(tmp_path):
    """Those that it has alone are in populations/test_population_bits.py."""
    all_at_once = dataclasses.replace(WAVES.sweep, wave_size=None)
    waves, together = (
        quietly(jaxdrl.run, dataclasses.replace(WAVES, run_dir=tmp_path / name, sweep=sweep))
        for name, sweep in {"waves": WAVES.sweep, "together": all_at_once}.items()
    )
    for number in range(3):
        _, _, ours = jaxdrl.restore(waves.run_dir, member=number)
        _, _, theirs = jaxdrl.restore(together.run_dir, member=number)
        chex.assert_trees_all_equal(ours, theirs, strict=True)
    for name in ("settings", "evaluation", "env_steps", "updates"):
        assert waves.result[name] == together.result[name], name
