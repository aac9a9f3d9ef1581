"""What an array of a torch state must be before jopt holds it, and the other way."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from jopt.base import CheckpointError
from jopt.interop.torch.tensors import to_numpy
from jopt.numerics import is_complex, widest

Array = np.ndarray[Any, Any]


def array_of(value: Any) -> Array | str:
    """A tensor, array or number as a NumPy array, or what it is instead."""
    if isinstance(value, bool | str | bytes) or value is None:
        return type(value).__name__
    try:
        array = to_numpy("import_optimizer", "", value)
    except (CheckpointError, TypeError, ValueError, RuntimeError):
        return f"{type(value).__name__} without dense numbers"
    if not jnp.issubdtype(array.dtype, jnp.number):
        return type(value).__name__
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def whole(value: Any) -> int | str:
    """A count that torch keeps as an int, a float or a tensor with one element; or what it is."""
    array = array_of(value)
    if isinstance(array, str):
        return array
    if array.size != 1:
        return f"an array of shape {array.shape}"
    number = array.reshape(()).item()
    if isinstance(number, complex) or not math.isfinite(number) or number != int(number):
        return repr(number)
    return int(number) if 0 <= number < 2**31 else repr(number)


def unfit(array: Array, dtype: Any, cast: bool) -> str | None:
    """Why an array cannot be held as `dtype`, if it cannot; rounding is allowed by `cast` only."""
    dtype = jnp.dtype(dtype)
    fits = jnp.issubdtype(array.dtype, jnp.inexact)
    fits = fits and is_complex(array.dtype) == is_complex(dtype)
    if fits and (cast or widest(array.dtype, dtype) == dtype):
        return None
    return f"dtype: expected {np.dtype(dtype).name}, found {array.dtype.name}"


def narrowed(array: Array, dtype: Any) -> Array | None:
    """The array as `dtype`, rounded; `None` if a finite number would become infinite."""
    with np.errstate(over="ignore"):
        out = array.astype(dtype)
    finite = np.isfinite(np.asarray(array, widest(array.dtype, np.float32)))
    kept = np.isfinite(np.asarray(out, widest(out.dtype, np.float32)))
    return out if bool(np.all(kept | ~finite)) else None


def shortest(number: Any) -> float:
    """The number with the fewest digits that the stored one stands for: 0.1 for float32's."""
    return float(str(np.asarray(number)[()]))
