"""`jopt diff`: where two files differ."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

from jopt.base import printable
from jopt.checkpoint.compare import compare
from jopt.checkpoint.config import differing
from jopt.cli.arguments import add_common, pattern, tolerance
from jopt.cli.gaps import Gap, Host
from jopt.cli.output import Printer, write_json
from jopt.cli.sources import Source, chosen, opened
from jopt.core.paths import Path, shown
from jopt.tables.text import leaves, number, plain

SUMMARY = "compare two checkpoints: configuration, structure and numbers"

EXAMPLES = """\
examples:
  jopt diff monday.jopt tuesday.jopt
  jopt diff run.jopt run.safetensors --match '^params/'
  jopt diff gpu.jopt tpu.jopt --rtol 1e-5 --atol 1e-8
  jopt diff a.jopt b.jopt --exact             # also tells 0 from -0, and one NaN from another

Numbers are the same if |a - b| <= max(rtol * max(|a|, |b|), atol); both are 0 unless given. NaN is
the same as NaN. With --match only these leaves are compared, and no configuration.

exit codes: 0 no difference, 1 there are some, 2 a file cannot be read
"""

PROBLEMS = {
    "missing": "only in A",
    "unexpected": "only in B",
    "scheduled": "scheduled in A",
    "not scheduled": "scheduled in B",
}
"""`compare` speaks of what fits into A; here neither is the better one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("a", metavar="A", help="a checkpoint, or a file that convert reads")
    parser.add_argument("b", metavar="B", help="another")
    parser.add_argument(
        "--match", type=pattern, metavar="PATTERN", help="compare leaves whose path it occurs in"
    )
    parser.add_argument("--rtol", type=tolerance, metavar="X", help="relative tolerance (0)")
    parser.add_argument("--atol", type=tolerance, metavar="X", help="absolute tolerance (0)")
    parser.add_argument("--exact", action="store_true", help="compare bit by bit")
    add_common(parser, json=True, source=True, whole=True)


def run(args: argparse.Namespace) -> int:
    """Print the differences; see the exit codes above."""
    if args.exact and not (args.rtol is None and args.atol is None):
        args.error("--exact allows no tolerance")
    who = "jopt diff"
    printer = None if args.json else Printer(who, args.color)
    gap = Gap(args.rtol or 0.0, args.atol or 0.0, exact=args.exact)
    with opened(who, args.a, args.source) as a, opened(who, args.b, args.source) as b:
        report = describe(a, b, gap, args.match)
    if printer is None:
        write_json(report)
    else:
        _show(printer, report, whole=args.all)
    return 0 if report["same"] else 1


def describe(a: Source, b: Source, gap: Gap, match: Any = None) -> dict[str, Any]:
    """The report that `--json` prints."""
    kinds_a, kinds_b = (
        {p: source.kinds[p] for p in paths}
        for source, paths in zip((a, b), chosen("jopt diff", match, a, b), strict=True)
    )
    both = {p for p in kinds_a.keys() & kinds_b.keys() if kinds_a[p].shape == kinds_b[p].shape}
    configuration = [] if match else _configuration(a, b)
    structure = [
        {
            "problem": PROBLEMS.get(d.problem, d.problem),
            "path": shown(d.path),
            "a": d.expected,
            "b": d.found,
        }
        for d in compare(kinds_a, kinds_b)
    ]
    arrays = {p for p in both if kinds_a[p].shape is not None}
    numbers = _values(a, b, both - arrays, gap) + _numbers(a, b, arrays, gap)
    return {
        "a": a.name,
        "b": b.name,
        "same": not (configuration or structure or numbers),
        "compared": len(both),
        "configuration": configuration,
        "structure": structure,
        "numbers": sorted(numbers, key=itemgetter("path")),
    }


def _configuration(a: Source, b: Source) -> list[dict[str, Any]]:
    if a.transform is None or b.transform is None:
        return []
    return [
        {"at": at, "a": mine, "b": yours}
        for at, mine, yours in differing(a.transform["config"], b.transform["config"])
    ]


def _values(a: Source, b: Source, paths: set[Path], gap: Gap) -> list[dict[str, Any]]:
    """The Python values that differ. A kind that differs has been told before."""
    return [
        {"path": shown(p), "entries": 1, "differ": 1, "a": a.values[p], "b": b.values[p]}
        for p in paths
        if a.kinds[p] == b.kinds[p] and not gap.allows(a.values[p], b.values[p])
    ]


def _numbers(a: Source, b: Source, paths: set[Path], gap: Gap) -> list[dict[str, Any]]:
    found = []
    grouped = (itertools.groupby(_pieces(source, paths), key=itemgetter(0)) for source in (a, b))
    for (path, of_a), (_, of_b) in zip(*grouped, strict=True):
        mine = gap.fresh()
        for x, y in _aligned((x for _, x in of_a), (y for _, y in of_b)):
            mine.add(x, y)
        if mine.differ:
            one = mine.entries == 1  # then x and y are the whole leaf
            values = {"a": plain(x), "b": plain(y)} if one else {"a": None, "b": None}
            found.append({"path": shown(path), **mine.plain(), **values})
    return found


def _pieces(source: Source, paths: set[Path]) -> Iterator[tuple[Path, Host]]:
    # Without the empty pieces, that some formats give for empty arrays and some do not.
    wanted = source.scan(paths.__contains__)
    return ((path, piece) for path, piece in wanted if path in paths and piece.size)


def _aligned(xs: Iterator[Host], ys: Iterator[Host]) -> Iterator[tuple[Host, Host]]:
    """Two rows of pieces, cut where either is."""
    x, y = next(xs), next(ys)
    while True:
        n = min(x.size, y.size)
        yield x[:n], y[:n]
        x, y = x[n:], y[n:]
        x = x if x.size else next(xs, x)
        y = y if y.size else next(ys, y)
        if not (x.size and y.size):
            return


def _show(printer: Printer, report: dict[str, Any], *, whole: bool) -> None:
    tables = {
        "configuration": ("<at", "<A", "<B"),
        "structure": ("=problem", "<path", "<A", "<B"),
    }
    for part, columns in tables.items():
        if report[part]:
            printer.heading(part)
            rows = [[printable(str(v)) for v in x.values()] for x in report[part]]
            printer.beginning(columns, rows, whole=whole)
    if report["numbers"]:
        printer.heading("numbers")
        columns = ("<path", ">differ", ">of", ">largest abs", ">largest rel", ">A", ">B")
        printer.beginning(columns, [_row(found) for found in report["numbers"]], whole=whole)
        found = len(report["numbers"])
        verb = "differs" if found == 1 else "differ"
        printer.heading(f"{found} of {leaves(report['compared'])} {verb}")
    elif report["same"]:
        printer.line(f"no difference in {leaves(report['compared'])}")


def _row(found: dict[str, Any]) -> list[str]:
    a, b = ("" if found[side] is None else printable(repr(found[side])) for side in ("a", "b"))
    return [
        printable(found["path"]),
        number(found["differ"]),
        number(found["entries"]),
        number(found.get("max_abs")),
        number(found.get("max_rel")),
        a,
        b,
    ]
