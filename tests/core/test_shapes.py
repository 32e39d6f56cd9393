"""An array of another shape is refused by name, and nothing is broadcast."""

import jax
import numpy as np
import pytest

from jaxdrl.core.shapes import require_shape


def test_a_shape_is_checked_when_a_function_is_traced():
    @jax.jit
    def doubled(x):
        require_shape("x", x, (3, 2))
        return 2 * x

    assert doubled(np.ones((3, 2))).shape == (3, 2)
    for shape in ((3, 1), (2,), (1, 3, 2)):
        with pytest.raises(ValueError, match=r"expected \(3, 2\).*input 0 is x"):
            doubled(np.ones(shape))
