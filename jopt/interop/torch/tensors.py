"""Tensors of torch's as NumPy arrays and back, every bit, and what one must be that jopt holds."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from jopt.base import CheckpointError
from jopt.numerics import is_complex, widest

Array = np.ndarray[Any, Any]
Lines = list[str]
"""What does not fit, a line each: whatever finds something adds to it."""


def to_numpy(who: str, name: str, tensor: Any) -> Array:
    """A tensor, NumPy or jax array on the host, sharing memory with nothing.

    torch's `numpy()` refuses bfloat16 and the 8-bit floats: their bits go through an integer.
    """
    if not hasattr(tensor, "detach"):
        return np.array(tensor, order="C")
    if hasattr(tensor, "full_tensor"):  # sharded: every process has to take part
        tensor = tensor.full_tensor()
    if str(tensor.layout) != "torch.strided":
        raise CheckpointError(who, f"a sparse tensor, {tensor.layout}", path=name)
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.dtype.is_floating_point and hasattr(ml_dtypes, kind):
        import torch

        bits = tensor.view(torch.int16 if tensor.dtype.itemsize == 2 else torch.uint8)
        return np.array(bits.numpy()).view(getattr(ml_dtypes, kind))
    try:
        return np.array(tensor.numpy())
    except (TypeError, RuntimeError) as error:
        raise CheckpointError(
            who, f"NumPy cannot hold {tensor.dtype}", path=name, found=str(error)
        ) from None


def to_torch(who: str, name: str, array: Any) -> Any:
    """An array as a torch tensor on the CPU that shares memory with nothing."""
    import torch

    value = np.array(array, order="C")
    if hasattr(ml_dtypes, value.dtype.name):
        kind = getattr(torch, value.dtype.name, None)
        if kind is None:
            raise CheckpointError(who, f"torch cannot hold {value.dtype}", path=name)
        bits = value.view(np.int16 if value.dtype.itemsize == 2 else np.uint8)
        return torch.from_numpy(bits).view(kind)
    return torch.from_numpy(value)


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


def counted(lines: Lines, who: str, value: Any, below: int = 2**31) -> int | None:
    """A count that torch keeps as an int, a float or a tensor with one element.

    `None` if it is none, or not `below`, which `lines` then say.
    """
    array = array_of(value)
    if isinstance(array, str):
        found = array
    elif array.size != 1:
        found = f"an array of shape {array.shape}"
    else:
        number = array.reshape(()).item()
        real = not isinstance(number, complex)
        if real and 0 <= number < below and number == int(number):
            return int(number)
        found = repr(number)
    wanted = "whole number from 0" if below == 2**31 else f"number below {below}"
    lines.append(f"{who}: expected a {wanted}, found {found}")
    return None


def fitted(
    lines: Lines,
    who: str,
    value: Any,
    shape: tuple[int, ...],
    dtype: Any,
    cast: bool = False,
    one: bool = False,
) -> Array | None:
    """A tensor, array or number as an array of this shape that `dtype` holds.

    `None` if it is none, which `lines` then say. `cast`: it may be rounded. `one`: any shape will
    do that has one element, and Python's numbers have no precision.
    """
    array = array_of(value)
    if isinstance(array, str):
        lines.append(f"{who}: expected an array, found {array}")
        return None
    if one and array.size == 1:
        array = np.asarray(array.reshape(()), None if hasattr(value, "dtype") else dtype)
    if array.shape != shape:
        lines.append(f"{who}: shape: expected {shape}, found {array.shape}")
        return None
    if dtype is None:
        return array
    dtype = jnp.dtype(dtype)
    fits = jnp.issubdtype(array.dtype, jnp.inexact)
    fits = fits and is_complex(array.dtype) == is_complex(dtype)
    if fits and (cast or widest(array.dtype, dtype) == dtype):
        return array
    lines.append(f"{who}: dtype: expected {np.dtype(dtype).name}, found {array.dtype.name}")
    return None


def sent(lines: Lines, what: str, array: Any, dtype: Any) -> Any:
    """An array as torch's tensor of this dtype, rounded; `None`, and a line, beyond its range."""
    small = narrowed(np.asarray(array), dtype)
    if small is None:
        lines.append(f"{what} beyond {np.dtype(dtype).name}")
    return None if small is None else to_torch("export_optimizer", what, small)


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
