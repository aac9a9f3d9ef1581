"""`jopt inspect`: what is in a file."""

from __future__ import annotations

import argparse
import itertools
from operator import itemgetter
from typing import Any

from jopt.base import printable
from jopt.cli.arguments import add_common, pattern
from jopt.cli.output import Printer, Rows, write_json
from jopt.cli.report import SORTS, STATS, Leaves, describe
from jopt.cli.sources import opened
from jopt.tables.text import SCREEN, leaves, number, size

SUMMARY = "show the leaves of a checkpoint, its transform, numbers and sizes"

EXAMPLES = """\
examples:
  jopt inspect run.jopt
  jopt inspect run.jopt --match '^params/' --sort abs_max
  jopt inspect run.jopt --no-stats           # reads no array, however large the file
  jopt inspect run.jopt --json | jq '.leaves[] | select(.nans > 0) | .path'

exit codes: 0 all of it could be read, 2 it could not
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("file", metavar="FILE", help="a checkpoint, or a file that convert reads")
    parser.add_argument(
        "--match", type=pattern, metavar="PATTERN", help="show only leaves whose path it occurs in"
    )
    parser.add_argument(
        "--sort", choices=SORTS, default="path", help="order of the leaves, largest first"
    )
    parser.add_argument(
        "--no-stats", dest="stats", action="store_false", help="do not read the arrays"
    )
    add_common(parser, json=True, source=True, whole=True)


def run(args: argparse.Namespace) -> int:
    """Print the report; 0 if all of the file could be read."""
    printer = None if args.json else Printer("jopt inspect", args.color)
    if args.sort in STATS and not args.stats:
        args.error(f"--sort {args.sort} needs what --no-stats leaves out")
    with opened("jopt inspect", args.file, args.source) as source:
        whole = args.json or args.all
        report = describe(source, args.match, stats=args.stats, whole=whole, sort=args.sort)
    if printer is None:
        write_json(report)
    else:
        _show(printer, report, stats=args.stats, whole=args.all)
    return 0


def _show(printer: Printer, report: dict[str, Any], *, stats: bool, whole: bool) -> None:
    version = f" {report['version']}" if report["version"] else ""
    totals = report["totals"]
    printer.line(
        f"{printable(report['file'])}: {report['format']}{version}, {size(report['size'])}, "
        f"{leaves(totals['leaves'])}"
    )
    if report["transform"] is not None:
        printer.heading("transform")
        printer.line(printable(report["transform"]["repr"]))
    numbers = [">mean", ">abs max", ">NaN", ">inf"] if stats else []
    if isinstance(report["leaves"], Leaves):
        printer.heading("leaves")
        columns = ["<path", "=dtype", "<shape or value", ">bytes", *numbers]
        printer.table(columns, Rows(lambda leaf: _row(leaf, stats), report["leaves"]))
    else:
        printer.heading("subtrees: --all shows every leaf, --match some")
        columns = ["<path", ">leaves", "=dtype", ">entries", ">bytes", *numbers]
        printer.table(columns, [_row_of_many(part, stats) for part in report["leaves"]])
    if report["hyperparams"]:
        printer.heading("hyperparameters")
        _show_numbers(printer, report["hyperparams"], whole=whole)
    if report["counts"]:
        printer.heading("steps")
        rows = [
            (printable(c["node"]), number(c["count"]), number(c["leaf_counts"] or None))
            for c in report["counts"]
        ]
        printer.beginning(("<node", ">count", ">younger leaves"), rows, whole=whole)
    printer.heading("sizes")
    _show_totals(printer, totals, whole=whole)


def _row_of_many(part: dict[str, Any], stats: bool) -> list[str]:
    name = printable(part["path"]) + ("/..." if part["leaves"] > 1 and part["path"] else "")
    row = [
        name or "...",
        f"{part['leaves']:,}",
        part["dtype"],
        f"{part['entries']:,}",
        f"{part['bytes']:,}",
    ]
    return row + [number(part.get(name)) for name in STATS] if stats else row


def _row(leaf: dict[str, Any], stats: bool) -> list[str]:
    held = repr(leaf["value"]) if leaf["shape"] is None else str(tuple(leaf["shape"]))
    row = [printable(leaf["path"]), leaf["dtype"], printable(held), f"{leaf['bytes']:,}"]
    if leaf["dtype"] == "dict":
        row[1:3] = "", "an empty dict"
    return row + [number(leaf.get(name)) for name in STATS] if stats else row


def _show_numbers(printer: Printer, found: list[dict[str, Any]], *, whole: bool) -> None:
    """One table a node: a row for each number, a column for each group."""
    nodes = [(node, list(mine)) for node, mine in itertools.groupby(found, itemgetter("node"))]
    for node, mine in nodes if whole else nodes[:SCREEN]:
        groups = list(dict.fromkeys(n["group"] for n in mine))
        cells = {(n["name"], n["group"]): n for n in mine}
        columns = [f"<{printable(node)}", *(f">{printable(group)}" for group in groups)]
        rows = [
            (printable(name), *(_cell(cells.get((name, group))) for group in groups))
            for name in dict.fromkeys(n["name"] for n in mine)
        ]
        printer.beginning(columns, rows, whole=whole)
    if not whole and len(nodes) > SCREEN:
        printer.line(f"... and {len(nodes) - SCREEN:,} more nodes: --all shows them")


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:  # the group follows default
        return ""
    value = found["value"]
    text = "many" if value is None else str(value)
    text = f"times {text}" if found["factor"] else text
    return f"{text} scheduled" if found["scheduled"] else text


def _show_totals(printer: Printer, totals: dict[str, Any], *, whole: bool) -> None:
    parts = [("parameters", totals["params"])]
    parts += [(f"{s['node']}/{s['slot']}".lstrip("/"), s) for s in totals["slots"]]
    parts += [("other", totals["other"])] if totals["other"]["bytes"] else []
    parts += [("all", totals["total"])]
    base = totals["params"]["entries"]
    rows = [
        (
            printable(name),
            f"{part['entries']:,}",
            size(part["bytes"]),
            number(part["bytes"] / base) if base else "",
        )
        for name, part in parts
    ]
    printer.beginning(("<part", ">entries", ">size", ">bytes per parameter"), rows, whole=whole)
