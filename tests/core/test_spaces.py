"""Spaces: validation, membership, samples, equality."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxdrl import spaces
from jaxdrl.core.spaces import Box, Discrete, MultiDiscrete

INF = np.inf
INT32, UINT32 = np.iinfo(np.int32), np.iinfo(np.uint32)
LARGEST = np.finfo(np.float32).max
SPACES = {
    "discrete": Discrete(5, "uint8"),
    "multi": MultiDiscrete((2, 3)),
    "float": Box([-INF, 1.0, -INF, -1.0], [INF, INF, 2.0, 3.0], (4,), "float64"),
    "widest": Box([-1.0, 2.0, -LARGEST], [1.0, 2.0, LARGEST], (3,)),
    "integer": Box([-128, 5, 126], [-127, 9, 127], (3,), "int8"),
    "unsigned": Box([0, 3, 0], [UINT32.max, UINT32.max, 1], (3,), "uint32"),
    "signed": Box([INT32.min, -1], [INT32.max, 2**40], (2,), "int64"),
    "bool": Box(0, 1, (2,), "bool"),
}
OTHERS = [
    Discrete(1),
    Discrete(3),
    Discrete(3, "uint8"),
    Discrete(256, "uint8"),
    MultiDiscrete((2,)),
    MultiDiscrete((3, 2)),
    Box(0.0, 1.0, ()),
    Box(0.0, 1.0, (1,)),
    Box(-1.0, 3.0, (2, 2)),
    Box(-1.0, [[3.0], [4.0]], (2, 2)),
    Box([[-1.0], [-2.0]], 3.0, (2, 2)),
    Box(-1, 3, (2, 2), "int32"),
    Box(-1.0, 1.0, (0,)),
]


@functools.cache
def samples():
    """4000 samples of each space, `{name: [4000, *shape]}`; all at once, to compile once."""
    draw = jax.jit(
        lambda keys: {
            name: jax.lax.map(space.sample, keys[i])
            for i, (name, space) in enumerate(SPACES.items())
        }
    )
    return jax.device_get(draw(jax.random.split(jax.random.key(0), (len(SPACES), 4000))))


@pytest.mark.parametrize("name", SPACES)
def test_samples_are_elements(name):
    space, some = SPACES[name], samples()[name]
    assert some.shape == (4000, *space.shape)
    assert some.dtype == jax.dtypes.canonicalize_dtype(space.dtype)
    assert all(space.contains(x) for x in some[:100])


def test_samples_of_integers_are_uniform():
    def uniform(x, low, high):
        counts = np.bincount(x.astype(int) - low, minlength=high - low + 1)
        return len(counts) == high - low + 1 and scipy.stats.chisquare(counts).pvalue > 1e-3

    assert uniform(samples()["discrete"], 0, 4)
    assert uniform(samples()["multi"] @ [3, 1], 0, 5)
    for x, low, high in zip(samples()["integer"].T, [-128, 5, 126], [-127, 9, 127], strict=True):
        assert uniform(x, low, high)
    assert uniform(samples()["bool"] @ [2, 1], 0, 3)
    # All 32 bits are used, the sign too.
    unsigned, signed = samples()["unsigned"].astype(float), samples()["signed"].astype(float)
    for x in (unsigned[:, 0], unsigned[:, 1], signed[:, 0] - INT32.min, 2 * signed[:, 1]):
        assert scipy.stats.kstest(x / 2.0**32, "uniform").pvalue > 1e-3


def test_samples_of_floats_fit_their_bounds():
    x = samples()["float"]
    assert scipy.stats.kstest(x[:, 0], "norm").pvalue > 1e-3
    assert scipy.stats.kstest(x[:, 1] - 1.0, "expon").pvalue > 1e-3
    assert scipy.stats.kstest(2.0 - x[:, 2], "expon").pvalue > 1e-3
    assert scipy.stats.kstest((x[:, 3] + 1.0) / 4.0, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(x.T) - np.eye(4)).max() < 0.06
    x = samples()["widest"].astype(float)
    assert scipy.stats.kstest((x[:, 0] + 1.0) / 2.0, "uniform").pvalue > 1e-3
    assert (x[:, 1] == 2.0).all()
    assert scipy.stats.kstest(x[:, 2] / LARGEST / 2.0 + 0.5, "uniform").pvalue > 1e-3


def test_one_sample_outside_jit():
    space = Box(-1.0, 3.0, (2, 3))
    assert space.contains(space.sample(jax.random.key(0)))


@pytest.mark.parametrize("space", [*SPACES.values(), *OTHERS], ids=repr)
def test_is_hashable_equal_and_shown_by_what_rebuilds_it(space):
    again = eval(repr(space), {"inf": INF, "dtype": np.dtype, **vars(spaces)})
    assert again == space
    assert hash(again) == hash(space)
    assert space in {again}


def test_differing_spaces_are_not_equal():
    different = [*SPACES.values(), *OTHERS, "Discrete(3)"]
    assert len(set(different)) == len(different)
    assert not any(a == b for i, a in enumerate(different) for b in different[:i])
    assert Box(0.0, 1.0, (2,)) == Box([-0.0, 0.0], 1.0, (2,))
    assert hash(Box(0.0, 1.0, (2,))) == hash(Box([-0.0, 0.0], 1.0, (2,)))


def test_contains():
    assert Discrete(3).contains(2)
    assert Discrete(3).contains(np.uint8(0))
    for wrong in (3, -1, 1.0, True, [1], "1"):
        assert not Discrete(3).contains(wrong)
    assert MultiDiscrete((2, 3)).contains(np.array([1, 2]))
    for wrong in ([2, 0], [0, 3], [-1, 0], [0], 0, [0.0, 1.0]):
        assert not MultiDiscrete((2, 3)).contains(wrong)
    box = Box(-1.0, [1.0, 2.0], (2,))
    for right in ([1.0, 2.0], [-1, -1], jnp.asarray([0.0, 1.5]), np.zeros(2, np.float16)):
        assert box.contains(right)
    for wrong in ([1.1, 0.0], [0.0, -1.1], [0.0, np.nan], [0.0, INF], 0.0, [0.0], [1j, 0]):
        assert not box.contains(wrong)
    assert Box(0.1, 0.7, ()).contains(0.1)  # float64's 0.1 is below float32's
    assert not Box(0.0, 1.0, ()).contains(1e300)
    assert Box(-INF, INF, ()).contains(INF)
    assert Box(0, 255, (), "uint8").contains(np.int64(255))
    for wrong in (256, -1, 0.5, True):
        assert not Box(0, 255, (), "uint8").contains(wrong)
    assert Box(0, 1, (), "bool").contains(True)
    assert not Box(0, 1, (), "bool").contains(1)


def test_box_keeps_read_only_arrays():
    low = np.zeros(2, np.float32)
    box = Box(low, jnp.ones(2), [2])
    low[0] = 9.0
    assert box.low.tolist() == [0.0, 0.0]
    assert box.low.dtype == box.high.dtype == np.float32
    assert box.shape == (2,)
    assert box.bounded.tolist() == [True, True]
    assert Box([0.0, -INF], [INF, 1.0], (2,)).bounded.tolist() == [False, False]
    with pytest.raises(ValueError, match="read-only"):
        box.low[0] = 1.0
    with pytest.raises(AttributeError):
        box.low = low


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Discrete(0), r"n must be an int from 1 to 2147483647, got 0"),
        (lambda: Discrete(2.0), r"n must be an int .* got 2\.0"),
        (lambda: Discrete(True), r"n must be an int .* got True"),
        (lambda: Discrete(257, "uint8"), r"n must be an int from 1 to 256, got 257"),
        (lambda: Discrete(2, "float32"), r"dtype must be an integer type.* got 'float32'"),
        (lambda: MultiDiscrete(()), r"nvec must be a non-empty tuple .* got \(\)"),
        (lambda: MultiDiscrete(3), r"nvec must be a non-empty tuple .* got 3"),
        (lambda: MultiDiscrete((2, 0)), r"nvec\[1\] must be an int from 1 .* got 0"),
        (lambda: Box(1.0, 0.0, ()), r"low must be at most high .* got Box\(low=1\.0, high=0\.0"),
        (lambda: Box(0.0, [1.0, -1.0], (2,)), r"low must be at most high"),
        (lambda: Box(np.nan, 1.0, ()), r"low must be at most high everywhere, neither may be NaN"),
        (lambda: Box(INF, INF, ()), r"low must be .* low must not be inf"),
        (lambda: Box(-INF, -INF, ()), r"low must be .* high not -inf"),
        (lambda: Box([0.0, 0.0], 1.0, (3,)), r"low must be .* shape=\(3,\), got shape \(2,\)"),
        (lambda: Box(0.0, np.ones((2, 3)), (3,)), r"high must be .* got shape \(2, 3\)"),
        (lambda: Box(0, 256, (), "uint8"), r"high must be whole .* 0 to 255 .* got 256"),
        (lambda: Box(0.5, 2, (), "int32"), r"low must be whole numbers .* got 0\.5"),
        (lambda: Box(0, INF, (), "int32"), r"high must be whole numbers .* got inf"),
        (lambda: Box(0, 2, (), "bool"), r"high must be whole numbers from 0 to 1 .* got 2"),
        (lambda: Box(0, 1, (), "complex64"), r"dtype must be a float.* got 'complex64'"),
    ],
)
def test_refuses(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_does_not_import_jax():
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1], run_name='jaxdrl_spaces');"
        "sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, spaces.__file__], check=True, timeout=60)
