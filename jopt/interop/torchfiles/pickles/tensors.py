"""Tensors of a file: a view of a storage, never beyond its end."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from jopt.interop.torchfiles.pickles.placeholder import Placeholder, RefusedError

# What torch calls the storages that have a dtype, as files of all versions name them.
_KINDS = (
    "Double float64, Float float32, Half float16, BFloat16 bfloat16, Long int64, Int int32, "
    "Short int16, Char int8, Byte uint8, Bool bool, ComplexDouble complex128, ComplexFloat "
    "complex64"
)
DTYPES = {
    f"torch.{kind}Storage": getattr(torch, dtype)
    for kind, dtype in (row.split() for row in _KINDS.split(", "))
}
DTYPES |= {"torch.storage.UntypedStorage": torch.uint8, "torch.UntypedStorage": torch.uint8}

EXPANDED = 2**26
"""Entries that a tensor may have beyond those that its storage holds."""


@dataclass(frozen=True)
class Storage:
    """Numbers of a file, in the memory of this host.

    **Attributes:** `dtype`; `memory`, torch's storage without one.
    """

    dtype: torch.dtype
    memory: torch.UntypedStorage


def storage(data: bytearray, dtype: torch.dtype, *, big: bool = False) -> Storage:
    """The bytes as a storage; `big`: the most significant one stands first."""
    data = turned(data, dtype, big=big)
    if not data:
        return Storage(dtype, torch.empty(0, dtype=torch.uint8).untyped_storage())
    return Storage(dtype, torch.frombuffer(data, dtype=torch.uint8).untyped_storage())


def turned(data: bytearray, dtype: torch.dtype, *, big: bool) -> bytearray:
    """The bytes in the order of this host."""
    if big == (sys.byteorder == "big"):
        return data
    size = dtype.itemsize // (2 if dtype.is_complex else 1)
    whole = len(data) // size * size
    return bytearray(np.frombuffer(data, f"u{size}", whole // size).byteswap()) + data[whole:]


def tensor(
    held: Any, offset: Any, size: Any, stride: Any, dtype: torch.dtype | None = None
) -> torch.Tensor | Placeholder:
    """The view of a storage that a file describes."""
    if isinstance(held, Placeholder):
        return Placeholder(held.name)
    if not isinstance(held, Storage):
        raise RefusedError("a tensor of what is no storage")
    dtype = held.dtype if dtype is None else dtype
    size, stride = sizes(size), sizes(stride)
    if type(offset) is not int or offset < 0 or len(size) != len(stride):
        raise RefusedError("a tensor of no possible shape")
    within = held.memory.nbytes() // dtype.itemsize
    entries = int(np.prod([1, *size], dtype=object))
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if entries and last >= within:
        raise RefusedError(f"a tensor of shape {size} beyond the end of its storage")
    if entries > max(within, EXPANDED):
        raise RefusedError(f"a tensor of shape {size}, of a storage of {within} entries")
    empty = torch.empty(0, dtype=dtype)
    return empty.set_(held.memory, offset if entries else 0, size, stride)


def sizes(given: Any) -> tuple[int, ...]:
    """A shape or strides."""
    if not isinstance(given, tuple | list) or len(given) > 64:
        raise RefusedError("a tensor of no possible shape")
    if not all(type(n) is int and 0 <= n < 2**63 for n in given):
        raise RefusedError("a tensor of no possible shape")
    return tuple(given)
