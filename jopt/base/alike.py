"""What makes two configurations alike: a hashable stand-in for any argument.

A function that can be imported is alike to itself alone. One that cannot (of a notebook, of
`__main__`, made inside another function) reaches another process only as its code, as `cloudpickle`
writes it, and comes back as another object; so it is compared by its code, the values it closes
over and the globals that it names.
"""

from __future__ import annotations

import dis
import functools
import inspect
import sys
from collections.abc import Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from jopt.base.arguments import plain


def alike(value: Any, within: frozenset[int] = frozenset()) -> Any:
    """Equal for arguments that mean the same, and hashable."""
    value = plain(value)
    if isinstance(value, FunctionType):
        return value if _is_importable(value) else _by_value(value, within)
    if isinstance(value, functools.partial):
        return alike((value.func, value.args, value.keywords), within)
    if isinstance(value, Mapping):
        return frozenset((k, alike(v, within)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return tuple(alike(v, within) for v in value)
    if isinstance(value, set | frozenset):
        return frozenset(alike(v, within) for v in value)
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, ModuleType):
        return value.__name__
    try:
        hash(value)
    except TypeError:  # traced numbers and the like: equal only to themselves
        return id(value)
    return value


def _is_importable(f: FunctionType) -> bool:
    if f.__module__ == "__main__":
        return False
    found: Any = sys.modules.get(f.__module__)
    for name in f.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is f


def _by_value(f: FunctionType, within: frozenset[int]) -> Any:
    f = inspect.unwrap(f)
    if id(f) in within:  # it calls itself
        return f.__qualname__
    within |= {id(f)}
    used = {**_closed_over(f), **_globals(f)}
    defaults = f.__defaults__, f.__kwdefaults__
    return f.__qualname__, f.__code__, alike(defaults, within), alike(used, within)


def _closed_over(f: FunctionType) -> dict[str, Any]:
    held: dict[str, Any] = {}
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
        try:
            held[name] = cell.cell_contents
        except ValueError:  # not set yet
            continue
    return held


def _globals(f: FunctionType) -> dict[str, Any]:
    """The globals that a function names, and those inside it."""
    names: set[str] = set()
    left = [f.__code__]
    while left:
        code = left.pop()
        names |= {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}
        left += [c for c in code.co_consts if isinstance(c, CodeType)]
    return {name: f.__globals__[name] for name in names if name in f.__globals__}
