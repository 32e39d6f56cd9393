"""What spaces are made from, checked and in one form; what does not fit raises ValueError."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def dtype_of(field: str, value: npt.DTypeLike, kinds: str) -> np.dtype[Any]:
    """`value` as a dtype of one of NumPy's `kinds`."""
    dtype = np.dtype(value)
    if dtype.kind not in kinds:
        works = "an integer type such as 'int32'"
        if "f" in kinds:
            works = "a float, integer or bool type such as 'float32'"
        raise ValueError(f"{field} must be {works}, got {dtype.name!r}")
    return dtype


def size_of(field: str, value: Any, dtype: np.dtype[Any]) -> int:
    """`value` as an int from 1 to 2^31 - 1, such that `dtype` holds 0..value-1."""
    largest = min(int(np.iinfo(dtype).max) + 1, 2**31 - 1)
    is_int = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_int or not 1 <= int(value) <= largest:
        raise ValueError(f"{field} must be an int from 1 to {largest}, got {value!r}")
    return int(value)


def bound_of(
    field: str, value: npt.ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> np.ndarray[Any, Any]:
    """`value` as a read-only array of `shape` and `dtype`."""
    given = np.asarray(value)
    try:
        bound = np.broadcast_to(given, shape)
    except ValueError:
        raise ValueError(
            f"{field} must be a scalar or broadcast to shape={shape}, got shape {given.shape}"
        ) from None
    if dtype.kind != "f":
        least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        fits = (bound >= least) & (bound <= most)
        if not np.all(fits & (np.where(fits, bound, 0) % 1 == 0)):
            raise ValueError(
                f"{field} must be whole numbers from {least} to {most} for "
                f"dtype={dtype.name!r}, got {given.tolist()!r}"
            )
    bound = bound.astype(dtype)
    bound.setflags(write=False)
    return bound


def short(bound: np.ndarray[Any, Any]) -> Any:
    """One number if all elements are equal, else nested lists."""
    if bound.size and np.all(bound == bound.flat[0]):
        return bound.flat[0].item()
    return bound.tolist()
