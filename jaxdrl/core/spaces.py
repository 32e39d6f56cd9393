"""Spaces of observations and actions: Discrete, MultiDiscrete, Box, Dict.

Spaces are frozen, hashable and compared by value, so that they can be static arguments of compiled
functions. JAX is imported only when a sample is drawn.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from jaxdrl.core.space_arguments import bound_of, dtype_of, short, size_of

if TYPE_CHECKING:
    import jax


@dataclasses.dataclass(frozen=True)
class Discrete:
    """The integers 0..n-1, a scalar of an integer `dtype`.

    Raises ValueError unless 1 <= n < 2^31 and n - 1 fits the dtype.

    >>> Discrete(3).contains(2)
    True
    """

    n: int
    dtype: npt.DTypeLike = "int32"

    def __post_init__(self) -> None:
        dtype = dtype_of("dtype", self.dtype, kinds="iu")
        object.__setattr__(self, "n", size_of("n", self.n, dtype))
        object.__setattr__(self, "dtype", dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Always `()`."""
        return ()

    def sample(self, key: jax.Array) -> jax.Array:
        """A uniform sample; the key is consumed. 64-bit types give 32 bits without x64."""
        import jax

        dtype = jax.dtypes.canonicalize_dtype(self.dtype)
        return jax.random.randint(key, (), 0, self.n).astype(dtype)

    def contains(self, x: Any) -> bool:
        """Whether concrete `x` is one element: an integer scalar in range."""
        x = np.asarray(x)
        return x.shape == () and x.dtype.kind in "iu" and 0 <= int(x) < self.n


@dataclasses.dataclass(frozen=True)
class MultiDiscrete:
    """Vectors of integers, component i in 0..nvec[i]-1; int32 of shape `(len(nvec),)`.

    Raises ValueError unless there is at least one component and each nvec[i] >= 1.

    >>> MultiDiscrete((2, 3)).contains([1, 2])
    True
    """

    nvec: tuple[int, ...]

    def __post_init__(self) -> None:
        if np.ndim(self.nvec) != 1 or not len(self.nvec):
            raise ValueError(
                f"nvec must be a non-empty tuple of ints, such as (2, 3), got {self.nvec!r}"
            )
        sizes = tuple(size_of(f"nvec[{i}]", n, self.dtype) for i, n in enumerate(self.nvec))
        object.__setattr__(self, "nvec", sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(len(nvec),)`."""
        return (len(self.nvec),)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always int32."""
        return np.dtype(np.int32)

    def sample(self, key: jax.Array) -> jax.Array:
        """A uniform sample, components independent; the key is consumed."""
        import jax

        sizes = np.array(self.nvec, np.int32)
        return jax.random.randint(key, self.shape, 0, sizes)

    def contains(self, x: Any) -> bool:
        """Whether concrete `x` is one element: integers of the right shape and range."""
        x = np.asarray(x)
        if x.shape != self.shape or x.dtype.kind not in "iu":
            return False
        return bool(np.all((x >= 0) & (x < np.array(self.nvec))))


@dataclasses.dataclass(frozen=True, init=False, repr=False, eq=False)
class Box:
    """Arrays with `low <= x <= high`, element by element, of a float, integer or bool `dtype`.

    `low` and `high` are scalars or arrays that broadcast to `shape`, kept as read-only NumPy
    arrays of that shape and dtype; bounds of floats may be infinite. Raises ValueError unless
    `low <= high` everywhere, and if integer bounds do not fit the dtype.

    >>> Box(-1.0, [1.0, 2.0], shape=(2,)).contains([0.5, 1.5])
    True
    """

    low: np.ndarray[Any, Any]
    high: np.ndarray[Any, Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    # Written by hand because it accepts scalars, lists and names of dtypes, unlike the fields.
    def __init__(
        self,
        low: npt.ArrayLike,
        high: npt.ArrayLike,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike = "float32",
    ) -> None:
        object.__setattr__(self, "shape", tuple(operator.index(n) for n in shape))
        object.__setattr__(self, "dtype", dtype_of("dtype", dtype, kinds="fiub"))
        object.__setattr__(self, "low", bound_of("low", low, self.shape, self.dtype))
        object.__setattr__(self, "high", bound_of("high", high, self.shape, self.dtype))
        # Written so that NaN fails it too.
        if not np.all((self.low <= self.high) & (self.low < np.inf) & (self.high > -np.inf)):
            raise ValueError(
                "low must be at most high everywhere, neither may be NaN, low must not be inf and "
                f"high not -inf, such as low=-1.0 and high=1.0; got {self!r}"
            )

    def __repr__(self) -> str:
        low, high = short(self.low), short(self.high)
        return f"Box(low={low}, high={high}, shape={self.shape}, dtype={self.dtype.name!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Box):
            return NotImplemented
        return (
            (self.shape, self.dtype) == (other.shape, other.dtype)
            and np.array_equal(self.low, other.low)
            and np.array_equal(self.high, other.high)
        )

    def __hash__(self) -> int:
        # Hashes Python numbers, not bytes: -0.0 equals 0.0, so their hashes must agree.
        low, high = tuple(self.low.ravel().tolist()), tuple(self.high.ravel().tolist())
        return hash((self.shape, self.dtype, low, high))

    @property
    def bounded(self) -> np.ndarray[Any, Any]:
        """True where both bounds are finite, bool of the space's shape."""
        return np.asarray(np.isfinite(self.low) & np.isfinite(self.high))

    def sample(self, key: jax.Array) -> jax.Array:
        """A sample, elements independent; the key is consumed.

        An element is uniform if both its bounds are finite, standard normal if neither is, and
        otherwise the finite bound plus or minus a standard exponential. 64-bit types give 32 bits
        unless x64 is enabled. The largest value of a 32-bit or 64-bit integer type is never drawn.
        """
        return self._sample_integers(key) if self.dtype.kind != "f" else self._sample_floats(key)

    def _sample_integers(self, key: jax.Array) -> jax.Array:
        import jax

        dtype = jax.dtypes.canonicalize_dtype(self.dtype)
        # randint excludes its upper limit, and 255 + 1 does not fit uint8: draw in a wider type.
        wide = np.dtype(np.int32) if dtype.itemsize < 4 else dtype
        limits = np.iinfo(wide)
        low = np.clip(self.low.astype(object), limits.min, limits.max)
        high = np.clip(self.high.astype(object), limits.min, limits.max - 1) + 1
        low, high = np.asarray(low, wide), np.asarray(high, wide)
        return jax.random.randint(key, self.shape, low, high, wide).astype(dtype)

    def _sample_floats(self, key: jax.Array) -> jax.Array:
        import jax
        import jax.numpy as jnp

        dtype = jax.dtypes.canonicalize_dtype(self.dtype)
        uniform_key, normal_key, exponential_key = jax.random.split(key, 3)
        has_low, has_high = np.isfinite(self.low), np.isfinite(self.high)
        low = np.where(has_low, self.low, np.zeros_like(self.low))
        high = np.where(has_high, self.high, np.zeros_like(self.high))
        # Halve before the difference: high - low overflows where the bounds are the largest floats.
        middle, half = low / 2 + high / 2, high / 2 - low / 2
        x = jax.random.uniform(uniform_key, self.shape, dtype, -1.0, 1.0) * half + middle
        if not self.bounded.all():
            exponential = jax.random.exponential(exponential_key, self.shape, dtype)
            one_sided = jnp.where(has_low, low + exponential, high - exponential)
            unbounded = jax.random.normal(normal_key, self.shape, dtype)
            x = jnp.where(self.bounded, x, jnp.where(has_low | has_high, one_sided, unbounded))
        return jnp.clip(x, self.low, self.high)

    def contains(self, x: Any) -> bool:
        """Whether concrete `x` is one element: of the right shape, in range, of a fitting dtype.

        Integers fit a float box; apart from that, floats, integers and bools do not fit each other.
        The width of the type does not matter.
        """
        x = np.asarray(x)
        fitting = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}[self.dtype.kind]
        if x.shape != self.shape or x.dtype.kind not in fitting:
            return False
        if self.dtype.kind == "f":
            # 0.1 is in a float32 box with low=0.1, although 0.1 in float64 is below it.
            with np.errstate(over="ignore"):
                x = x.astype(self.dtype)
        return bool(np.all((self.low <= x) & (x <= self.high)))


Space: TypeAlias = Discrete | MultiDiscrete | Box


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class Dict:
    """Dictionaries with one space for each name; for observations only.

    The entries are sorted by name. Raises ValueError if there are none, and TypeError for a value
    that is not a space.

    >>> Dict({"speed": Box(0.0, 1.0, ()), "gear": Discrete(5)}).contains({"speed": 0.5, "gear": 4})
    True
    """

    items: tuple[tuple[str, Any], ...]

    def __init__(self, spaces: Mapping[str, Any]) -> None:
        if not spaces:
            raise ValueError("spaces must have at least one entry, got none")
        for name, space in spaces.items():
            if not isinstance(space, (Discrete, MultiDiscrete, Box, Dict)):
                raise TypeError(
                    f"spaces[{name!r}] must be one of jaxdrl's spaces, got {type(space).__name__}"
                )
        object.__setattr__(self, "items", tuple(sorted(spaces.items())))

    def __repr__(self) -> str:
        return f"Dict({dict(self.items)!r})"

    def __getitem__(self, name: str) -> Any:
        """The space called `name`."""
        return dict(self.items)[name]

    def sample(self, key: jax.Array) -> dict[str, Any]:
        """A sample of each space; the key is consumed."""
        import jax

        keys = jax.random.split(key, len(self.items))
        return {name: space.sample(keys[i]) for i, (name, space) in enumerate(self.items)}

    def contains(self, x: Any) -> bool:
        """Whether concrete `x` has the same names, and each value is an element of its space."""
        spaces = dict(self.items)
        same = isinstance(x, Mapping) and x.keys() == spaces.keys()
        return same and all(space.contains(x[name]) for name, space in self.items)


ObservationSpace: TypeAlias = Space | Dict
"""The spaces of observations: those of actions, and dictionaries of them."""
