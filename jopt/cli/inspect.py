"""`jopt inspect`: what is in a file."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from jopt.checkpoint.leaves import Kind
from jopt.cli import state
from jopt.cli.arguments import add_common, pattern
from jopt.cli.output import Printer, leaves, number, printable, size, write_json
from jopt.cli.sources import Source, chosen, opened
from jopt.cli.stats import Stats
from jopt.core.tree import Path, shown

SUMMARY = "show the leaves of a checkpoint, its transform, numbers and sizes"

EXAMPLES = """\
examples:
  jopt inspect run.jopt
  jopt inspect run.jopt --match '^params/' --sort abs_max
  jopt inspect run.jopt --no-stats           # reads no array, however large the file
  jopt inspect run.jopt --json | jq '.leaves[] | select(.nans > 0) | .path'
"""

MANY = 64
"""Entries of a hyperparameter that are still shown: a state under `vmap` has several."""

STATS = ("mean", "abs_max", "nans", "infs")
SORTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "path": lambda leaf: 0,  # as they stand
    "bytes": lambda leaf: -leaf["bytes"],
    "abs_max": lambda leaf: -(leaf.get("abs_max") or 0.0),
    "nans": lambda leaf: (-(leaf.get("nans") or 0), -(leaf.get("infs") or 0)),
}


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
    add_common(parser, json=True, source=True)


def run(args: argparse.Namespace) -> int:
    """Print the report; 0 if all of the file could be read."""
    printer = None if args.json else Printer("jopt inspect", args.color)
    if args.sort in STATS and not args.stats:
        args.error(f"--sort {args.sort} needs what --no-stats leaves out")
    with opened("jopt inspect", args.file, args.source) as source:
        report = describe(source, args.match, stats=args.stats)
    report["leaves"].sort(key=SORTS[args.sort])
    if printer is None:
        write_json(report)
    else:
        _show(printer, report, stats=args.stats)
    return 0


def describe(source: Source, match: Any = None, *, stats: bool = True) -> dict[str, Any]:
    """The report that `--json` prints."""
    (picked,) = chosen("jopt inspect", match, source)
    found = state.numbers(source.kinds)
    ticks = state.counts(source.kinds)
    small = {n.path for n in found} | set(ticks)
    values: dict[Path, Any] = {}
    known = {p: Stats() for p in picked if source.kinds[p].shape is not None} if stats else {}
    for path, piece in source.scan(None if stats else small.__contains__):
        if path in small and piece.size <= MANY:
            values[path] = state.plain(piece, source.kinds[path].shape)
        if path in known:
            known[path].add(piece)
    return {
        "file": source.name,
        "format": source.format,
        "version": source.version,
        "size": source.size,
        "transform": source.transform,
        "leaves": [_leaf(source, p, known.get(p)) for p in source.kinds if p in picked],
        "hyperparams": [
            {
                "node": shown(n.node),
                "group": n.group,
                "name": n.name,
                "value": values.get(n.path),
                "scheduled": n.scheduled,
            }
            for n in found
        ],
        "counts": [
            {
                "node": shown(p[:-1]),
                "count": values.get(p),
                "leaf_counts": _under(source.kinds, (*p[:-1], "leaf_count")),
            }
            for p in ticks
        ],
        "totals": _totals(source.kinds),
    }


def _leaf(source: Source, path: Path, stats: Stats | None) -> dict[str, Any]:
    kind = source.kinds[path]
    shape = None if kind.shape is None else list(kind.shape)
    leaf = {
        "path": shown(path),
        "shape": shape,
        "dtype": kind.dtype,
        "bytes": state.size_of(kind),
    }
    if shape is None:
        leaf["value"] = source.values[path]
    elif stats is not None:
        leaf |= stats.plain()
    return leaf


def _under(kinds: Mapping[Path, Kind], prefix: Path) -> int:
    return sum(path[: len(prefix)] == prefix for path in kinds)


def _totals(kinds: Mapping[Path, Kind]) -> dict[str, Any]:
    params, slots, rest = state.shares(kinds)
    whole = state.Share()
    for kind in kinds.values():
        whole.add(kind)
    held = sum(share.bytes for share in slots.values())
    return {
        "leaves": len(kinds),
        "params": params.plain(),
        "slots": [
            {"node": shown(node), "slot": slot, **share.plain()}
            for (node, slot), share in slots.items()
        ],
        "other": rest.plain(),
        "total": whole.plain(),
        "state_bytes": held,
        "state_bytes_per_param": held / params.entries if params.entries else None,
    }


def _show(printer: Printer, report: dict[str, Any], *, stats: bool) -> None:
    version = f" {report['version']}" if report["version"] else ""
    totals = report["totals"]
    printer.line(
        f"{printable(report['file'])}: {report['format']}{version}, {size(report['size'])}, "
        f"{leaves(totals['leaves'])}"
    )
    if report["transform"] is not None:
        printer.heading("transform")
        printer.line(printable(report["transform"]["repr"]))
    printer.heading("leaves")
    columns = ["<path", "=dtype", "<shape or value", ">bytes"]
    columns += [">mean", ">abs max", ">NaN", ">inf"] if stats else []
    printer.table(columns, [_row(leaf, stats) for leaf in report["leaves"]])
    if report["hyperparams"]:
        printer.heading("hyperparameters")
        _show_numbers(printer, report["hyperparams"])
    if report["counts"]:
        printer.heading("steps")
        rows = [
            (printable(c["node"]), number(c["count"]), number(c["leaf_counts"] or None))
            for c in report["counts"]
        ]
        printer.table(("<node", ">count", ">younger leaves"), rows)
    printer.heading("sizes")
    _show_totals(printer, totals)


def _row(leaf: dict[str, Any], stats: bool) -> list[str]:
    held = repr(leaf["value"]) if leaf["shape"] is None else str(tuple(leaf["shape"]))
    row = [printable(leaf["path"]), leaf["dtype"], printable(held), f"{leaf['bytes']:,}"]
    if leaf["dtype"] == "dict":
        row[1:3] = "", "an empty dict"
    return row + [number(leaf.get(name)) for name in STATS] if stats else row


def _show_numbers(printer: Printer, found: list[dict[str, Any]]) -> None:
    """One table a node: a row for each number, a column for each group."""
    for node in dict.fromkeys(n["node"] for n in found):
        mine = [n for n in found if n["node"] == node]
        groups = list(dict.fromkeys(n["group"] for n in mine))
        cells = {(n["name"], n["group"]): n for n in mine}
        columns = [f"<{printable(node)}", *(f">{printable(group)}" for group in groups)]
        rows = [
            (printable(name), *(_cell(cells.get((name, group))) for group in groups))
            for name in dict.fromkeys(n["name"] for n in mine)
        ]
        printer.table(columns, rows)


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:  # the group follows default
        return ""
    value = found["value"]
    text = "many" if value is None else str(value)
    return f"{text} scheduled" if found["scheduled"] else text


def _show_totals(printer: Printer, totals: dict[str, Any]) -> None:
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
    printer.table(("<part", ">entries", ">size", ">bytes per parameter"), rows)
