"""Cells of tables, and tables as plain text.

A column is its heading behind a mark: `<` for text that may be folded, `=` for text that may not,
`>` for numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

GAP = 2
"""Blanks between columns."""

SCREEN = 60
"""So many rows of a table are shown where there may be any number."""

Row = Sequence[str]
"""The cells of one line of a table."""


def aligned(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """The lines of a table, no cell folded; the rows are gone through twice."""
    widths = [len(column) - 1 for column in columns]
    for row in rows:
        widths = [max(width, len(text)) for width, text in zip(widths, row, strict=True)]
    for row in itertools.chain([[column[1:] for column in columns]], rows):
        cells = [
            text.rjust(width) if column[0] == ">" else text.ljust(width)
            for column, text, width in zip(columns, row, widths, strict=True)
        ]
        yield (" " * GAP).join(cells).rstrip()


def number(value: Any) -> str:
    """A number as tables show it; what is a summary has four digits."""
    if value is None:
        return ""
    if isinstance(value, complex):
        return f"{value:.4g}"
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}"


def size(count: int) -> str:
    """Bytes for people: three digits, and a unit that is a power of 1000."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.3g} {units[0]}"


def leaves(count: int) -> str:
    """How many leaves."""
    return "1 leaf" if count == 1 else f"{count:,} leaves"


def plain(piece: np.ndarray[Any, Any], shape: tuple[int, ...] | None = ()) -> Any:
    """The entries as Python numbers: the shortest ones that are these in their dtype.

    >>> plain(np.float32([0.1]))
    0.1
    """
    if shape == ():
        return _number(piece.reshape(-1)[0])
    return [_number(entry) for entry in piece.reshape(-1)]


def _number(entry: Any) -> Any:
    name = entry.dtype.name
    if entry.dtype.kind in "biu":
        return entry.item()
    return (
        int(entry) if "int" in name else complex(entry) if "complex" in name else float(str(entry))
    )
