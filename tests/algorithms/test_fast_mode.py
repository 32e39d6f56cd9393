"""Fast mode agrees on any number of devices but for rounding, whatever the compiler's effort."""

import pytest
from test_device_invariance import SETTINGS, check_fast_mode

LEFT_OUT = {"Breakout-MinAtar", "MemoryChain-bsuite"}
"""What `Freeway-MinAtar` and `team` have too: convolutions, and a memory with V-trace and a loss of
one's own; the slow test of `test_device_invariance.py` has them all."""


@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in LEFT_OUT])
def test_one_update_of_fast_mode_agrees_on_1_and_8_devices(name):
    check_fast_mode(name, [8])
