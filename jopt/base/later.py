"""Names that a package imports when they are first asked for (PEP 562)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def later(
    package: dict[str, Any], rooms: Mapping[str, Sequence[str] | None]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package: beside what it holds, names from its rooms.

    `package` is its namespace, where a name stays once found. `rooms` says which module hands on
    which names; one at most may say `None`, for all that it has.
    """
    rest = [room for room, names in rooms.items() if names is None]
    where = {name: room for room, names in rooms.items() for name in names or ()}

    def imported(room: str) -> Any:
        return importlib.import_module(f"{package['__name__']}.{room}")

    def listed() -> list[str]:
        everything = [n for room in rest for n in vars(imported(room)) if not n.startswith("_")]
        return sorted({*package, *rooms, *where, *everything})

    def found(name: str) -> Any:
        if name == "__all__":  # for `from package import *`
            return [n for n in listed() if not n.startswith("_")]
        if name in rooms:
            value = imported(name)
        else:
            # Tools ask for names with underscores, which no room has: nothing is imported for them.
            room = where.get(name, *rest) if not name.startswith("_") else ""
            value = getattr(imported(room), name, _MISSING) if room else _MISSING
        if value is _MISSING:
            # With name and object, Python adds what may have been meant.
            raise AttributeError(
                f"module {package['__name__']!r} has no attribute {name!r}",
                name=name,
                obj=importlib.import_module(package["__name__"]),
            )
        package[name] = value
        return value

    return found, listed


_MISSING = object()
