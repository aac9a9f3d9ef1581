"""Compiles the updates of `cases` and counts what the programs cost, for jopt and optax.

    python -m tests.benchmarks.compiled --targets cpu,h100,tpu --json out/compiled.json

A file that is there keeps the rows that are not measured again. `--counts` leaves out the seconds;
`results/compiled.json`, which the docs quote, has none.

Nothing is run, and the H100 and the TPU need not be there: see `targets`. A target whose
compiler is not installed is named and left out. The columns: kernels, and bytes of memory
traffic a number (`traffic` says what is counted), on average where a loop runs at some calls
only; bytes a number of state and of temporaries; loops; seconds of tracing with lowering, and of
compiling. All but the seconds come out the same every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from tests.benchmarks import budgets, targets
from tests.benchmarks.cases import CASES, Case, Step
from tests.benchmarks.hlo import parse
from tests.benchmarks.pictures import draw
from tests.benchmarks.reports import arguments, markdown, names, note, number, read, say, write
from tests.benchmarks.traffic import count
from tests.benchmarks.trees import TREES, Tree, nbytes, size

COLUMNS = {
    "kernels": "kernels",
    "bytes": "bytes/number",
    "state": "state",
    "temporary": "temporary",
    "loops": "loops",
    "trace": "trace+lower s",
    "compile": "compile s",
}
"""What is measured, and how it is headed."""

SECONDS = ("trace", "compile")
"""Those that depend on the machine and on what else it does."""

LIBRARIES = ("jopt", "optax")


def compiled(step: Step, tree: Tree, target: str) -> targets.Built:
    """A step of a tree, compiled for a target."""
    return targets.build(step.run, (tree, jax.eval_shape(step.init, tree), tree), target)


def row(step: Step, tree: Tree, built: Sequence[targets.Built]) -> dict[str, float]:
    """The figures of one program, which was built once or more often."""
    program, n = built[0].program, size(tree)
    parsed = parse(program.as_text())
    most, least = (count(parsed, step.turns, step.rest, branch) for branch in (max, min))
    counts = most * step.often + least * (1 - step.often)
    traced, seconds = targets.median(built)
    return {
        "kernels": counts.kernels,
        "bytes": counts.bytes / n,
        "loops": most.loops,
        "state": nbytes(jax.eval_shape(step.init, tree)) / n,
        "temporary": program.memory_analysis().temp_size_in_bytes / n,
        "trace": traced,
        "compile": seconds,
    }


def measure(
    case: Case,
    target: str,
    repeats: int = 1,
    tree: str | None = None,
    by: Sequence[str] = LIBRARIES,
) -> dict[str, dict[str, float]]:
    """The rows of a case, by library. The libraries take turns."""
    shapes = case.shapes(tree)
    steps = {who: make() for who, make in case.steps.items() if budgets.library(who) in by}
    for step in steps.values():  # what is imported and set up at the first use is in no figure
        compiled(step, case.shapes("tiny"), target)
    built: dict[str, list[targets.Built]] = {who: [] for who in steps}
    for _ in range(repeats):
        for who, step in steps.items():
            built[who].append(compiled(step, shapes, target))
    return {who: row(step, shapes, built[who]) for who, step in steps.items()}


def table(rows: Sequence[budgets.Row], target: str) -> str:
    """The rows of one target, as Markdown."""
    shown = {c: head for c, head in COLUMNS.items() if all(c in r for r in rows)}
    lines = [
        (r["case"], r["by"], *(number(round(r[column], 2)) for column in shown))
        for r in rows
        if r["target"] == target
    ]
    return markdown((targets.TARGETS[target], "by", *shown.values()), lines)


def merged(before: Sequence[budgets.Row], now: Sequence[budgets.Row]) -> list[budgets.Row]:
    """The rows of both in the order of targets and cases; those measured now replace others."""
    found = {(r["target"], r["case"], r["tree"], r["by"]): r for r in (*before, *now)}
    by = [step for case in CASES.values() for step in case.steps]
    known = (list(targets.TARGETS), list(CASES), list(TREES), list(dict.fromkeys(by)))
    return [
        found[cell]
        for cell in sorted(
            found, key=lambda cell: [k.index(x) for k, x in zip(known, cell, strict=True)]
        )
    ]


def main(given: Sequence[str] | None = None) -> None:
    """The command line; see the module."""
    parser = arguments("compiled", __doc__)
    parser.add_argument("--targets", type=names(targets.TARGETS), default=list(targets.TARGETS))
    parser.add_argument("--cases", type=names(CASES), default=list(CASES))
    parser.add_argument("--by", type=names(LIBRARIES), default=list(LIBRARIES))
    parser.add_argument("--repeats", type=int, default=1, help="for the medians of the seconds")
    parser.add_argument("--tree", choices=TREES, help="instead of each case's own")
    parser.add_argument("--counts", action="store_true", help="leave out the seconds")
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    parser.add_argument("--pictures", type=Path, help="draw them into this folder")
    chosen = parser.parse_args(given)
    here, missing = targets.available(chosen.targets)
    for name, why in missing.items():
        note(f"{targets.TARGETS[name]} is left out: {why}")
    targets.set_up(here)
    rows: list[dict[str, Any]] = []
    for target in here:
        for name in chosen.cases:
            case = CASES[name]
            note(f"compiling {name} for {targets.TARGETS[target]}")
            found = measure(case, target, chosen.repeats, chosen.tree, chosen.by)
            where = {"target": target, "case": name, "tree": chosen.tree or case.tree}
            for by, figures in found.items():
                kept = {c: x for c, x in figures.items() if not (chosen.counts and c in SECONDS)}
                rows.append(where | {"by": by} | kept)
        say(f"{table(rows, target)}\n")
    if chosen.tree is None:
        say(budgets.table(budgets.BUDGETS, rows))
    if chosen.json:
        write(chosen.json, merged(read(chosen.json), rows) if chosen.json.exists() else rows)
    if chosen.pictures:
        draw(rows, chosen.pictures)


if __name__ == "__main__":
    main()
