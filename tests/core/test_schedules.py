"""The linear schedule."""

import jax.numpy as jnp
import numpy as np

from jaxdrl.core.schedules import linear


def test_a_line_then_constant():
    found = [float(linear(2.0, -1.0, 7.5, jnp.int32(update))) for update in range(12)]
    expected = np.interp(np.arange(12), [0.0, 7.5], [2.0, -1.0])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
