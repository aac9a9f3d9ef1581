"""Pieces of reStructuredText that the directives and the generated pages are made of."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from docstrings import to_rst
from public import Name


def table(header: Sequence[str], rows: Sequence[Sequence[str]], widths: str) -> list[str]:
    """A table; one with an empty header has none."""
    titled = any(header)
    lines = [".. list-table::", f"   :header-rows: {int(titled)}", f"   :widths: {widths}", ""]
    for row in [header, *rows] if titled else rows:
        first, *rest = row
        lines += [f"   * - {first}", *(f"     - {cell}" for cell in rest)]
    return [*lines, ""]


def link(name: Name) -> str:
    """A link to where a public name is shown in full."""
    role = "class" if inspect.isclass(name.value) else "func" if callable(name.value) else "data"
    return f":py:{role}:`{name.public}`"


def entry(name: Name) -> list[str]:
    """A public name in full."""
    if inspect.isclass(name.value):
        return [f".. autoclass:: {name.public}", "   :members:", ""]
    kind = "function" if inspect.isroutine(name.value) else "data"
    return [f".. auto{kind}:: {name.public}", ""]


def summary(name: Name) -> str:
    """The first line of its docstring."""
    return " ".join(to_rst([name.summary])).strip()
