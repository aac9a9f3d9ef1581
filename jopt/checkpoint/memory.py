"""The memory that numbers pass through: views of arrays and of bytes, never copies."""

from __future__ import annotations

import io
import math
from typing import Any, BinaryIO, cast

import numpy as np

Host = np.ndarray[Any, Any]

ALIGNMENT = 64
"""jax on a CPU takes over an array that begins at such an address, and copies any other."""

_SMALL = 2**16


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Host:
    """An array to be filled, where jax can take it over without a copy."""
    size = math.prod(shape) * dtype.itemsize
    if size < _SMALL:
        return np.empty(shape, dtype)
    room = np.empty(size + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + size].view(dtype).reshape(shape)


def filled(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Host, bytearray | memoryview]:
    """An array to be filled, and its bytes."""
    size = math.prod(shape) * dtype.itemsize
    if size < _SMALL:  # this way round it takes a fifth of the time
        data = bytearray(size)
        return np.ndarray(shape, dtype, data), data
    array = empty(shape, dtype)
    return array, bytes_of(array)


def compact(array: Host) -> Host:
    """The array, or if its numbers are scattered a copy that jax can take over."""
    if array.flags.c_contiguous:
        return array
    copy = empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def bytes_of(array: Host) -> memoryview:
    """The bytes of an array in C order, shared with it."""
    # ml_dtypes have no buffer protocol of their own, hence the view.
    return array.reshape(-1).view(np.uint8).data


def fill(room: bytearray | memoryview, file: BinaryIO) -> None:
    """Read into all of `room`, or as much of it as the file has bytes for."""
    done: int = file.readinto(room)  # type: ignore[attr-defined]
    while 0 < done < len(room):
        read: int = file.readinto(memoryview(room)[done:])  # type: ignore[attr-defined]
        if not read:  # cut off meanwhile: the sum will not be right
            return
        done += read


def opened(data: bytes | bytearray | memoryview) -> BinaryIO:
    """The bytes as a file, without a copy of them."""
    # Of bytes, which cannot change, BytesIO makes none either, and it is faster.
    return io.BytesIO(data) if type(data) is bytes else cast(BinaryIO, _Bytes(data))


class _Bytes(io.RawIOBase):
    """A file to read from, over memory that may change: `io.BytesIO` would copy it."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        self._data = (view if view.c_contiguous else memoryview(bytes(view))).cast("B")
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, counted as for any file."""
        self._at = offset + {0: 0, 1: self._at, 2: len(self._data)}[whence]
        return self._at

    def readinto(self, target: Any) -> int:
        """Fill `target`, or as much of it as there are bytes for; says how much."""
        room = memoryview(target).cast("B")
        part = self._data[self._at : self._at + len(room)]
        room[: len(part)] = part
        self._at += len(part)
        return len(part)
