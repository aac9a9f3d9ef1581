"""Races optimizers by the rules of docs/race.md; what has been run is not run again.

    python -m tests.benchmarks.race                            # all that is missing
    python -m tests.benchmarks.race run --tasks digits --entrants adamw,muon
    python -m tests.benchmarks.race report                     # the tables of what there is
    python -m tests.benchmarks.race pictures                   # a picture of each task
    python -m tests.benchmarks.race page                       # the tables of docs/race.md

Results are added line by line to `tests/benchmarks/results/race`, or to the folder that
`--results` names. A processor core of its own is all it takes:

    XLA_FLAGS="--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1" \\
        nice -n 19 python -m tests.benchmarks.race run
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.race import pictures, report
from tests.benchmarks.race.entrants import ENTRANTS
from tests.benchmarks.race.run import race
from tests.benchmarks.race.store import FOLDER, Store
from tests.benchmarks.race.tasks import TASKS
from tests.benchmarks.reports import arguments, names, say

DRAWN = report.PAGE.parent / "_static" / "race"


def main(given: Sequence[str] | None = None) -> None:
    """The command line; see the module."""
    parser = arguments("race", __doc__)
    what = ("run", "report", "pictures", "page")
    parser.add_argument("what", nargs="?", choices=what, default="run")
    parser.add_argument("--tasks", type=names(TASKS), default=list(TASKS), help="with commas")
    parser.add_argument(
        "--entrants", type=names(ENTRANTS), default=list(ENTRANTS), help="with commas"
    )
    parser.add_argument("--results", type=Path, default=FOLDER, help="a folder")
    parser.add_argument("--out", type=Path, default=DRAWN, help="a folder for pictures")
    chosen = parser.parse_args(given)
    if chosen.what == "page":
        shown = report.sections(Store(make(), chosen.results) for make in TASKS.values())
        report.PAGE.write_text(report.filled(report.PAGE.read_text(), shown))
        return
    for name in chosen.tasks:
        store = Store(TASKS[name](), chosen.results)
        if chosen.what == "run":
            race(store, chosen.entrants)
        elif chosen.what == "report":
            say(f"{name}: {report.tables(store)}\n")
        elif path := pictures.draw(store, chosen.out):
            say(str(path))


if __name__ == "__main__":
    main()
