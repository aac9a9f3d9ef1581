"""Text from files that anybody may have written, as errors and tables show it."""

from __future__ import annotations

LINE = 500
"""So much of such a text stands in an error."""


def printable(text: str, most: int | None = None) -> str:
    """The text with control characters written out, cut after `most` characters.

    A name in a file cannot steer the terminal then, or fill it.
    """
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:most])
    return shown if most is None or len(text) <= most else f"{shown}..."
