"""Draws what `compiled` has counted.

    python -m tests.benchmarks.pictures out/compiled.json docs/_static

One picture a target, `compiled-h100.png` and so on: kernels, memory traffic, and the memory that
state and temporaries take, of each update by jopt and by optax. Budgets are marks on the bars.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from tests.benchmarks.budgets import BUDGETS, Row, library, named
from tests.benchmarks.reports import arguments, read

PANELS = {"kernels": "kernels", "bytes": "bytes moved a number", "memory": "bytes held a number"}
COLORS = {"jopt": "#3b82c4", "optax": "#d08a3e"}
STYLE = Path(__file__).parents[2] / "examples" / "pictures.mplstyle"


@mpl.rc_context(fname=STYLE)
def draw(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write a picture for each target that there are rows of, and say where."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for target in dict.fromkeys(r["target"] for r in rows):
        figure = picture([r for r in rows if r["target"] == target], target)
        written.append(folder / f"compiled-{target}.png")
        figure.savefig(written[-1], dpi=150)
    return written


def picture(rows: Sequence[Row], target: str) -> Any:
    """The figure of one target."""
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(named(r["case"], r["by"]) for r in rows))
    cells = {(named(r["case"], r["by"]), library(r["by"])): r for r in rows}
    places = np.arange(len(cases))
    figure = Figure(figsize=(11, 0.7 + 0.5 * len(cases)), layout="constrained")
    for axes, (column, title) in zip(
        figure.subplots(1, 3, sharey=True), PANELS.items(), strict=True
    ):
        for i, (by, color) in enumerate(COLORS.items()):
            at = places + 0.38 * (i - 0.5)
            if column == "memory":
                state, temporary = (
                    [cells.get((case, by), {}).get(part, np.nan) for case in cases]
                    for part in ("state", "temporary")
                )
                axes.barh(at, state, 0.36, color=color, label=f"{by}: state")
                axes.barh(
                    at, temporary, 0.36, state, color=color, alpha=0.45, label=f"{by}: temporary"
                )
            else:
                values = [cells.get((case, by), {}).get(column, np.nan) for case in cases]
                axes.barh(at, values, 0.36, color=color, label=by)
        marks = [
            (b.limit, cases.index(named(b.case, b.by)))
            for b in BUDGETS
            if (b.target, b.column, b.of) == (target, column, None) and named(b.case, b.by) in cases
        ]
        if marks:
            limits, rows_of = zip(*marks, strict=True)
            axes.plot(limits, np.array(rows_of) - 0.19, "|", color="#d6336c", ms=12, label="budget")
        axes.set_title(title, fontsize=10)
        axes.set_xscale("symlog", linthresh=10)
        axes.set_xlim(left=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_yticks(places, cases)
        axes.legend(fontsize=7)
    axes.invert_yaxis()
    return figure


def main(given: Sequence[str] | None = None) -> None:
    """The command line; see the module."""
    parser = arguments("pictures", __doc__)
    parser.add_argument("json", type=Path)
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args(given)
    for path in draw(read(chosen.json), chosen.folder):
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
