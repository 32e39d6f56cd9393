"""Fast mode agrees on any number of devices but for rounding, whatever the compiler's effort."""

import pytest
from test_device_invariance import SETTINGS, check_fast_mode


@pytest.mark.parametrize("name", SETTINGS)
def test_one_update_of_fast_mode_agrees_on_1_and_8_devices(name):
    check_fast_mode(name, [8])
