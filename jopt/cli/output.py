"""What the commands print: lines and tables for people, JSON for programs."""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from jopt.base import JoptError, printable
from jopt.tables.drawn import drawn
from jopt.tables.text import SCREEN, aligned

COLORS = ("auto", "always", "never")

DRAWN = 1000
"""rich is too slow for more rows."""


class Rows(Iterable[Sequence[str]]):
    """Rows that are made when they are needed, as often as they are."""

    def __init__(self, make: Callable[[Any], Sequence[str]], things: Iterable[Any]) -> None:
        self._make, self._things = make, things

    def __iter__(self) -> Iterator[Sequence[str]]:
        return map(self._make, self._things)


def write(text: str, file: TextIO | None = None) -> None:
    """Print a line, whatever the encoding of the terminal."""
    file = file or sys.stdout
    encoding = getattr(file, "encoding", None) or "utf-8"
    file.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def write_json(report: Mapping[str, Any]) -> None:
    """Print a report as JSON: what JSON has no number for is a string, `"NaN"`.

    Lists have a line for each entry, and are written as they are made: they may be long.
    """
    begin = "{"
    for key, value in report.items():
        head = f"{begin}\n  {json.dumps(str(key))}: "
        if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
            _write_list(head, value)
        else:
            _put(head + _dumped(value))
        begin = ","
    write("{}" if begin == "{" else "\n}")


def _write_list(head: str, values: Iterable[Any]) -> None:
    begin = "["
    for value in values:
        _put(f"{head}{begin}\n    {_dumped(value)}")
        head, begin = "", ","
    _put(f"{head}[]" if begin == "[" else "\n  ]")


def _put(text: str) -> None:
    sys.stdout.write(text)  # JSON is ASCII


def _dumped(value: Any) -> str:
    return json.dumps(_valid(value), allow_nan=False)


def _valid(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _valid(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_valid(v) for v in value]
    if isinstance(value, complex):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def complain(error: BaseException) -> None:
    """Print an error on the standard error, line by line."""
    for line in str(error).split("\n"):
        write(printable(line), sys.stderr)


class Printer:
    """Headings and tables on the standard output, as wide as the terminal.

    Paths are folded where the terminal is narrow, numbers never: then the lines get longer
    than the terminal. What goes into a pipe or a file is not folded at all.
    """

    def __init__(self, who: str, color: str) -> None:
        try:
            import rich.console  # noqa: F401
        except ImportError as error:
            raise JoptError(
                who,
                "tables are drawn by rich, which is not installed",
                fix="pip install 'jopt[cli]', or take --json.",
            ) from error
        terminal = sys.stdout.isatty()
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self._color = color == "always" or (color == "auto" and terminal and not plain)
        self._width = None if terminal or "COLUMNS" in os.environ else 10_000
        self._begun = False

    def heading(self, text: str) -> None:
        """A line in bold, after an empty one if anything stands before it."""
        from rich.text import Text

        if self._begun:
            write("")
        self._print(Text(text, style="bold"), len(text))

    def line(self, text: str) -> None:
        """A line as it is, however long."""
        write(text)
        self._begun = True

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table. Columns in `<` are text that may be folded, in `=` text, in `>` numbers.

        Of very many rows, which are gone through twice, nothing is folded.
        """
        first = list(itertools.islice(rows, DRAWN + 1))
        if len(first) > DRAWN:
            for line in aligned(columns, rows):
                self.line(line)
            return
        self._print(*drawn(columns, first))

    def beginning(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, whole: bool
    ) -> None:
        """A table, or its first rows and how many there are beside."""
        shown = rows if whole else rows[:SCREEN]
        self.table(columns, shown)
        if len(rows) > len(shown):
            write(f"... and {len(rows) - len(shown):,} more: --all shows them")

    def _print(self, thing: Any, least: int = 0) -> None:
        from rich.console import Console

        # Drawn into a string, and written by us: rich would answer a closed pipe by itself.
        buffer = io.StringIO()
        console = Console(
            file=buffer,
            width=self._width,
            force_terminal=self._color,
            color_system="standard" if self._color else None,
            legacy_windows=False,
            highlight=False,
        )
        console.width = max(console.width, least)
        console.print(thing)
        self._begun = True
        for line in buffer.getvalue().splitlines():
            write(line.rstrip())
