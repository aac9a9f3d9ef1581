"""Prints the tables of `docs/performance.md` from the figures that `compiled` wrote.

    python -m tests.benchmarks.page tests/benchmarks/results/compiled.json

One table a target. A line of figures for each way in which a library takes the update, and below
jopt's the budget where there is one. `test_results.py` holds the docs to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.budgets import BUDGETS, Row, named
from tests.benchmarks.reports import arguments, markdown, number, read, say
from tests.benchmarks.targets import TARGETS

FIGURES = {
    "kernels": "kernels",
    "bytes": "bytes moved",
    "state": "bytes of state",
    "temporary": "temporary bytes",
}
"""What the page shows, and how it is headed: bytes are for each parameter."""


def table(rows: Sequence[Row], target: str) -> str:
    """The figures of one target beside the budgets."""
    return markdown(("update", "", *FIGURES.values()), _lines(rows, target))


def _lines(rows: Sequence[Row], target: str) -> Iterator[tuple[str, ...]]:
    last = ""
    for row in rows:
        if row["target"] != target:
            continue
        case = row["case"]
        yield (
            "" if case == last else f"`{case}`",
            row["by"],
            *(number(round(row[column], 2)) for column in FIGURES),
        )
        last = case
        limits = {
            b.column: b
            for b in BUDGETS
            if (b.target, b.case, b.by, b.of) == (target, case, row["by"], None)
        }
        if limits:
            cells = [_limit(limits[c].limit) if c in limits else "" for c in FIGURES]
            yield ("", f"*{named('budget', row['by'])}*", *cells)


def _limit(limit: float) -> str:
    return f"≤ {limit:g}"


def main(given: Sequence[str] | None = None) -> None:
    """The command line; see the module."""
    parser = arguments("page", __doc__)
    parser.add_argument("json", type=Path)
    rows = read(parser.parse_args(given).json)
    for target in dict.fromkeys(row["target"] for row in rows):
        say(f"{TARGETS[target]}\n\n{table(rows, target)}\n")


if __name__ == "__main__":
    main()
