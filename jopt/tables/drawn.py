"""Tables as rich draws them. It is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jopt.tables.text import GAP, Row

if TYPE_CHECKING:
    from rich.table import Table

FOLDED = 20
"""The width that a folded column keeps."""


def drawn(columns: Sequence[str], rows: Sequence[Row], folded: int = FOLDED) -> tuple[Table, int]:
    """rich's table, and the width that it has at least: numbers are never cut.

    What is folded keeps so many columns.
    """
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="dim", padding=(0, GAP, 0, 0))
    least = 0
    for i, column in enumerate(columns):
        longest = max(len(text) for text in (column[1:], *(row[i] for row in rows)))
        kind, width = column[0], longest
        if kind == "<":
            width = min(longest, folded)
            made.add_column(column[1:], overflow="fold", min_width=width)
        else:
            justify: Any = "right" if kind == ">" else "left"
            made.add_column(column[1:], no_wrap=True, min_width=width, justify=justify)
        least += width + GAP
    for row in rows:
        made.add_row(*map(Text, row))
    return made, least
