"""What is public in jopt, read from the code: the API pages and the coverage test share it.

A name is public if a package exports it by `from x import y as y`, or if a module that is no
package defines it. The rooms in `INNER` are for jopt's own use: what users need of them is
exported by `jopt` itself.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jopt

INNER = ("jopt.base", "jopt.numerics", "jopt.core", "jopt.cli")

# Packages whose modules are each a thing of its own; other packages export what is public.
OPEN = ("jopt", "jopt.interop")


@dataclass(frozen=True)
class Name:
    """A public name: where users find it, where it is defined, and what it is."""

    public: str
    home: str
    value: Any

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(self.value) or "").split("\n", 1)[0]


def surfaces(package: ModuleType = jopt) -> Iterator[ModuleType]:
    """The modules in which users look for names."""
    yield package
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        hidden = found.name.rpartition(".")[2].startswith("_")
        if found.name in INNER or hidden:
            continue
        if found.ispkg:
            yield from surfaces(importlib.import_module(found.name))
        elif package.__name__ in OPEN:
            yield importlib.import_module(found.name)


def names() -> list[Name]:
    """Every public name once, under its shortest address, in alphabetical order."""
    found: dict[tuple[str, str], Name] = {}
    for module in surfaces():
        for name in _exported(module):
            value = getattr(module, name)
            if inspect.ismodule(value):
                continue
            home = getattr(value, "__module__", None) or ""
            home = home if home.startswith("jopt.") else module.__name__
            public = f"{module.__name__}.{name}"
            known = found.get((home, name))
            if known is None or len(public) < len(known.public):
                found[home, name] = Name(public, home, value)
    return sorted(found.values(), key=lambda n: n.public.lower())


def under(*rooms: str) -> list[Name]:
    """The public names defined in these rooms."""
    return [n for n in names() if any(f"{n.home}.".startswith(f"{room}.") for room in rooms)]


def _exported(module: ModuleType) -> list[str]:
    tree = ast.parse(inspect.getsource(module))
    if hasattr(module, "__path__"):
        # What is imported when it is asked for stands in a block for checkers of types.
        blocks = [node.body for node in tree.body if isinstance(node, ast.If)]
        body = [node for block in (tree.body, *blocks) for node in block]
        imports = [node for node in body if isinstance(node, ast.ImportFrom)]
        named = [a.name for node in imports for a in node.names if a.asname == a.name]
        whole = [node.module or "" for node in imports if node.names[0].name == "*"]
        return named + [name for room in whole for name in _exported(importlib.import_module(room))]
    defined = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    return [node.name for node in defined if not node.name.startswith("_")]
