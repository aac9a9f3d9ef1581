"""Arrays and scalars of NumPy in a file, under the old and the new names of its modules."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np

from jopt.interop.torchfiles.pickles.machine import Machine, Maker
from jopt.interop.torchfiles.pickles.placeholder import Name, Placeholder, RefusedError, Unfinished
from jopt.interop.torchfiles.pickles.tensors import EXPANDED, sizes

# Numbers and text. Structures, dates and objects stay placeholders.
_CODE = re.compile(r"[<>=|]?([biufc]\d{1,2}|[SUa]\d{1,9}|[?bBhHiIlLqQefdFD])\Z")


def _dtype(machine: Machine, args: tuple[Any, ...]) -> Any:
    code = args[0] if args else None
    if isinstance(code, Name) and code.text.startswith("ml_dtypes."):
        kind = getattr(ml_dtypes, code.text.rpartition(".")[2], None)
        if isinstance(kind, type) and issubclass(kind, np.generic):
            return Unfinished("numpy.dtype", np.dtype(kind))
    if isinstance(code, str) and _CODE.match(code):
        return Unfinished("numpy.dtype", np.dtype(code))
    return Placeholder("numpy.dtype", args)


def _scalar(machine: Machine, args: tuple[Any, ...]) -> Any:
    dtype, *data = args
    made = _filled(dtype, (), data[0] if data else b"", "C")
    return made if isinstance(made, Placeholder) else made[()]


def _frombuffer(machine: Machine, args: tuple[Any, ...]) -> Any:
    data, dtype, shape, order, *rest = args
    if any(axes is not None for axes in rest):
        return Placeholder("numpy.ndarray")
    return _filled(dtype, shape, data, order)


def settled(target: Unfinished, state: Any) -> Any:
    """An array or a dtype with what the file says of it."""
    if type(state) is not tuple or len(state) < 5:
        raise RefusedError(f"a {target.kind} of no possible state")
    if target.kind == "numpy.ndarray":
        _, shape, dtype, fortran, data = state[:5]
        return _filled(dtype, shape, data, "F" if fortran else "C")
    order = state[1]
    if order not in ("<", ">", "=", "|") or not isinstance(target.value, np.dtype):
        raise RefusedError("a dtype of no possible byte order")
    plain = target.value.isbuiltin == 1 or target.value.kind in "SU"
    return target.value.newbyteorder(order) if plain else target.value


def _filled(dtype: Any, shape: Any, data: Any, order: Any) -> Any:
    if isinstance(dtype, Unfinished):
        dtype = dtype.value
    if not isinstance(dtype, np.dtype):
        return Placeholder("numpy.ndarray", (dtype, shape))
    if isinstance(data, str):  # bytes of Python 2
        data = data.encode("latin-1")
    if not isinstance(data, bytes | bytearray) or order not in ("C", "F"):
        raise RefusedError("an array of no possible content")
    shape = sizes(shape)
    entries = int(np.prod([1, *shape], dtype=object))
    if entries * dtype.itemsize != len(data) or (not dtype.itemsize and entries > EXPANDED):
        raise RefusedError(f"an array of shape {shape} with {len(data)} bytes")
    if not len(data):
        return np.zeros(shape, dtype)
    return np.frombuffer(data, dtype).reshape(shape, order=order).copy(order=order)


MAKERS: dict[str, Maker] = {
    "numpy.dtype": _dtype,
}
for _core in ("numpy.core", "numpy._core"):
    MAKERS[f"{_core}.multiarray._reconstruct"] = lambda m, args: Unfinished("numpy.ndarray")
    MAKERS[f"{_core}.multiarray.scalar"] = _scalar
    MAKERS[f"{_core}.numeric._frombuffer"] = _frombuffer
